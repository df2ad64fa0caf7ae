//! Storage queues as an event source.
//!
//! Fetches the two answers that the backlog follows from; the rule itself (nothing visible is a backlog of zero, a failed peek leaves the
//! count, unknown is not zero) is [`maniple_core::queue::backlog`].

use std::time::{Duration, Instant};

use maniple_core::queue::{self, BacklogNote, Peek, Properties};

use crate::cadence::{Cadence, Seen};
use crate::poller::{Pace, Polled, Source};
use crate::storage::{
    Account, ConnectionError, QueueClient, Service, Settings, StorageError, StorageHttp,
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

/// What waits in a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueReading {
    /// Messages that count for scaling.
    pub backlog: u64,
    /// The approximate count of the service, messages in work and delayed ones included. 0 when there is no such queue.
    pub approximate: u64,
    /// What is special about the backlog.
    pub note: Option<BacklogNote>,
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
    pub async fn poll(&self) -> Result<QueueReading, StorageError> {
        Ok(self.read().await?.reading)
    }

    async fn read(&self) -> Result<Polled<QueueReading>, StorageError> {
        let (properties, approximate) = match self.client.approximate_count().await {
            Ok(count) => (Properties::Count(count), count),
            // Only this answer says that the account was reached and has no such queue. It is polled further: whoever puts the first
            // message creates it.
            Err(error) if error.is_missing_queue() => (Properties::NotFound, 0),
            Err(error) => return Err(error),
        };
        let mut partial_failure = None;
        let peek = if properties.needs_peek() {
            Some(match self.client.peek().await {
                Ok(Some(_)) => Peek::Visible,
                Ok(None) => Peek::Empty,
                Err(error) => {
                    let text = error.to_string();
                    partial_failure = Some(error);
                    Peek::Failed(text)
                }
            })
        } else {
            None
        };
        let queue::Backlog::Known { count, note } = queue::backlog(&properties, peek.as_ref())
        else {
            unreachable!("only failed properties have an unknown backlog, and they have returned");
        };
        Ok(Polled {
            reading: QueueReading {
                backlog: count,
                approximate,
                note,
            },
            partial_failure,
        })
    }
}

impl Source for StorageQueueSource {
    type Reading = QueueReading;
    const KIND: &'static str = "storage_queue";

    fn poll(&self) -> impl Future<Output = Result<Polled<QueueReading>, StorageError>> + Send {
        self.read()
    }
}

impl Pace<QueueReading> for Cadence {
    fn kicked(&mut self, now: Instant) {
        self.wake(now);
    }

    fn pause(
        &mut self,
        result: &Result<QueueReading, StorageError>,
        now: Instant,
        random: f64,
    ) -> Duration {
        let seen = match result {
            // Messages in work count as busy: the next ones are likely soon.
            Ok(reading) if reading.approximate > 0 => Seen::Busy,
            // Throttled: the whole account waits already, and its pollers are stretched.
            Ok(_) | Err(StorageError::Throttled { .. }) => Seen::Idle,
            Err(_) => Seen::Failed,
        };
        Cadence::pause(self, seen, now, random)
    }
}
