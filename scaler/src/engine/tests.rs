//! The engine with sources and a cluster that are played by hand, on tokio's paused clock.

mod bench;
mod leadership;
mod native;
mod queues;
mod rest;
mod timers;
