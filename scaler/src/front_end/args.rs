//! Arguments of the front end.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use clap::Parser;
use maniple_front::{
    headers::Forwarding,
    observe::{Observer, Spans},
    pool::GroupSettings,
    proxy::ProxySettings,
    server::ServerSettings,
};
use maniple_runtime::RuntimeArgs;

/// Takes requests for all apps and runs each of them in a slot of an instance.
#[derive(Debug, Clone, Parser)]
#[command(name = "front", version)]
pub struct FrontArgs {
    /// What every binary has. The Kubernetes API is not used.
    #[command(flatten)]
    pub runtime: RuntimeArgs,

    /// Where requests are taken.
    #[arg(long, env = "MANIPLE_LISTEN_ADDRESS", default_value = "0.0.0.0:8080")]
    pub listen_address: SocketAddr,

    /// The scaler.
    #[command(flatten)]
    pub scaler: ScalerArgs,

    /// Uid of this pod. Without it the end of this process cannot be proved by the end of its pod.
    #[arg(long, env = "MANIPLE_POD_UID")]
    pub pod_uid: Option<String>,

    /// Folder that lives as long as the pod. It counts the processes of the pod, so that a new one proves the end of those before it.
    #[arg(long, env = "MANIPLE_STATE_DIRECTORY")]
    pub state_directory: Option<PathBuf>,

    /// Client connections at a time.
    #[arg(long, env = "MANIPLE_MAX_CONNECTIONS", default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub max_connections: u32,

    /// Whether clients' forwarding headers are kept, because a trusted proxy stands in front.
    #[arg(long, env = "MANIPLE_TRUST_FORWARDED", default_value_t = false, action = clap::ArgAction::Set)]
    pub trust_forwarded: bool,

    /// Encrypted requests.
    #[command(flatten)]
    pub tls: ServingTlsArgs,

    /// Whether responses to requests that waited for an instance to start carry `server-timing` with what they waited for.
    #[arg(long, env = "MANIPLE_COLD_START_HEADER", default_value_t = false, action = clap::ArgAction::Set)]
    pub cold_start_header: bool,

    /// What is told of single requests.
    #[command(flatten)]
    pub observe: ObserveArgs,

    /// Seconds for which connections are still accepted after the process was asked to stop, until nobody sends any here.
    #[arg(long, env = "MANIPLE_STOP_DELAY_SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u64).range(0..=300))]
    pub stop_delay_seconds: u64,

    /// Seconds that running requests have after that.
    #[arg(long, env = "MANIPLE_DRAIN_SECONDS", default_value_t = 240, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub drain_seconds: u64,
}

/// What is told of single requests. Shares are out of a thousand.
#[derive(Debug, Clone, clap::Args)]
pub struct ObserveArgs {
    /// Of a thousand requests, how many get a line in the log.
    #[arg(long, env = "MANIPLE_ACCESS_LOG_PER_MILLE", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=1000))]
    pub access_log_per_mille: u32,

    /// Collector that gets spans of requests by OTLP over gRPC, such as http://collector:4317. Without it there are none.
    #[arg(long, env = "MANIPLE_OTLP_ENDPOINT")]
    pub otlp_endpoint: Option<String>,

    /// CA of the collector's certificate, PEM.
    #[arg(long, env = "MANIPLE_OTLP_CA", requires = "otlp_endpoint")]
    pub otlp_ca: Option<PathBuf>,

    /// Of a thousand requests without a `traceparent`, how many begin a trace. Others follow the one that they came with.
    #[arg(long, env = "MANIPLE_TRACE_PER_MILLE", default_value_t = 10, value_parser = clap::value_parser!(u32).range(0..=1000))]
    pub trace_per_mille: u32,
}

