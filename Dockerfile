# One image for all parts: /operator, /scaler and /front. The Helm chart chooses between them.
#
#   docker build -t registry.example.com/maniple:0.1.0 .

FROM rust:1.95-slim-bookworm AS build
# Build scripts of the TLS library (aws-lc) compile C.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends cmake g++ make \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/source/target \
    cargo build --release --locked -p maniple-operator -p maniple-scaler \
    && mkdir /programs \
    && cp target/release/operator target/release/scaler target/release/front /programs/

# glibc, certificate authorities and the user 65532; no shell.
FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /programs/ /
USER 65532:65532
ENTRYPOINT ["/operator"]
