//! Pinned versions of everything that the cluster is made of.

use std::fmt;

/// etcd server version.
pub const ETCD: &str = "3.6.16";
/// CoreDNS version.
pub const COREDNS: &str = "1.15.0";
/// KEDA version.
pub const KEDA: &str = "2.21.0";
/// Checksum of the KEDA module as the Go checksum database knows it.
pub const KEDA_SUM: &str = "h1:R6z2HZvstK4RLUMxroNACzBj74xGxt3kG59b5Xc+Xps=";
/// Azurite version (npm).
pub const AZURITE: &str = "3.37.0";
/// Helm version.
pub const HELM: &str = "4.3.1";
/// h2spec version: the last one that the Go module proxy has under a version number.
pub const H2SPEC: &str = "2.2.1";
/// Version of gRPC for Go, whose interoperability suite is used.
pub const GRPC: &str = "1.85.0";
/// Version of kosoku, which runs the cases of the Autobahn|Testsuite.
pub const KOSOKU: &str = "0.1.0";
/// Version of our own pause image.
pub const PAUSE: &str = "1";

/// Kubernetes releases that the harness can build.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    clap::ValueEnum,
    serde::Serialize,
    serde::Deserialize,
)]
pub enum Kubernetes {
    /// 1.36.3, the default.
    #[default]
    #[value(name = "1.36.3")]
    #[serde(rename = "1.36.3")]
    V1_36,
    /// 1.35.4.
    #[value(name = "1.35.4")]
    #[serde(rename = "1.35.4")]
    V1_35,
}

impl Kubernetes {
    /// Full version without the leading `v`.
    pub fn version(self) -> &'static str {
        match self {
            Self::V1_36 => "1.36.3",
            Self::V1_35 => "1.35.4",
        }
    }

    /// Minor version number.
    pub fn minor(self) -> &'static str {
        match self {
            Self::V1_36 => "36",
            Self::V1_35 => "35",
        }
    }
}

impl fmt::Display for Kubernetes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.version())
    }
}
