//! The scaler's process.

use clap::Parser;
use maniple_scaler::args::ScalerArgs;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    maniple_scaler::process::run(ScalerArgs::parse()).await
}
