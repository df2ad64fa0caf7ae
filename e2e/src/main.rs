//! The harness' commands.

use std::process::ExitCode;

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

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Cluster(args) => cli::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        // One line with all causes; a backtrace would bury it.
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
