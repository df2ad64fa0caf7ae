//! The front end over real sockets, with real instances that count their concurrency.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod client;
mod cluster;
mod cold;
mod concurrency;
mod failures;
mod hostile;
mod instance;
mod records;
mod retries;
mod shapes;
mod streams;
mod tls;
