//! The binary of the stand-in. Ends with code 0 after SIGTERM, like the real host.

use std::sync::Arc;

use anyhow::Context as _;
use function_host_standin::environment::Environment;
use function_host_standin::lifecycle::Instance;
use function_host_standin::work::simulated::SimulatedWork;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let filter = EnvFilter::try_from_env("STANDIN_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .init();

    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    let start = Instance::start(Environment::from_process(), Arc::new(SimulatedWork));
    let instance = tokio::select! {
        started = start => started?,
        _ = terminate.recv() => return Ok(()),
        _ = interrupt.recv() => return Ok(()),
    };

    let give_up = async {
        match instance.host.faults.exit_after {
            Some(time) => tokio::time::sleep(time).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        () = give_up => {
            tracing::error!("the language worker failed too often, giving up (STANDIN_FAULT=exit-after)");
            // Without any of the care of a shutdown, and with code 0: a trap that the real host sets, too.
            std::process::exit(0);
        }
    }
    instance.terminate().await;
    Ok(())
}
