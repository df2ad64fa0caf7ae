//! Arguments of the operator.

use clap::Args;

/// What the platform team decides for all apps.
#[derive(Debug, Clone, Args)]
pub struct Platform {
    /// Address at which KEDA reaches the scaler. A headless Service, so that KEDA balances over its replicas.
    #[arg(
        long,
        env = "MANIPLE_SCALER_ADDRESS",
        default_value = "maniple-scaler.maniple-system.svc:9090"
    )]
    pub scaler_address: String,

    /// URL under which the scaler tells what it decided.
    #[arg(
        long,
        env = "MANIPLE_SCALER_STATUS_URL",
        default_value = "http://maniple-scaler-status.maniple-system.svc:8082"
    )]
    pub scaler_status_url: String,

    /// Share of an instance's CPU and memory limit that is requested from the scheduler, in percent. Below 100 nodes are overcommitted.
    #[arg(long, env = "MANIPLE_REQUEST_PERCENT", default_value_t = 100, value_parser = clap::value_parser!(u8).range(1..=100))]
    pub request_percent: u8,

    /// Only FunctionApps of this namespace; all namespaces when absent.
    #[arg(long, env = "MANIPLE_NAMESPACE")]
    pub namespace: Option<String>,

    /// FunctionApps that are reconciled at the same time.
    #[arg(long, env = "MANIPLE_CONCURRENCY", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub concurrency: u16,
}

impl Default for Platform {
    fn default() -> Self {
        Self {
            scaler_address: "maniple-scaler.maniple-system.svc:9090".into(),
            scaler_status_url: "http://maniple-scaler-status.maniple-system.svc:8082".into(),
            request_percent: 100,
            namespace: None,
            concurrency: 8,
        }
    }
}
