//! KEDA's own Go client against our service. Needs `go`; building KEDA takes about ten minutes when nothing is cached.

#![allow(clippy::unwrap_used, reason = "a test; a failure here is its result")]

use std::{path::Path, process::Command};

#[test]
#[ignore = "builds KEDA's Go client: cargo test -p maniple-scaler --test keda_client -- --ignored"]
fn kedas_own_client_understands_the_service() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let built = Command::new(env!("CARGO"))
        .args([
            "build",
            "--quiet",
            "--package",
            "maniple-scaler",
            "--example",
            "scripted_scaler",
        ])
        .current_dir(root)
        .status()
        .unwrap();
    assert!(
        built.success(),
        "the example scripted_scaler does not build"
    );

    // This test's program lies in <target>/<profile>/deps, the example in <target>/<profile>/examples.
    let program = std::env::current_exe().unwrap();
    let example = program
        .ancestors()
        .nth(2)
        .unwrap()
        .join("examples/scripted_scaler");
    assert!(example.is_file(), "{} is missing", example.display());

    let tested = Command::new("go")
        .args(["test", "-trimpath", "-vet=off", "-count=1", "-v", "./..."])
        .current_dir(root.join("e2e/go/keda-client"))
        .env("CGO_ENABLED", "0")
        .env("MANIPLE_SCRIPTED_SCALER", &example)
        .status()
        .expect("go is installed and in the PATH (1.26 or later)");
    assert!(
        tested.success(),
        "KEDA's client found a difference, see above"
    );
}
