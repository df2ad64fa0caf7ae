//! Shared polling: many functions may wait for the same queue, one task polls it.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::cadence::{Cadence, CadenceOptions};
use crate::gate::{Gate, now};
use crate::metrics::SourceMetrics;
use crate::observation::Observation;
use crate::poller::{self, Shared};
use crate::storage::{ConnectionError, StorageHttp};
use crate::storage_queue::{QueueReading, QueueTarget, StorageQueueSource};

/// What is known about a queue.
pub type QueueObservation = Observation<QueueReading>;

/// All polled queues of a process. Clones share them; dropping the last clone ends all polling.
#[derive(Clone)]
pub struct QueueRegistry {
    inner: Arc<Inner>,
}

struct Inner {
    http: StorageHttp,
    gate: Gate,
    cadence: CadenceOptions,
    metrics: SourceMetrics,
    /// Keyed by address, queue and credential: different credentials never share a poller, as one of them may be wrong.
    /// A task holds the strong reference, so an entry whose task is gone is replaced.
    queues: Mutex<HashMap<QueueTarget, Weak<Shared<QueueReading>>>>,
    stop: CancellationToken,
    _stop_on_drop: DropGuard,
}

impl QueueRegistry {
    /// A registry whose pollers use these limits.
    pub fn new(
        http: StorageHttp,
        gate: Gate,
        cadence: CadenceOptions,
        metrics: SourceMetrics,
    ) -> Self {
        let stop = CancellationToken::new();
        Self {
            inner: Arc::new(Inner {
                http,
                gate,
                cadence,
                metrics,
                queues: Mutex::new(HashMap::new()),
                _stop_on_drop: stop.clone().drop_guard(),
                stop,
            }),
        }
    }

    /// Subscribes to a queue; the first subscriber starts its poller (in the current tokio runtime), which polls at once.
    ///
    /// # Errors
    ///
    /// A name or address that can never work. Failures of polling are observations.
    pub fn subscribe(&self, target: &QueueTarget) -> Result<QueueSubscription, ConnectionError> {
        let mut queues = self.inner.queues.lock();
        if let Some(shared) = queues.get(target).and_then(Weak::upgrade) {
            return Ok(QueueSubscription::new(&shared));
        }
        let source = StorageQueueSource::new(&self.inner.http, target)?;
        let shared = Shared::new();
        let subscription = QueueSubscription::new(&shared);
        queues.insert(target.clone(), Arc::downgrade(&shared));
        drop(queues);

        let registry = Arc::downgrade(&self.inner);
        let retire = {
            let (target, shared) = (target.clone(), Arc::downgrade(&shared));
            move || retire(&registry, &target, &shared)
        };
        tokio::spawn(poller::run(
            source,
            Cadence::new(self.inner.cadence.clone(), now()),
            shared,
            self.inner.gate.account(&target.account.endpoint),
            self.inner.metrics.clone(),
            self.inner.stop.clone(),
            retire,
        ));
        Ok(subscription)
    }

    /// Number of polled queues.
    pub fn len(&self) -> usize {
        self.inner.queues.lock().len()
    }

    /// Whether nothing is polled.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Decides under the lock of the registry whether a poller without subscribers ends, so that nobody subscribes to a poller that is ending.
fn retire(
    registry: &Weak<Inner>,
    target: &QueueTarget,
    shared: &Weak<Shared<QueueReading>>,
) -> bool {
    let Some(registry) = registry.upgrade() else {
        return true;
    };
    let mut queues = registry.queues.lock();
    if shared
        .upgrade()
        .is_some_and(|shared| shared.sender.receiver_count() > 0)
    {
        return false;
    }
    if queues
        .get(target)
        .is_some_and(|present| present.ptr_eq(shared))
    {
        queues.remove(target);
    }
    true
}

/// A subscription to one queue. When the last one of a queue is dropped, its poller ends.
#[derive(Clone)]
pub struct QueueSubscription {
    receiver: watch::Receiver<Arc<QueueObservation>>,
    shared: Weak<Shared<QueueReading>>,
}

impl QueueSubscription {
    fn new(shared: &Arc<Shared<QueueReading>>) -> Self {
        Self {
            receiver: shared.sender.subscribe(),
            shared: Arc::downgrade(shared),
        }
    }

    /// The present knowledge.
    pub fn latest(&self) -> Arc<QueueObservation> {
        self.receiver.borrow().clone()
    }

    /// Waits until the outcome changes (a repeated equal outcome only moves its time). `None` when polling has ended.
    pub async fn changed(&mut self) -> Option<Arc<QueueObservation>> {
        self.receiver.changed().await.ok()?;
        Some(self.receiver.borrow_and_update().clone())
    }

    /// The channel itself, for joining with others.
    pub fn receiver(&self) -> watch::Receiver<Arc<QueueObservation>> {
        self.receiver.clone()
    }

    /// Polls at once and fast for a while: somebody expects messages. A throttled account is not asked earlier.
    pub fn kick(&self) {
        if let Some(shared) = self.shared.upgrade() {
            shared.kick.notify_one();
        }
    }
}
