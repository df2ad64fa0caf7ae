//! KEDA's external scaler protocol, answered from memory.
//!
//! The service asks a [`DecisionBook`] and nothing else, so every answer is ready within microseconds: KEDA sets no
//! deadline on these calls and a hung one would hold up the polling and the wake-ups of its ScaledObject. What
//! is not known is an error and never 0, because on an error KEDA changes nothing.

mod book;
mod error;
mod incoming;
mod metrics;
mod port;
mod push;
mod server;
mod service;
mod slots;
mod tls;

pub use book::{Answer, DecisionBook, GroupRef, METRIC_NAME};
pub use error::GrpcError;
pub use server::{GrpcArgs, GrpcServer};
pub use slots::{SlotsArgs, SlotsServer};
pub use tls::TlsFiles;
