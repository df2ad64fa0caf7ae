//! The loop that all polled sources share.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::gate::{AccountGate, now};
use crate::metrics::SourceMetrics;
use crate::observation::{Observation, SourceError};
use crate::storage::StorageError;

/// Something that can be read again and again.
pub(crate) trait Source: Send + Sync + 'static {
    /// What one read yields.
    type Reading: Clone + PartialEq + Send + Sync + 'static;
    /// Name of the kind of source in metrics.
    const KIND: &'static str;

    /// Reads it once.
    fn poll(&self) -> impl Future<Output = Result<Polled<Self::Reading>, StorageError>> + Send;
}

/// A read that succeeded.
pub(crate) struct Polled<R> {
    pub(crate) reading: R,
    /// A request that failed on the way but did not make the read fail.
    pub(crate) partial_failure: Option<StorageError>,
}

impl<R> From<R> for Polled<R> {
    fn from(reading: R) -> Self {
        Self {
            reading,
            partial_failure: None,
        }
    }
}

/// When to read again.
pub(crate) trait Pace<R>: Send + 'static {
    /// Somebody asked for a read now.
    fn kicked(&mut self, now: Instant);
    /// The pause after a read. `random` is in 0..1.
    fn pause(&mut self, result: &Result<R, StorageError>, now: Instant, random: f64) -> Duration;
}

/// What a poll task and its subscribers share.
pub(crate) struct Shared<R> {
    pub(crate) sender: watch::Sender<Arc<Observation<R>>>,
    pub(crate) kick: Notify,
}

impl<R: Clone> Shared<R> {
    pub(crate) fn new() -> Arc<Self> {
        let (sender, _) = watch::channel(Arc::new(Observation::pending(now())));
        Arc::new(Self {
            sender,
            kick: Notify::new(),
        })
    }
}

/// Polls until `stop` or until nobody subscribes and `retire` agrees to end.
pub(crate) async fn run<S: Source>(
    source: S,
    mut pace: impl Pace<S::Reading>,
    shared: Arc<Shared<S::Reading>>,
    gate: AccountGate,
    metrics: SourceMetrics,
    stop: CancellationToken,
    retire: impl Fn() -> bool,
) {
    let _running = metrics.poller_started(S::KIND);
    let mut suspect = false;
    loop {
        let result = tokio::select! {
            () = stop.cancelled() => return,
            () = shared.sender.closed() => {
                if retire() {
                    return;
                }
                continue;
            }
            result = read(&source, &gate, suspect) => result,
        };
        let outcome = result
            .as_ref()
            .map_or_else(StorageError::category, |_| "ok");
        metrics.poll(S::KIND, outcome);
        suspect = result.as_ref().is_err_and(StorageError::is_slow);
        let pause = pace.pause(&result, now(), fastrand::f64());
        publish(
            &shared.sender,
            result.as_ref().map_err(SourceError::from).cloned(),
        );

        let wait = tokio::time::sleep(pause.saturating_mul(gate.stretch()));
        tokio::select! {
            () = stop.cancelled() => return,
            () = shared.sender.closed() => {
                if retire() {
                    return;
                }
            }
            () = shared.kick.notified() => pace.kicked(now()),
            () = wait => {}
        }
    }
}

async fn read<S: Source>(
    source: &S,
    gate: &AccountGate,
    suspect: bool,
) -> Result<S::Reading, StorageError> {
    let _place = gate.enter(suspect).await;
    match source.poll().await {
        Ok(polled) => {
            polled
                .partial_failure
                .iter()
                .for_each(|error| gate.report(error));
            Ok(polled.reading)
        }
        Err(error) => {
            gate.report(&error);
            Err(error)
        }
    }
}

/// Stores every observation, but wakes the subscribers only when it says something else than the one before.
fn publish<R: Clone + PartialEq>(
    sender: &watch::Sender<Arc<Observation<R>>>,
    result: Result<R, SourceError>,
) {
    sender.send_if_modified(|present| {
        let next = present.next(result, now());
        let changed = next.outcome != present.outcome;
        *present = Arc::new(next);
        changed
    });
}
