//! Everything that can go wrong before or beside a binary's own work.

use std::net::SocketAddr;

use tokio::task::JoinError;

/// An error with the sentence that a person at the log needs; [`Error::category`] is for metrics.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The log filter cannot be read.
    #[error(
        "log filter {filter:?} cannot be read: {message}; write a level (info) or directives (info,kube=warn)"
    )]
    LogFilter {
        /// What was given.
        filter: String,
        /// The parser's message.
        message: String,
    },

    /// Logging was already set up in this process.
    #[error("logging cannot be set up: {0}; it may be set up only once in a process")]
    LogInit(String),

    /// The admin port cannot be opened.
    #[error(
        "admin address {address} cannot be opened: {source}; choose another with --admin-address"
    )]
    AdminBind {
        /// The address that was asked for.
        address: SocketAddr,
        /// The operating system's reason.
        source: std::io::Error,
    },

    /// No usable cluster configuration.
    #[error(
        "no cluster to talk to: {0}; run in a pod with a service account, or set KUBECONFIG, or pass --kube-context"
    )]
    KubeConfig(String),

    /// A client cannot be made from the configuration.
    #[error(
        "kubernetes client for {url} cannot be made: {source}; check the certificates and the auth of the kubeconfig"
    )]
    KubeClient {
        /// The API server's address.
        url: String,
        /// kube's reason.
        source: Box<kube::Error>,
    },

    /// Signal handlers cannot be installed.
    #[error("signal handlers cannot be installed: {0}")]
    Signal(std::io::Error),

    /// A task that must live as long as the process ended with an error.
    #[error("{task} failed: {message}")]
    TaskFailed {
        /// Name given to [`crate::Stage::spawn`].
        task: &'static str,
        /// The task's error with its sources.
        message: String,
    },

    /// A task that must live as long as the process ended although nobody asked it to.
    #[error("{task} ended although the process was not asked to stop")]
    TaskEnded {
        /// Name given to [`crate::Stage::spawn`].
        task: &'static str,
    },

    /// A task panicked or was aborted.
    #[error("{task} broke off: {source}")]
    TaskBroken {
        /// Name given to [`crate::Stage::spawn`].
        task: &'static str,
        /// What tokio says about it.
        source: JoinError,
    },

    /// The settings of a lease contradict each other.
    #[error("lease {lease}: {message}")]
    LeaseSettings {
        /// `namespace/name`.
        lease: String,
        /// Which rule is broken and what to set.
        message: String,
    },
}

impl Error {
    /// A stable word for metrics and events.
    pub fn category(&self) -> &'static str {
        match self {
            Self::LogFilter { .. } | Self::LogInit(_) => "log",
            Self::AdminBind { .. } => "admin",
            Self::KubeConfig(_) | Self::KubeClient { .. } => "kubernetes",
            Self::Signal(_) => "signal",
            Self::TaskFailed { .. } | Self::TaskEnded { .. } | Self::TaskBroken { .. } => "task",
            Self::LeaseSettings { .. } => "lease",
        }
    }
}

/// An error and all its sources in one line, as they belong into a log field.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        let part = source.to_string();
        // Many errors repeat their source in their own text.
        if !text.contains(&part) {
            text.push_str(": ");
            text.push_str(&part);
        }
        next = source.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Layer {
        text: &'static str,
        source: Option<Box<Layer>>,
    }

    #[test]
    fn chain_names_every_source_once() {
        let inner = Layer {
            text: "refused",
            source: None,
        };
        let middle = Layer {
            text: "connect: refused",
            source: Some(Box::new(inner)),
        };
        let outer = Layer {
            text: "list apps",
            source: Some(Box::new(middle)),
        };
        assert_eq!(chain(&outer), "list apps: connect: refused");
    }
}
