//! Arguments that every binary has. Each has an environment variable, so that a chart can set them.

use std::{net::SocketAddr, time::Duration};

use clap::{Args, ValueEnum};

/// Flatten this into the binary's own arguments with `#[command(flatten)]`.
#[derive(Debug, Clone, Args)]
pub struct RuntimeArgs {
    /// Logging.
    #[command(flatten)]
    pub log: LogArgs,

    /// Where /metrics, /live and /ready are served.
    #[arg(long, env = "MANIPLE_ADMIN_ADDRESS", default_value = "0.0.0.0:9990")]
    pub admin_address: SocketAddr,

    /// The connection to the cluster.
    #[command(flatten)]
    pub kube: KubeArgs,
}

/// What is logged and how.
#[derive(Debug, Clone, Args)]
pub struct LogArgs {
    /// Level or directives, for example `info` or `info,kube=debug`.
    #[arg(long = "log", env = "MANIPLE_LOG", default_value = "info")]
    pub filter: String,

    /// One JSON object per line, or text for people.
    #[arg(long = "log-format", env = "MANIPLE_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub format: LogFormat,
}

/// The shape of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One JSON object per line.
    Json,
    /// Text for people.
    Text,
}

/// How the cluster is reached. Without a context: KUBECONFIG, then `~/.kube/config`, then the pod's service account.
#[derive(Debug, Clone, Args)]
pub struct KubeArgs {
    /// Context of the kubeconfig.
    #[arg(long, env = "MANIPLE_KUBE_CONTEXT")]
    pub kube_context: Option<String>,

    /// Seconds until a connection to the API server must be open.
    #[arg(long, env = "MANIPLE_KUBE_CONNECT_TIMEOUT_SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=300))]
    pub kube_connect_timeout_seconds: u64,

    /// Seconds until the API server must have begun to answer a request, retries included.
    #[arg(long, env = "MANIPLE_KUBE_REQUEST_TIMEOUT_SECONDS", default_value_t = 15, value_parser = clap::value_parser!(u64).range(1..=300))]
    pub kube_request_timeout_seconds: u64,
}

impl KubeArgs {
    pub(crate) fn connect_timeout(&self) -> Duration {
        Duration::from_secs(self.kube_connect_timeout_seconds)
    }

    pub(crate) fn request_timeout(&self) -> Duration {
        Duration::from_secs(self.kube_request_timeout_seconds)
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;

    #[derive(Debug, Parser)]
    struct Binary {
        #[command(flatten)]
        runtime: RuntimeArgs,
    }

    #[test]
    fn definition_is_sound() {
        Binary::command().debug_assert();
    }

    #[test]
    fn defaults_and_overrides() {
        let args =
            Binary::parse_from(["x", "--log-format", "json", "--kube-context", "kind"]).runtime;
        assert_eq!(args.log.format, LogFormat::Json);
        assert_eq!(args.log.filter, "info");
        assert_eq!(args.admin_address.port(), 9990);
        assert_eq!(args.kube.kube_context.as_deref(), Some("kind"));
        assert_eq!(args.kube.connect_timeout(), Duration::from_secs(5));
    }

    #[test]
    fn a_zero_timeout_is_refused() {
        let error =
            Binary::try_parse_from(["x", "--kube-connect-timeout-seconds", "0"]).unwrap_err();
        assert!(error.to_string().contains("1..=300"), "{error}");
    }
}
