//! The other processes that the operator asks.

pub mod host;
pub mod scaler;
