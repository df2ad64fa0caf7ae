//! What can go wrong while an app is reconciled.

use maniple_crds::reasons::reason;

/// Error of one reconcile run. Every one of them is tried again.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An object could not be read.
    #[error("{kind} `{name}` could not be read: {source}")]
    Read {
        /// Kind of the object.
        kind: &'static str,
        /// Name of the object.
        name: String,
        /// Answer of the API server.
        source: Box<kube::Error>,
    },
    /// An object could not be written.
    #[error("{kind} `{name}` could not be {verb}: {source}")]
    Write {
        /// What was tried.
        verb: &'static str,
        /// Kind of the object.
        kind: &'static str,
        /// Name of the object.
        name: String,
        /// Answer of the API server.
        source: Box<kube::Error>,
    },
    /// An object with the name that a group needs belongs to somebody else.
    #[error(
        "{kind} `{name}` exists and does not belong to this FunctionApp; rename or remove one of the two"
    )]
    NameTaken {
        /// Kind of the object.
        kind: &'static str,
        /// Name of the object.
        name: String,
    },
    /// An object with the name that a group needs is on its way out.
    #[error(
        "{kind} `{name}` is still there from before and is being removed; it is made anew as soon as it is gone"
    )]
    Leaving {
        /// Kind of the object.
        kind: &'static str,
        /// Name of the object.
        name: String,
    },
    /// The app has no namespace or uid.
    #[error("the FunctionApp has no namespace or uid; it was not read from the API server")]
    NotFromServer,
    /// The operating system gave no random bytes.
    #[error("no random bytes for the host key: {0}")]
    Randomness(String),
    /// The whole run took too long.
    #[error("the run took longer than {0} s; the API server is slow or does not answer")]
    Timeout(u64),
}

impl Error {
    pub(super) fn read(kind: &'static str, name: &str, source: kube::Error) -> Self {
        Self::Read {
            kind,
            name: name.to_owned(),
            source: Box::new(source),
        }
    }

    pub(super) fn write(
        verb: &'static str,
        kind: &'static str,
        name: &str,
        source: kube::Error,
    ) -> Self {
        Self::Write {
            verb,
            kind,
            name: name.to_owned(),
            source: Box::new(source),
        }
    }

    /// One word for metrics and logs.
    pub fn category(&self) -> &'static str {
        match self {
            Self::Read { .. } => "read",
            Self::Write { .. } => "write",
            Self::NameTaken { .. } => "name_taken",
            Self::Leaving { .. } => "leaving",
            Self::NotFromServer => "not_from_server",
            Self::Randomness(_) => "randomness",
            Self::Timeout(_) => "timeout",
        }
    }

    /// Reason of the condition that shows this error.
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::NameTaken { .. } | Self::Leaving { .. } => reason::NAME_TAKEN,
            _ => reason::APPLY_FAILED,
        }
    }
}
