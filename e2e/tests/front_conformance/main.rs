//! External conformance suites and a corpus of hostile requests against the real process `front` (docs/conformance.md). No cluster is
//! needed, but Go and Python are: `make conformance`.

mod client;
mod corpus;
mod frames;
mod grpc;
mod h2spec;
mod http1;
mod http2;
mod limits;
mod recorder;
mod websocket;

use std::fs;
use std::sync::OnceLock;

use anyhow::Result;
use e2e::front_alone::Programs;
use tempfile::TempDir;

/// The executables under test, built once.
fn programs() -> Result<Programs> {
    static BUILT: OnceLock<Result<Programs, String>> = OnceLock::new();
    let built = BUILT.get_or_init(|| Programs::build().map_err(|error| format!("{error:#}")));
    built.clone().map_err(anyhow::Error::msg)
}

/// A certificate for `127.0.0.1` in a folder, and the arguments with which a front end shows it on a port of its own.
fn encrypted() -> Result<(TempDir, [String; 4])> {
    let folder = tempfile::tempdir()?;
    let own = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()])?;
    fs::write(folder.path().join("tls.crt"), own.cert.pem())?;
    fs::write(
        folder.path().join("tls.key"),
        own.signing_key.serialize_pem(),
    )?;
    let path = folder.path().display().to_string();
    let arguments = ["--tls-folder", &path, "--tls-listen-address", "127.0.0.1:0"];
    Ok((folder, arguments.map(str::to_owned)))
}
