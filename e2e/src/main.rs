//! The harness' commands.

use anyhow::Result;
use clap::{Parser, Subcommand};
use e2e::cluster::cli::{self, ClusterArgs};

/// Boots a real Kubernetes on this machine and runs suites against it.
#[derive(Parser, Debug)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// The local cluster.
    Cluster(ClusterArgs),
}

fn main() -> Result<()> {
    match Arguments::parse().command {
        Command::Cluster(args) => cli::run(&args),
    }
}
