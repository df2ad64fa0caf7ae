//! The books of the data role, rule by rule.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod departures;
mod gauge;
mod lending;
mod stranded;
mod support;
