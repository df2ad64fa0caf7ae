//! The harness' commands.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use e2e::cluster::cli::{self, ClusterArgs};
use e2e::platform::{self, PlatformArgs};

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
    /// maniple in the cluster.
    Platform(PlatformArgs),
    /// An app goes from zero to many instances and back, live.
    Demo(e2e::demo::DemoArgs),
    /// HTTP from zero, wake-up latency, 1,000 apps.
    Bench(e2e::bench::BenchArgs),
    /// The front end beside nginx.
    BenchFront(e2e::bench::front::FrontBenchArgs),
    /// A part of the benchmark above.
    #[command(subcommand, hide = true)]
    BenchFrontPart(e2e::bench::front::Part),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Cluster(args) => cli::run(&args),
        Command::Platform(args) => platform::run(&args),
        Command::Demo(args) => run_async(e2e::demo::run(args)),
        Command::Bench(args) => run_async(e2e::bench::run(args)),
        Command::BenchFront(args) => e2e::bench::front::run(&args),
        Command::BenchFrontPart(part) => e2e::bench::front::run_part(part),
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

fn run_async(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    tokio::runtime::Runtime::new()?.block_on(work)
}