/// How encrypted requests are taken.
#[derive(Debug, Clone, clap::Args)]
pub struct ServingTlsArgs {
    /// Where encrypted requests are taken, when there is a certificate.
    #[arg(
        long,
        env = "MANIPLE_TLS_LISTEN_ADDRESS",
        default_value = "0.0.0.0:8443"
    )]
    pub tls_listen_address: SocketAddr,

    /// Folder with `tls.crt` and `tls.key`, read again when they change. Of several the one is used whose certificate is for the name that a
    /// client asks for, or else the first.
    #[arg(
        long = "tls-folder",
        env = "MANIPLE_TLS_FOLDERS",
        value_delimiter = ','
    )]
    pub tls_folders: Vec<PathBuf>,

    /// TLS handshakes at a time; more wait.
    #[arg(long, env = "MANIPLE_TLS_HANDSHAKES", default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub tls_handshakes: u32,

    /// Seconds from an accepted connection to the end of its TLS handshake.
    #[arg(long, env = "MANIPLE_TLS_HANDSHAKE_SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=300))]
    pub tls_handshake_seconds: u64,
}

/// How the scaler's replicas are reached.
#[derive(Debug, Clone, clap::Args)]
pub struct ScalerArgs {
    /// Name and port under which the scaler's replicas lend slots. The name leads to the address of every replica.
    #[arg(long, env = "MANIPLE_SLOTS_SERVER", value_parser = host_and_port)]
    pub slots_server: String,

    /// Name in the certificates of the replicas. The host of `--slots-server` when absent.
    #[arg(long, env = "MANIPLE_SLOTS_SERVER_NAME")]
    pub slots_server_name: Option<String>,

    /// CA of the replicas' certificates, PEM.
    #[arg(
        long,
        env = "MANIPLE_SLOTS_SERVER_CA",
        required_unless_present = "slots_insecure"
    )]
    pub slots_server_ca: Option<PathBuf>,

    /// Certificate that this front end shows, PEM.
    #[arg(
        long,
        env = "MANIPLE_SLOTS_CLIENT_CERT",
        required_unless_present = "slots_insecure"
    )]
    pub slots_client_cert: Option<PathBuf>,

    /// Its private key, PEM.
    #[arg(
        long,
        env = "MANIPLE_SLOTS_CLIENT_KEY",
        required_unless_present = "slots_insecure"
    )]
    pub slots_client_key: Option<PathBuf>,

    /// Neither encryption nor authentication towards the scaler. For tests.
    #[arg(long, conflicts_with_all = ["slots_server_ca", "slots_client_cert", "slots_client_key"])]
    pub slots_insecure: bool,
}

impl FrontArgs {
    pub(super) fn drain_limit(&self) -> Duration {
        Duration::from_secs(self.drain_seconds)
    }

    pub(super) fn stop_delay(&self) -> Duration {
        Duration::from_secs(self.stop_delay_seconds)
    }

    /// `spans` is where spans go, when they go anywhere.
    pub(super) fn proxy(&self, spans: Option<Arc<dyn Spans>>) -> ProxySettings {
        ProxySettings {
            forwarding: if self.trust_forwarded {
                Forwarding::Append
            } else {
                Forwarding::Replace
            },
            cold_start_header: self.cold_start_header,
            observer: Observer {
                log_share: self.observe.access_log_per_mille,
                trace_share: self.observe.trace_per_mille,
                spans,
            },
            ..ProxySettings::default()
        }
    }

    pub(super) fn server(&self) -> ServerSettings {
        ServerSettings {
            connections: self.max_connections as usize,
            drain_limit: self.drain_limit(),
            handshakes: self.tls.tls_handshakes as usize,
            handshake_limit: Duration::from_secs(self.tls.tls_handshake_seconds),
            ..ServerSettings::default()
        }
    }
}

/// Time that an instance may still work on a request whose connection broke, beyond the request's own limit: bytes on the wire.
pub(super) fn settle() -> Duration {
    let defaults = GroupSettings::default();
    defaults
        .linger
        .saturating_sub(defaults.response_limit.unwrap_or_default())
}

fn host_and_port(text: &str) -> Result<String, String> {
    let port = text
        .rsplit_once(':')
        .filter(|(host, _)| !host.is_empty())
        .and_then(|(_, port)| port.parse::<u16>().ok());
    match port {
        Some(1..) => Ok(text.to_owned()),
        _ => Err(String::from(
            "must be a host and a port, such as maniple-scaler:9091",
        )),
    }
}

impl ScalerArgs {
    /// The host of the server, without port and brackets.
    pub(super) fn host(&self) -> &str {
        let host = self
            .slots_server
            .rsplit_once(':')
            .map_or("", |(host, _)| host);
        host.trim_start_matches('[').trim_end_matches(']')
    }
}
