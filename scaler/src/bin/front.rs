//! The front end: proxies requests to instances in the slots that the scaler lends.

use clap::Parser;
use maniple_scaler::front_end::FrontArgs;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    maniple_scaler::front_end::run(FrontArgs::parse()).await
}
