//! The engine with sources and a cluster that are played by hand, on tokio's paused clock.

mod bench;
mod cluster;
mod leadership;
mod native;
mod queues;
mod requests;
mod rest;
mod timers;
