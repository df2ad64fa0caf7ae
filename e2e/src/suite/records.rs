//! What the stand-in wrote of its runs, collected from its results queue.

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use maniple_sources::storage::QueueClient;
use serde::Deserialize;
use std::time::Duration;

/// One run of a function.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// `queue` or `timer`.
    pub kind: String,
    /// Function that ran.
    pub function: String,
    /// Pod that ran it.
    pub instance: String,
    /// Text of the message; only of queues.
    #[serde(default)]
    pub body: String,
    /// Due time; only of timers.
    pub due: Option<Timestamp>,
    /// True when a timer ran because a run was missed.
    #[serde(default)]
    pub is_past_due: bool,
    /// When the run began.
    pub started: Timestamp,
    /// `succeeded`, `failed` or `poison`.
    pub outcome: String,
}

impl Record {
    /// True for a message that was worked on without an error.
    pub fn is_done_message(&self) -> bool {
        self.kind == "queue" && self.outcome == "succeeded"
    }
}

/// All records so far.
pub struct Records {
    queue: QueueClient,
    /// In the order in which they were read.
    pub seen: Vec<Record>,
}

impl Records {
    /// Collects from this queue.
    pub fn from(queue: QueueClient) -> Self {
        Self {
            queue,
            seen: Vec::new(),
        }
    }

    /// Reads what has come since the last call.
    ///
    /// # Errors
    /// When the account does not answer or a record cannot be read.
    pub async fn read(&mut self) -> Result<()> {
        loop {
            let messages = self.queue.get_messages(Duration::from_secs(60), 32).await?;
            if messages.is_empty() {
                return Ok(());
            }
            for message in messages {
                let record = serde_json::from_str(&message.message_text)
                    .with_context(|| format!("a record: {}", message.message_text))?;
                self.queue.delete_message(&message.receipt()).await?;
                self.seen.push(record);
            }
        }
    }

    /// Reads until `enough` holds.
    ///
    /// # Errors
    /// After `limit`, with the number of records so far. Errors of the account are tried again.
    pub async fn until(
        &mut self,
        what: &str,
        limit: Duration,
        enough: impl Fn(&[Record]) -> bool,
    ) -> Result<()> {
        let started = std::time::Instant::now();
        loop {
            let result = self.read().await;
            if enough(&self.seen) {
                return Ok(());
            }
            if started.elapsed() > limit {
                result?;
                anyhow::bail!(
                    "waited {} s for {what}; {} records so far",
                    limit.as_secs(),
                    self.seen.len()
                );
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}
