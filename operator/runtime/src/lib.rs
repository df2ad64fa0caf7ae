//! What every maniple binary needs and none of them should write twice: arguments, logs, metrics,
//! the admin server with its probes, ordered shutdown, a Kubernetes client with short time-outs, and
//! leader election.
//!
//! A binary flattens [`RuntimeArgs`] into its own arguments and starts with [`Runtime::init`]:
//!
//! ```no_run
//! use std::time::Duration;
//! use clap::Parser;
//! use maniple_runtime::{ClientProfile, Component, Runtime, RuntimeArgs, Router};
//!
//! #[derive(Parser)]
//! struct Args {
//!     #[command(flatten)]
//!     runtime: RuntimeArgs,
//! }
//!
//! # async fn example() -> Result<(), maniple_runtime::Error> {
//! let args = Args::parse();
//! let mut runtime = Runtime::init(Component::new("operator", env!("CARGO_PKG_VERSION")), args.runtime)?;
//! let pending = runtime.readiness.pending("first list of FunctionApps");
//! runtime.serve_admin(Router::new()).await?;
//! let client = runtime.kube_client(ClientProfile::Ordinary).await?;
//! let work = runtime.shutdown.stage("controller", Duration::from_secs(10));
//! let stop = work.token();
//! work.spawn("controller", async move {
//!     drop((client, pending));
//!     stop.cancelled().await;
//!     Ok::<(), std::io::Error>(())
//! });
//! runtime.run().await
//! # }
//! ```

mod admin;
mod args;
mod client;
mod error;
mod guarded;
mod lease;
mod metrics;
mod process;
mod readiness;
mod runtime;
mod shutdown;
mod telemetry;

pub use admin::AdminServer;
pub use args::{KubeArgs, LogArgs, LogFormat, RuntimeArgs};
/// The router type of [`Runtime::serve_admin`], so that binaries need not name axum's version.
pub use axum::Router;
pub use client::{ClientProfile, install_tls_provider, kube_client};
pub use error::Error;
pub use guarded::{Guarded, Unreadable};
pub use lease::{LeaderState, Leadership, LeaseSettings, LeaseTimes};
pub use metrics::Metrics;
pub use readiness::{Pending, Readiness};
pub use runtime::{Component, Runtime};
pub use shutdown::{Shutdown, Stage};
pub use telemetry::init as init_telemetry;
