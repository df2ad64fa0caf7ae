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

use std::sync::OnceLock;

use anyhow::Result;
use e2e::front_alone::Programs;

/// The executables under test, built once.
fn programs() -> Result<Programs> {
    static BUILT: OnceLock<Result<Programs, String>> = OnceLock::new();
    let built = BUILT.get_or_init(|| Programs::build().map_err(|error| format!("{error:#}")));
    built.clone().map_err(anyhow::Error::msg)
}
