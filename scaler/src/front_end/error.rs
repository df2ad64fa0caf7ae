//! Why the front end cannot start or reach the scaler.

use std::path::PathBuf;

/// An error of the front end's process.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FrontError {
    /// The pod's uid is none.
    #[error(
        "pod uid {text:?} is not one of 32 hexadecimal digits; set --pod-uid to metadata.uid of the pod"
    )]
    PodUid {
        /// What was given.
        text: String,
    },

    /// The count of this pod's processes cannot be kept.
    #[error(
        "state file {path} cannot be used: {message}; --state-directory must be writable and empty in a new pod"
    )]
    State {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },

    /// The operating system gives no random numbers.
    #[error("no random id for this process: {0}")]
    Random(String),

    /// A port for requests cannot be opened.
    #[error("listen address {address} cannot be opened: {source}; choose another with {argument}")]
    Listen {
        /// What was asked for.
        address: std::net::SocketAddr,
        /// Where it was asked for.
        argument: &'static str,
        /// The operating system's reason.
        source: std::io::Error,
    },

    /// No certificate towards clients can be used.
    #[error(transparent)]
    Serving(#[from] maniple_front::tls::TlsError),

    /// A certificate, key or CA file cannot be read.
    #[error("tls file {path}: {source}; it must hold PEM text")]
    TlsFile {
        /// The file.
        path: PathBuf,
        /// The operating system's reason.
        source: std::io::Error,
    },

    /// The way to the collector of spans cannot be made.
    #[error(
        "spans cannot be sent: {0}; --otlp-endpoint must be a URL such as http://collector:4317"
    )]
    Spans(String),

    /// No connection to a replica.
    #[error("no connection: {}", chain(.0))]
    Connect(#[from] tonic::transport::Error),

    /// The replica refused the stream or broke it.
    #[error("{}: {}", .0.code(), .0.message())]
    Stream(#[from] Box<tonic::Status>),

    /// The replica did not answer in time.
    #[error("no answer within {0} s")]
    Silent(u64),

    /// A message of the replica has no meaning here: it is of another version.
    #[error("a message cannot be read: {0}; scaler and front end must be of the same version")]
    Message(String),
}

impl FrontError {
    /// A stable word for logs and metrics.
    pub fn category(&self) -> &'static str {
        match self {
            Self::PodUid { .. } | Self::State { .. } | Self::Random(_) => "identity",
            Self::Listen { .. } => "listen",
            Self::Serving(error) => error.category(),
            Self::TlsFile { .. } => "tls",
            Self::Spans(_) => "spans",
            Self::Connect(_) => "connect",
            Self::Stream(_) => "stream",
            Self::Silent(_) => "silent",
            Self::Message(_) => "message",
        }
    }
}

/// The error and what caused it: the outer one alone says nothing.
fn chain(error: &tonic::transport::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
