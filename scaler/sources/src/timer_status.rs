//! The status that the Functions host writes after each run of a timer.
//!
//! Only the bytes are fetched here; path and meaning are those of [`ScheduleStatus`].

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use maniple_core::timer::ScheduleStatus;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::gate::Gate;
use crate::metrics::SourceMetrics;
use crate::observation::Observation;
use crate::poller::{self, Pace, Polled, Shared, Source};
use crate::storage::{Account, BlobClient, ConnectionError, StorageError, StorageHttp};

/// The container in which the host keeps its state.
pub const HOST_CONTAINER: &str = "azure-webjobs-hosts";

/// Longest pause after failures while the caller wants it faster than that anyway.
const MAX_ERROR_PAUSE: Duration = Duration::from_secs(30);

/// What was found at the place of the status blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TimerStatus {
    /// There is a blob.
    Present {
        /// Its bytes, for [`ScheduleStatus::parse`].
        content: Bytes,
        /// Version tag; changes with every write, also of the same bytes.
        etag: String,
    },
    /// There is none: the function has never been started, or its schedule has no persistence.
    Missing,
}

/// Reads the status of one timer function.
#[derive(Clone)]
pub struct TimerStatusSource {
    client: BlobClient,
    path: String,
}

impl TimerStatusSource {
    /// A source for a timer function. `account` is the blob service of the app's `AzureWebJobsStorage`.
    pub fn new(
        http: &StorageHttp,
        account: &Account,
        host_id: &str,
        function: &str,
    ) -> Result<Self, ConnectionError> {
        Ok(Self {
            client: BlobClient::new(http, account, HOST_CONTAINER)?,
            path: ScheduleStatus::blob_path(host_id, function),
        })
    }

    /// Name of the blob below the container.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Reads it once.
    pub async fn read(&self) -> Result<TimerStatus, StorageError> {
        match self.client.get(&self.path).await {
            Ok(blob) => Ok(TimerStatus::Present {
                content: blob.content,
                etag: blob.etag,
            }),
            Err(error) if error.is_missing_blob() => Ok(TimerStatus::Missing),
            Err(error) => Err(error),
        }
    }
}

impl Source for TimerStatusSource {
    type Reading = TimerStatus;
    const KIND: &'static str = "timer_status";

    async fn poll(&self) -> Result<Polled<TimerStatus>, StorageError> {
        self.read().await.map(Polled::from)
    }
}

/// The caller's interval, and doubling pauses after failures.
struct WatchPace {
    interval_ms: Arc<AtomicU64>,
    failures: u32,
}

impl<R> Pace<R> for WatchPace {
    fn kicked(&mut self, _now: Instant) {
        self.failures = 0;
    }

    fn pause(&mut self, result: &Result<R, StorageError>, _now: Instant, random: f64) -> Duration {
        let interval = Duration::from_millis(self.interval_ms.load(Ordering::Relaxed));
        // Up to a tenth earlier, so that many watches with one interval do not fall together.
        let interval = interval.mul_f64(1.0 - random / 10.0);
        if result.is_ok() {
            self.failures = 0;
            return interval;
        }
        self.failures = self.failures.saturating_add(1);
        let backoff = Duration::from_secs(1 << self.failures.min(6).saturating_sub(1));
        interval.max(backoff.min(MAX_ERROR_PAUSE))
    }
}

/// A running watch of one timer status. Dropping it ends the watch.
pub struct TimerStatusWatch {
    receiver: watch::Receiver<Arc<Observation<TimerStatus>>>,
    shared: Arc<Shared<TimerStatus>>,
    interval_ms: Arc<AtomicU64>,
    _stop_on_drop: DropGuard,
}

impl TimerStatusWatch {
    /// Starts reading every `interval` (in the current tokio runtime), for the first time at once.
    pub fn spawn(
        source: TimerStatusSource,
        interval: Duration,
        gate: &Gate,
        metrics: SourceMetrics,
    ) -> Self {
        let stop = CancellationToken::new();
        let shared = Shared::new();
        let interval_ms = Arc::new(AtomicU64::new(millis(interval)));
        let result = Self {
            receiver: shared.sender.subscribe(),
            shared: shared.clone(),
            interval_ms: interval_ms.clone(),
            _stop_on_drop: stop.clone().drop_guard(),
        };
        let pace = WatchPace {
            interval_ms,
            failures: 0,
        };
        let account = gate.account(source.client.endpoint());
        tokio::spawn(poller::run(
            source,
            pace,
            shared,
            account,
            metrics,
            stop,
            || true,
        ));
        result
    }

    /// The present knowledge.
    pub fn latest(&self) -> Arc<Observation<TimerStatus>> {
        self.receiver.borrow().clone()
    }

    /// Waits until the outcome changes.
    pub async fn changed(&mut self) -> Option<Arc<Observation<TimerStatus>>> {
        self.receiver.changed().await.ok()?;
        Some(self.receiver.borrow_and_update().clone())
    }

    /// The channel itself, for joining with others.
    pub fn receiver(&self) -> watch::Receiver<Arc<Observation<TimerStatus>>> {
        self.receiver.clone()
    }

    /// Sets how often to read: a second while an instance is awake, minutes while none is. A shorter interval also reads at once.
    pub fn set_interval(&self, interval: Duration) {
        let interval = millis(interval);
        if interval < self.interval_ms.swap(interval, Ordering::Relaxed) {
            self.kick();
        }
    }

    /// Reads at once.
    pub fn kick(&self) {
        self.shared.kick.notify_one();
    }
}

fn millis(interval: Duration) -> u64 {
    u64::try_from(interval.as_millis())
        .unwrap_or(u64::MAX)
        .max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_follow_the_interval_and_failures() {
        let interval_ms = Arc::new(AtomicU64::new(1000));
        let mut pace = WatchPace {
            interval_ms: interval_ms.clone(),
            failures: 0,
        };
        let now = Instant::now();
        let failed = || {
            Err::<(), _>(StorageError::Unreachable {
                place: Box::new(crate::storage::Place {
                    operation: crate::storage::Operation::BlobGet,
                    account: "a".to_owned(),
                    resource: "blob 'x'".to_owned(),
                }),
                reason: "gone".to_owned(),
            })
        };
        assert_eq!(
            pace.pause(&Ok::<(), _>(()), now, 0.0),
            Duration::from_secs(1)
        );
        assert_eq!(
            pace.pause(&Ok::<(), _>(()), now, 1.0),
            Duration::from_millis(900)
        );
        let pauses: Vec<_> = (0..7)
            .map(|_| pace.pause(&failed(), now, 0.0).as_secs())
            .collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30]);
        interval_ms.store(300_000, Ordering::Relaxed);
        assert_eq!(pace.pause(&failed(), now, 0.0), Duration::from_mins(5));
    }
}
