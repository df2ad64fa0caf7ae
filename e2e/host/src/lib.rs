//! A stand-in for the Azure Functions host.
//!
//! This is **not** the Azure Functions host. It plays the parts of its behaviour that were recorded from the real
//! host (admin API, drain, HTTP routes, storage queue listener, timers, locks), so that suites can run where the
//! real one is not to be had. Every response carries the header [`STANDIN_HEADER`]. See the README beside this crate.

pub mod activity;
pub mod app;
pub mod auth;
pub mod cores;
pub mod environment;
pub mod fault;
pub mod function;
pub mod generation;
pub mod group;
pub mod hex;
pub mod host;
pub mod host_id;
pub mod host_json;
pub mod http;
pub mod invoke;
pub mod lifecycle;
pub mod listeners;
pub mod settings;
pub mod storage;
pub mod sync;
pub mod time_span;
pub mod work;

/// Response header that says that this is not the real host.
pub const STANDIN_HEADER: &str = "x-function-host-standin";

/// The version of the real host whose recorded behaviour is played.
pub const PLAYED_VERSION: &str = "4.1037.0";
