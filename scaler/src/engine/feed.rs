//! Where the engine gets its observations from. Behind a trait, because tests play the sources themselves.

use crate::index::SnapshotPlan;
use maniple_sources::cadence::CadenceOptions;
use maniple_sources::concurrency_snapshot::ConcurrencySnapshotSource;
use maniple_sources::gate::Gate;
use maniple_sources::metrics::SourceMetrics;
use maniple_sources::observation::{LastRead, Observation, Outcome, SourceError};
use maniple_sources::registry::{QueueRegistry, QueueSubscription};
use maniple_sources::storage::{Account, ConnectionError, StorageHttp};
use maniple_sources::storage_queue::{QueueReading, QueueTarget};
use maniple_sources::timer_status::{TimerStatus, TimerStatusSource, TimerStatusWatch};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_util::task::AbortOnDropHandle;

/// How often the snapshot of dynamic concurrency is read. Hosts write it every 10 s.
const SNAPSHOT_INTERVAL: Duration = Duration::from_secs(30);

/// Shortest [`Feed::max_age`]: several reads of even a slow source fit into it.
pub(super) const MAX_AGE: Duration = Duration::from_mins(3);

/// What a feed says from time to time.
pub type Observations<R> = watch::Receiver<Arc<Observation<R>>>;

/// A running reading of one place. Dropping it ends it.
pub struct Feed<R> {
    /// What is seen. A closed channel means that nobody reads any more.
    pub observations: Observations<R>,
    /// Age above which a reading is no longer believed: whoever should read again hangs.
    pub max_age: Duration,
    /// The way back.
    pub control: Box<dyn Control>,
}

/// The way back to a feed.
pub trait Control: Send {
    /// How often to read from now on, where that can be chosen. A shorter interval also reads at once.
    fn set_interval(&self, _interval: Duration) {}
}

/// Opens feeds.
pub trait Feeds: Send + 'static {
    /// Reads a queue.
    ///
    /// # Errors
    /// When the place can never be read.
    fn queue(&self, target: &QueueTarget) -> Result<Feed<QueueReading>, ConnectionError>;

    /// Reads the status of a timer.
    ///
    /// # Errors
    /// When the place can never be read.
    fn timer(
        &self,
        account: &Account,
        host_id: &str,
        function: &str,
    ) -> Result<Feed<TimerStatus>, ConnectionError>;

    /// Reads the snapshot of dynamic concurrency; `None` when there is none.
    ///
    /// # Errors
    /// When the place can never be read.
    fn snapshot(&self, plan: &SnapshotPlan) -> Result<Feed<Option<Vec<u8>>>, ConnectionError>;
}

/// Feeds from Azure Storage.
pub struct StorageFeeds {
    http: StorageHttp,
    gate: Gate,
    queues: QueueRegistry,
    queue_max_age: Duration,
    metrics: SourceMetrics,
}

impl StorageFeeds {
    /// At most `parallel` reads at once; queues are polled by `cadence`.
    pub fn new(
        http: StorageHttp,
        parallel: usize,
        cadence: CadenceOptions,
        metrics: SourceMetrics,
    ) -> Self {
        let gate = Gate::new(parallel);
        // Room for one poll that failed and its repetition.
        let longest = cadence.max_interval.unwrap_or_default();
        let queue_max_age = MAX_AGE.saturating_add(longest.saturating_mul(2));
        Self {
            queues: QueueRegistry::new(http.clone(), gate.clone(), cadence, metrics.clone()),
            queue_max_age,
            http,
            gate,
            metrics,
        }
    }
}

impl Control for QueueSubscription {}

impl Control for TimerStatusWatch {
    fn set_interval(&self, interval: Duration) {
        Self::set_interval(self, interval);
    }
}

impl Control for AbortOnDropHandle<()> {}

impl Feeds for StorageFeeds {
    fn queue(&self, target: &QueueTarget) -> Result<Feed<QueueReading>, ConnectionError> {
        let subscription = self.queues.subscribe(target)?;
        Ok(Feed {
            observations: subscription.receiver(),
            max_age: self.queue_max_age,
            control: Box::new(subscription),
        })
    }

    fn timer(
        &self,
        account: &Account,
        host_id: &str,
        function: &str,
    ) -> Result<Feed<TimerStatus>, ConnectionError> {
        let source = TimerStatusSource::new(&self.http, account, host_id, function)?;
        let watch = TimerStatusWatch::spawn(
            source,
            super::timer::RELAXED,
            &self.gate,
            self.metrics.clone(),
        );
        Ok(Feed {
            observations: watch.receiver(),
            // A status that is not read again still says when to wake.
            max_age: Duration::MAX,
            control: Box::new(watch),
        })
    }

    fn snapshot(&self, plan: &SnapshotPlan) -> Result<Feed<Option<Vec<u8>>>, ConnectionError> {
        let source = ConcurrencySnapshotSource::new(&self.http, &plan.account, &plan.host_id)?;
        let begin = Observation::pending(Instant::now().into_std());
        let (sender, observations) = watch::channel(Arc::new(begin));
        let task = tokio::spawn(async move {
            loop {
                let read = source.read().await;
                let at = Instant::now().into_std();
                sender.send_if_modified(|present| {
                    let next = match &read {
                        Ok(content) => {
                            let reading = content.as_ref().map(|bytes| bytes.to_vec());
                            Observation {
                                outcome: Outcome::Read(reading.clone()),
                                at,
                                last_ok: Some(LastRead { reading, at }),
                            }
                        }
                        Err(error) => Observation {
                            outcome: Outcome::Failed(SourceError::from(error)),
                            at,
                            last_ok: present.last_ok.clone(),
                        },
                    };
                    let changed = next.outcome != present.outcome;
                    *present = Arc::new(next);
                    changed
                });
                sleep(SNAPSHOT_INTERVAL).await;
            }
        });
        Ok(Feed {
            observations,
            // Without a newer one the last snapshot counts.
            max_age: Duration::MAX,
            control: Box::new(AbortOnDropHandle::new(task)),
        })
    }
}
