//! Arguments of the scaler.

use crate::grpc::{GrpcArgs, SlotsArgs};
use clap::Parser;
use maniple_runtime::RuntimeArgs;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

/// Decides how many instances every group of every FunctionApp should have.
#[derive(Debug, Clone, Parser)]
#[command(name = "scaler", version)]
pub struct ScalerArgs {
    /// What every binary has.
    #[command(flatten)]
    pub runtime: RuntimeArgs,

    /// Where KEDA connects to.
    #[command(flatten)]
    pub grpc: GrpcArgs,

    /// Where front ends connect to.
    #[command(flatten)]
    pub slots: SlotsArgs,

    /// Where the decisions about apps are told (`/v1/apps/{namespace}/{name}`).
    #[arg(long, env = "MANIPLE_STATUS_ADDRESS", default_value = "0.0.0.0:8082")]
    pub status_address: SocketAddr,

    /// Where standbys follow this process while it leads. Only opened when the gRPC port is encrypted; else that port is used.
    #[arg(long, env = "MANIPLE_MIRROR_ADDRESS", default_value = "0.0.0.0:8083")]
    pub mirror_address: SocketAddr,

    /// Only FunctionApps of this namespace; all namespaces when absent.
    #[arg(long, env = "MANIPLE_NAMESPACE")]
    pub namespace: Option<String>,

    /// Namespace of the Lease by which the replicas elect a leader.
    #[arg(
        long,
        env = "MANIPLE_LEASE_NAMESPACE",
        default_value = "maniple-system"
    )]
    pub lease_namespace: String,

    /// Name of that Lease.
    #[arg(long, env = "MANIPLE_LEASE_NAME", default_value = "maniple-scaler")]
    pub lease_name: String,

    /// Name of this replica in the Lease.
    #[arg(long, env = "MANIPLE_INSTANCE", default_value = "local")]
    pub instance: String,

    /// Address at which the other replicas reach this one.
    #[arg(long, env = "MANIPLE_POD_IP", default_value = "127.0.0.1")]
    pub pod_ip: IpAddr,

    /// How event sources are read.
    #[command(flatten)]
    pub sources: SourceArgs,
}

/// How event sources are read.
#[derive(Debug, Clone, clap::Args)]
pub struct SourceArgs {
    /// Reads at the same time, over all storage accounts.
    #[arg(long, env = "MANIPLE_PARALLEL_READS", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub parallel_reads: u16,

    /// Longest pause in seconds between two looks at a queue that has been empty for a long time. Without it a message in an idle
    /// queue is seen within a second; with it storage bills fewer requests.
    #[arg(long, env = "MANIPLE_QUEUE_MAX_INTERVAL_SECONDS", value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub queue_max_interval_seconds: Option<u64>,

    /// Further domains of storage accounts to which identity tokens may be sent, separated by commas.
    #[arg(long, env = "MANIPLE_STORAGE_TRUSTED_DOMAINS", value_delimiter = ',')]
    pub storage_trusted_domains: Vec<String>,

    /// Further certificate authorities of storage accounts, PEM.
    #[arg(long, env = "MANIPLE_STORAGE_CA_FILE")]
    pub storage_ca_file: Option<PathBuf>,
}

impl ScalerArgs {
    /// Whether the gRPC port is encrypted.
    pub fn is_encrypted(&self) -> bool {
        self.grpc.grpc_tls_cert.is_some()
    }

    /// Identity of this replica in the Lease: its name, and where it is followed when it leads. `grpc_port` is the port in use.
    pub fn identity(&self, grpc_port: u16) -> String {
        let port = if self.is_encrypted() {
            self.mirror_address.port()
        } else {
            grpc_port
        };
        format!("{}/{}", self.instance, SocketAddr::new(self.pod_ip, port))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn definition_is_sound() {
        ScalerArgs::command().debug_assert();
    }

    #[test]
    fn the_identity_names_the_port_at_which_the_mirror_is() {
        let parse = |ip: &str, more: &[&str]| {
            let base = ["scaler", "--instance", "pod-1", "--pod-ip", ip];
            ScalerArgs::parse_from(base.iter().chain(more))
        };
        assert_eq!(parse("10.0.0.7", &[]).identity(9090), "pod-1/10.0.0.7:9090");
        let tls = ["--grpc-tls-cert", "c", "--grpc-tls-key", "k"];
        assert_eq!(
            parse("10.0.0.7", &tls).identity(9090),
            "pod-1/10.0.0.7:8083"
        );
        assert_eq!(parse("fd00::7", &[]).identity(1), "pod-1/[fd00::7]:1");
    }
}
