//! The time of decisions. Everything that decides gets it from here, so that tests can turn it.

use jiff::Timestamp;
use maniple_core::decision::Now;
use std::sync::atomic::{AtomicI64, Ordering};
use tokio::time::Instant;

/// Tells both clocks at once.
pub trait Clock: Send + Sync + 'static {
    /// The present time.
    fn now(&self) -> Now;
}

/// The clocks of the machine.
#[derive(Debug)]
pub struct SystemClock {
    start: Instant,
}

impl Default for SystemClock {
    fn default() -> Self {
        Self {
            start: Instant::now(),
        }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Now {
        Now {
            wall: Timestamp::now(),
            mono: self.start.elapsed(),
        }
    }
}

/// A wall clock that begins where it is told to, runs with tokio's clock (also while that is paused) and can be set.
#[derive(Debug)]
pub struct SettableClock {
    begin: Timestamp,
    start: Instant,
    offset_ms: AtomicI64,
}

impl SettableClock {
    /// Begins at `begin`.
    pub fn new(begin: Timestamp) -> Self {
        Self {
            begin,
            start: Instant::now(),
            offset_ms: AtomicI64::new(0),
        }
    }

    /// Moves the wall clock by so many milliseconds, forward or back. The other clock runs on.
    pub fn step(&self, milliseconds: i64) {
        self.offset_ms.fetch_add(milliseconds, Ordering::SeqCst);
    }
}

impl Clock for SettableClock {
    fn now(&self) -> Now {
        let mono = self.start.elapsed();
        let offset = jiff::SignedDuration::from_millis(self.offset_ms.load(Ordering::SeqCst));
        let wall = self
            .begin
            .checked_add(mono)
            .and_then(|wall| wall.checked_add(offset));
        Now {
            wall: wall.unwrap_or(self.begin),
            mono,
        }
    }
}
