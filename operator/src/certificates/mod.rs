//! The certificates by which front ends and scaler know each other: made, renewed and replaced by the operator that leads.
//!
//! A CA in a Secret of its own signs one certificate for each side. The Secret of a side holds its certificate and key, and the CAs
//! that it trusts, so that pods need no more than that one (docs/adr/0012-certificates-made-by-the-operator.md).
//!
//! * [`settings`]: names and times.
//! * [`found`]: what the Secrets hold, judged as the two sides judge it when they shake hands.
//! * [`plan`]: the next step, pure.
//! * [`issue`]: new keys and certificates.
//! * [`settle`]: step after step; [`keep`]: again and again.
//! * [`store`]: where the Secrets are.

mod error;
mod found;
mod issue;
mod keep;
mod plan;
mod settings;
mod settle;
mod store;
#[cfg(test)]
mod tests;

pub use error::Error;
pub use keep::keep;
pub use settings::{CertificateArgs, Settings, Times};
pub use store::{ClusterSecrets, Store};
