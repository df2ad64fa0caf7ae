//! Storage queues as an event source.
//!
//! The number that counts is the approximate message count, with the peek rule of the Azure Functions storage extension
//! (`QueueMetricsProvider`): when nothing is visible, there is nothing that a new instance could take, so the backlog is 0 even if messages
//! are being processed or delayed.

use crate::cadence::{Cadence, Seen};
use crate::poller::{Pace, Source};
use crate::storage::{
    Account, ConnectionError, PeekedMessage, QueueClient, Service, Settings, StorageError,
    StorageHttp,
};

/// A queue to poll.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct QueueTarget {
    /// Where and with which credential.
    pub account: Account,
    /// Queue name (any case, `%settings%` already resolved).
    pub queue: String,
}

impl QueueTarget {
    /// The queue that a queue trigger means.
    pub fn resolve(
        settings: &Settings,
        connection: Option<&str>,
        queue: &str,
    ) -> Result<Self, ConnectionError> {
        Ok(Self {
            account: Account::resolve(settings, connection, Service::Queue)?,
            queue: queue.to_lowercase(),
        })
    }
}

/// How a backlog was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Basis {
    /// The count is 0.
    Empty,
    /// There is a visible message.
    Visible,
    /// The count is above 0 but no message is visible: all are being processed, delayed, or the count is stale.
    NothingVisible,
    /// The count is known, the peek failed; the count is used as it is.
    PeekFailed(StorageError),
    /// The queue does not exist, so it holds nothing. It is polled further: whoever puts the first message creates it.
    QueueMissing,
}

/// What waits in a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backlog {
    /// Messages that count for scaling.
    pub messages: u64,
    /// The approximate count of the service, messages being processed included.
    pub approximate: u64,
    /// How `messages` was found.
    pub basis: Basis,
}

/// Applies the peek rule. `peek` is only asked for when it matters.
///
/// Where the original answers 0 on every failed count, this fails: unknown is not zero. Only a queue that certainly does not exist is empty.
pub async fn backlog(
    count: Result<u64, StorageError>,
    peek: impl Future<Output = Result<Option<PeekedMessage>, StorageError>>,
) -> Result<Backlog, StorageError> {
    let approximate = match count {
        Ok(count) => count,
        Err(error) if error.is_missing_queue() => {
            return Ok(Backlog {
                messages: 0,
                approximate: 0,
                basis: Basis::QueueMissing,
            });
        }
        Err(error) => return Err(error),
    };
    let (messages, basis) = if approximate == 0 {
        (0, Basis::Empty)
    } else {
        match peek.await {
            Ok(Some(_)) => (approximate, Basis::Visible),
            Ok(None) => (0, Basis::NothingVisible),
            Err(error) => (approximate, Basis::PeekFailed(error)),
        }
    };
    Ok(Backlog {
        messages,
        approximate,
        basis,
    })
}

/// Polls one queue.
#[derive(Clone)]
pub struct StorageQueueSource {
    client: QueueClient,
}

impl StorageQueueSource {
    /// A source for `target`.
    pub fn new(http: &StorageHttp, target: &QueueTarget) -> Result<Self, ConnectionError> {
        Ok(Self {
            client: QueueClient::new(http, &target.account, &target.queue)?,
        })
    }

    /// Reads the backlog once: one request for an empty queue, two otherwise.
    pub async fn poll(&self) -> Result<Backlog, StorageError> {
        backlog(self.client.approximate_count().await, self.client.peek()).await
    }
}

impl Source for StorageQueueSource {
    type Reading = Backlog;
    const KIND: &'static str = "storage_queue";

    fn poll(&self) -> impl Future<Output = Result<Backlog, StorageError>> + Send {
        Self::poll(self)
    }

    fn partial_failure(reading: &Backlog) -> Option<&StorageError> {
        match &reading.basis {
            Basis::PeekFailed(error) => Some(error),
            _ => None,
        }
    }
}

impl Pace<Backlog> for Cadence {
    fn kicked(&mut self, now: std::time::Instant) {
        self.wake(now);
    }

    fn pause(
        &mut self,
        result: &Result<Backlog, StorageError>,
        now: std::time::Instant,
        random: f64,
    ) -> std::time::Duration {
        let seen = match result {
            // Messages in work count as busy: the next ones are likely soon.
            Ok(backlog) if backlog.approximate > 0 => Seen::Busy,
            // Throttled: the whole account waits already, and its pollers are stretched.
            Ok(_) | Err(StorageError::Throttled { .. }) => Seen::Idle,
            Err(_) => Seen::Failed,
        };
        Cadence::pause(self, seen, now, random)
    }
}
