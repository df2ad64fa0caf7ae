# Entry points. `make demo` and `make test` set up everything they need; see README.md.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c

E2E := cargo run --quiet -p e2e --
# An error of a suite is a chain of causes; a backtrace would bury it.
export RUST_BACKTRACE := 0
DENY_VERSION := 0.20.2
TOOLS := $(or $(MANIPLE_CACHE),$(HOME)/.cache/maniple)/tools
# Who writes replica counts in the demo: native or keda. Only keda builds and starts KEDA.
DRIVER := native
# Suites against the cluster, in this order. Each is one test binary; the last ones stop parts of the cluster.
SUITES := crd chart cluster_lifecycle operator scaling timers http front_ends rest failures

.PHONY: help
help: ## This list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

.PHONY: demo
demo: ## The main job, live: apps go from zero to N instances and back on a real local cluster (DRIVER=keda: with KEDA)
	$(E2E) cluster up $(if $(filter keda,$(DRIVER)),--keda,--no-keda)
	$(E2E) platform install
	$(E2E) demo --driver $(DRIVER)

.PHONY: test
test: lint unit conformance deny cluster-up platform suites ## Everything: lints, pure tests, and every suite on a real local cluster

.PHONY: check
check: lint ## The fast loop: format, lints, pure tests; under a minute when little changed
	cargo test --workspace --quiet --lib --bins

.PHONY: lint
lint:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --all-features --quiet -- -D warnings

.PHONY: unit
unit: ## Every test that needs no cluster: also real storage emulators, and the model of the slot protocol
	cargo test --workspace --quiet

.PHONY: conformance
conformance: ## External suites against the front end: HTTP/2, gRPC, WebSocket, hostile requests. Needs Go and Python, no cluster
	cargo test --quiet -p e2e --features conformance --test front_conformance -- --nocapture --test-threads 1

.PHONY: vectors
vectors: ## Table tests over recorded answers of Azure's code (MANIPLE_VECTORS names another folder)
	cargo test --workspace --quiet vectors

.PHONY: model
model: ## The larger explorations of the slot protocol: minutes, one after the other, 2 GiB
	ulimit -v 8388608; cargo test --release -p maniple-slot-model --features model-large -- --test-threads=1

.PHONY: deny
deny: ## Licences, sources and banned crates
	@if [ "$$($(TOOLS)/bin/cargo-deny --version 2>/dev/null)" != "cargo-deny $(DENY_VERSION)" ]; then \
		echo "building cargo-deny $(DENY_VERSION) (once, a few minutes)"; \
		cargo install --quiet --locked --version $(DENY_VERSION) --root $(TOOLS) cargo-deny; \
	fi
	$(TOOLS)/bin/cargo-deny --log-level error check bans licenses sources

.PHONY: generate
generate: ## Rewrites every generated file
	cargo run --quiet -p maniple-crds --features crdgen --bin crdgen -- crds/generated

.PHONY: cluster-up
cluster-up: ## Boots or repairs the local cluster (first time: builds Kubernetes and KEDA)
	$(E2E) cluster up --keda

.PHONY: cluster-down
cluster-down: ## Removes the local cluster
	$(E2E) cluster down

.PHONY: platform
platform: ## Builds our image and installs the chart into the cluster
	$(E2E) platform install

.PHONY: suites
suites: ## All suites against the running cluster
	@for suite in $(SUITES); do \
		echo "== suite $$suite"; SECONDS=0; \
		cargo test --quiet -p e2e --features cluster --test $$suite -- --nocapture; \
		echo "== suite $$suite took $$SECONDS s"; \
	done
	@echo "== leader election and certificates on the API server"
	KUBECONFIG=$$($(E2E) cluster kubeconfig) cargo test --quiet -p maniple-runtime --test lease_on_cluster -- --ignored
	KUBECONFIG=$$($(E2E) cluster kubeconfig) cargo test --quiet -p maniple-operator --test certificates_on_cluster -- --ignored
	@echo "== KEDA's own client against the scaler"
	cargo test --quiet -p maniple-scaler --test keda_client -- --ignored --nocapture

.PHONY: bench
bench: ## Benchmarks, with release binaries: wake-up latency, 1,000 apps
	$(E2E) platform install --release
	$(E2E) bench

.PHONY: bench-front
bench-front: ## The front end beside nginx, release binaries; needs wrk, h2load, nginx, two cores, no cluster
	cargo build --release --quiet -p maniple-scaler --bin front
	cargo build --release --quiet -p e2e
	target/release/e2e bench-front $(BENCH_ARGS)

.PHONY: image
image: ## The image with release binaries as maniple.tar, for `docker load`
	$(E2E) platform image --release --output maniple.tar
