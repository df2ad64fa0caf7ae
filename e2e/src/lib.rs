//! A real Kubernetes cluster on one machine, made from module registries alone, and what the suites need to use it.
//!
//! [`cluster::Cluster`] is the entry point: `Cluster::connect()` finds the cluster that a suite should use, and for a
//! cluster of our own it can stop, kill and start each part. [`image`] makes container images without a registry.

pub mod bench;
pub mod cluster;
pub mod demo;
pub mod front_alone;
pub mod helm;
pub mod image;
pub mod platform;
pub mod suite;
