//! The operator: turns every FunctionApp into one Deployment for each function group, with what belongs to it, and shows in
//! its status what came of it.
//!
//! Reconciling is a pipeline (`controller/function_app`): dereference (I/O) -> validate (pure) -> build (pure) -> apply (I/O)
//! -> status. `ports` holds the other processes that it asks: the hosts and the scaler. `certificates` are those by which front
//! ends and scaler know each other.

pub mod args;
pub mod certificates;
pub mod controller;
pub mod metrics;
pub mod ports;
mod text;
