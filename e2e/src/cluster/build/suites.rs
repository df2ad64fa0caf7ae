//! External conformance suites for the front end.

use super::plan::{Artefact, Source, go_files};
use crate::cluster::versions;

/// h2spec, which plays HTTP/2 clients that break rules.
pub(super) fn h2spec() -> Artefact {
    Artefact {
        name: "h2spec",
        version: versions::H2SPEC,
        source: Source::GoFiles {
            folder: format!("h2spec-{}", versions::H2SPEC),
            files: go_files!("h2spec", "go.mod", "go.sum", "tools.go"),
            package: "github.com/summerwind/h2spec/cmd/h2spec".to_owned(),
            ldflags: "-s -w".to_owned(),
        },
    }
}

/// Server and client of gRPC's interoperability cases.
pub(super) fn grpc_interop() -> Artefact {
    Artefact {
        name: "grpc-interop",
        version: versions::GRPC,
        source: Source::GoFiles {
            folder: format!("grpc-interop-{}", versions::GRPC),
            files: go_files!("grpc-interop", "go.mod", "go.sum", "main.go"),
            package: ".".to_owned(),
            ldflags: "-s -w".to_owned(),
        },
    }
}

/// The cases of the Autobahn|Testsuite with a runner, and the library of the echo server.
pub(super) fn websocket_suite() -> Artefact {
    Artefact {
        name: "websocket-suite",
        version: versions::KOSOKU,
        source: Source::PyPi {
            requirements: include_str!("../../../python/websocket/requirements.txt"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pins_are_the_versions_that_are_named() {
        for artefact in [h2spec(), grpc_interop(), websocket_suite()] {
            let (text, pin) = match &artefact.source {
                Source::GoFiles { files, .. } => (files[0].1, format!(" v{}", artefact.version)),
                Source::PyPi { requirements } => {
                    (*requirements, format!("kosoku=={}", artefact.version))
                }
                other => panic!("{other:?}"),
            };
            assert!(text.contains(&pin), "{}", artefact.title());
        }
    }
}
