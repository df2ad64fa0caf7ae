//! The process `front`: the proxy, joined with the scaler's replicas by one stream to each.
//!
//! It has no access to the Kubernetes API: routes, instances and slots arrive on the streams.
//!
//! * [`args`]: what can be set.
//! * [`doors`]: the ports on which requests come.
//! * [`identity`]: who this process is among the front ends.
//! * [`connector`]: connections to a replica, authenticated both ways.
//! * [`link`]: one stream to one replica; [`replicas`]: one link for each.
//! * [`routing`]: routes as they arrive.
//! * [`spans`]: requests as spans, for a collector.
//! * [`process`]: the parts together, and the order in which they stop.

mod args;
mod connector;
mod doors;
mod error;
mod identity;
mod link;
mod metrics;
mod process;
mod replicas;
mod routing;
mod spans;
#[cfg(test)]
mod tests;

pub use args::{FrontArgs, ObserveArgs, ScalerArgs, ServingTlsArgs};
pub use error::FrontError;
pub use process::run;
