//! Event sources: the I/O side of scaling.
//!
//! A *source* reads one place where events wait (a queue) or where a timer leaves its state (a blob), and turns it into plain values:
//! counts, bytes, errors with a stable category. What those values mean for the number of instances is decided elsewhere, by pure code.
//!
//! Rules that every source keeps:
//!
//! - unknown is not zero: a failed read is an error with a category, never an empty backlog;
//! - many subscribers of one place share one poll task ([`registry`]), and a throttled account slows down all of its sources ([`gate`]);
//! - secrets never appear in `Debug` output, errors, logs or metrics.

// Without any source only the storage client is left.
#![cfg_attr(
    not(any(feature = "storage-queue", feature = "timer")),
    allow(dead_code)
)]

pub mod cadence;
pub mod gate;
pub mod metrics;
pub mod observation;
mod poller;
pub mod secret;
pub mod storage;

#[cfg(feature = "timer")]
pub mod concurrency_snapshot;
#[cfg(feature = "storage-queue")]
pub mod registry;
#[cfg(feature = "storage-queue")]
pub mod storage_queue;
#[cfg(feature = "timer")]
pub mod timer_status;
