//! What can go wrong with certificates. Everything is tried again.

/// Error of one look at the certificates.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The API server could not be asked what time it is.
    #[error("the API server does not answer: {0}")]
    Clock(String),
    /// A Secret could not be read.
    #[error(
        "Secret `{name}` could not be read: {source}; the operator needs the right to get it in its own namespace"
    )]
    Read {
        /// Name of the Secret.
        name: String,
        /// Answer of the API server.
        source: Box<kube::Error>,
    },
    /// A Secret could not be written.
    #[error(
        "Secret `{name}` could not be written: {source}; if it is immutable or of another type, delete it and it is made anew"
    )]
    Write {
        /// Name of the Secret.
        name: String,
        /// Answer of the API server.
        source: Box<kube::Error>,
    },
    /// Somebody else wrote a Secret at the same time.
    #[error("Secret `{name}` was written by somebody else at the same time")]
    Conflict {
        /// Name of the Secret.
        name: String,
    },
    /// A key or certificate could not be made.
    #[error("a certificate could not be made: {0}")]
    Issue(#[from] rcgen::Error),
    /// The Secrets do not stay as they are written.
    #[error(
        "the Secrets with certificates do not stay as they are written; who else writes them? (last step: {0})"
    )]
    Unsettled(String),
}

impl Error {
    pub(super) fn clock(source: kube::Error) -> Self {
        Self::Clock(source.to_string())
    }

    /// One word for metrics and logs.
    pub fn category(&self) -> &'static str {
        match self {
            Self::Clock(_) => "clock",
            Self::Read { .. } => "read",
            Self::Write { .. } => "write",
            Self::Conflict { .. } => "conflict",
            Self::Issue(_) => "issue",
            Self::Unsettled(_) => "unsettled",
        }
    }
}
