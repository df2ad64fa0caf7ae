//! The other processes that the operator asks.

mod body;
pub mod host;
pub mod scaler;
