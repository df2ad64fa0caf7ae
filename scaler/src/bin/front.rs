//! The front end: proxies requests to instances in the slots that the scaler lends.

use clap::Parser;
use maniple_scaler::front_end::FrontArgs;

/// A request asks for some fifty pieces of memory in two tasks that may run on different cores, two of them buffers of 8 KiB.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    maniple_scaler::front_end::run(FrontArgs::parse()).await
}
