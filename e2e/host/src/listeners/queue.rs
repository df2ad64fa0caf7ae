//! The storage queue listener, by the rules of the storage extension: batches, renewed invisibility, poison queue,
//! exponential pauses while the queue is empty.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use maniple_sources::storage::{QueueClient, QueueMessage, Receipt};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::{Listening, record};
use crate::activity::Outcome;
use crate::function::Trigger;
use crate::invoke::InvokeError;
use crate::storage::persist;
use crate::work::{Input, QueueInput};

/// How long a fetched message is invisible. A constant of the extension, prolonged at half.
const INVISIBLE: Duration = Duration::from_mins(10);

/// Shortest pause between two looks into an empty queue.
const MIN_PAUSE: Duration = Duration::from_millis(100);

/// How long to wait before a listener that could not start is started again.
const RESTART_PAUSE: Duration = Duration::from_secs(5);

/// Longest text of a message that is repeated in its record, in characters.
const MAX_RECORDED: usize = 1024;

struct Queues {
    own: QueueClient,
    poison: QueueClient,
    invisible: Duration,
}

pub(super) async fn listen(listening: Listening) {
    let queues = loop {
        match open(&listening) {
            Ok(queues) => break Arc::new(queues),
            Err(error) => listening.report("starting", None, Some(error)),
        }
        if !listening.pause(RESTART_PAUSE).await {
            return;
        }
    };
    let options = &listening.host.queues;
    let mut pauses = Pauses::new(options.max_polling_interval);
    let mut running = JoinSet::new();
    listening.report("listening", None, None);
    while !listening.generation.stop.is_cancelled() {
        // A request that was sent is never given up: the messages in its answer would stay invisible for long.
        match queues
            .own
            .get_messages(queues.invisible, options.batch_size)
            .await
        {
            Ok(messages) if !messages.is_empty() => {
                pauses.found();
                for message in messages {
                    running.spawn(process(listening.clone(), Arc::clone(&queues), message));
                }
                while running.len() > options.new_batch_threshold as usize {
                    running.join_next().await;
                }
                continue;
            }
            Ok(_) => listening.report("listening", None, None),
            Err(error) if error.is_missing_queue() => {
                listening.report("listening", None, Some(error.to_string()));
            }
            Err(error) => listening.report("failing", None, Some(error.to_string())),
        }
        // Ended messages free their memory during pauses, too.
        while running.try_join_next().is_some() {}
        if !listening.pause(pauses.next()).await {
            break;
        }
    }
    listening.report("stopping", None, None);
    while running.join_next().await.is_some() {}
    listening.report("stopped", None, None);
}

fn open(listening: &Listening) -> Result<Queues, String> {
    let Trigger::Queue { queue, connection } = &listening.function.trigger else {
        return Err("this is not a queue function".to_owned());
    };
    let client = |name: &str| {
        listening
            .host
            .storage
            .queue(connection, name)
            .map_err(|error| error.to_string())
    };
    let seconds = listening
        .host
        .environment
        .number("STANDIN_INVISIBLE_SECONDS", INVISIBLE.as_secs());
    Ok(Queues {
        own: client(queue)?,
        poison: client(&format!("{queue}-poison"))?,
        invisible: Duration::from_secs(seconds.max(1)),
    })
}

async fn process(listening: Listening, queues: Arc<Queues>, message: QueueMessage) {
    let options = &listening.host.queues;
    let started = Timestamp::now();
    let receipt = Arc::new(Mutex::new(message.receipt()));
    let body = if options.base64 {
        STANDARD.decode(message.message_text.trim()).ok()
    } else {
        Some(message.message_text.clone().into_bytes())
    };
    let record = |outcome: &str| record_of(&message, body.as_deref(), started, outcome);
    let Some(body) = body
        .clone()
        .filter(|_| message.dequeue_count <= options.max_dequeue_count)
    else {
        // Texts that cannot be decoded are never tried.
        move_to_poison(&listening, &queues, &message, &receipt, record("poison")).await;
        return;
    };

    let input = Input::Queue(QueueInput {
        message_id: message.message_id.clone(),
        body,
        dequeue_count: message.dequeue_count,
    });
    let renewal = tokio::spawn(renew(Arc::clone(&queues), Arc::clone(&receipt)));
    let invoked = listening.host.invoke(&listening.function, input).await;
    renewal.abort();
    // The renewal may be between its request and the new receipt.
    let _ = renewal.await;

    match invoked {
        Ok((_, mut running)) => {
            // The run counts as outstanding until its message is gone.
            if let Err(error) = record::write(&listening, record("succeeded")).await {
                tracing::error!(
                    message = message.message_id,
                    "no record, the message comes again: {error}"
                );
                running.finish(Outcome::Failed);
                release(&listening, &queues, &receipt).await;
                return;
            }
            delete(&queues, &receipt).await;
        }
        // A cut message stays invisible until its time is over, and is then delivered again.
        Err(InvokeError::Lost) => {}
        Err(error) => {
            tracing::warn!(
                function = listening.function.name,
                message = message.message_id,
                dequeue_count = message.dequeue_count,
                "{error}"
            );
            if message.dequeue_count >= options.max_dequeue_count {
                move_to_poison(&listening, &queues, &message, &receipt, record("poison")).await;
            } else {
                let _ = record::write(&listening, record("failed")).await;
                release(&listening, &queues, &receipt).await;
            }
        }
    }
}

fn record_of(
    message: &QueueMessage,
    body: Option<&[u8]>,
    started: Timestamp,
    outcome: &str,
) -> Value {
    let text = body.map(String::from_utf8_lossy).unwrap_or_default();
    json!({
        "kind": "queue",
        "messageId": message.message_id,
        "body": text.chars().take(MAX_RECORDED).collect::<String>(),
        "dequeueCount": message.dequeue_count,
        "started": started.to_string(),
        "outcome": outcome,
    })
}

async fn renew(queues: Arc<Queues>, receipt: Arc<Mutex<Receipt>>) {
    loop {
        tokio::time::sleep(queues.invisible / 2).await;
        let held = receipt.lock().clone();
        match queues
            .own
            .update_message(&held, None, queues.invisible)
            .await
        {
            Ok(renewed) => *receipt.lock() = renewed,
            Err(error) => tracing::warn!(message = held.message_id, "not prolonged: {error}"),
        }
    }
}

async fn delete(queues: &Queues, receipt: &Mutex<Receipt>) {
    let held = receipt.lock().clone();
    if let Err(error) = persist(|| queues.own.delete_message(&held)).await {
        tracing::error!(
            message = held.message_id,
            "not deleted, it will come again: {error}"
        );
    }
}

async fn release(listening: &Listening, queues: &Queues, receipt: &Mutex<Receipt>) {
    let held = receipt.lock().clone();
    let visibility = listening.host.queues.visibility_timeout;
    if let Err(error) = persist(|| queues.own.update_message(&held, None, visibility)).await {
        tracing::error!(
            message = held.message_id,
            "not released, it will come again later: {error}"
        );
    }
}

async fn move_to_poison(
    listening: &Listening,
    queues: &Queues,
    message: &QueueMessage,
    receipt: &Mutex<Receipt>,
    record: Value,
) {
    let put = || async {
        match queues
            .poison
            .put_message(&message.message_text, Duration::ZERO)
            .await
        {
            Err(error) if error.is_missing_queue() => {
                queues.poison.create_queue().await?;
                queues
                    .poison
                    .put_message(&message.message_text, Duration::ZERO)
                    .await
            }
            ended => ended,
        }
    };
    if let Err(error) = persist(put).await {
        tracing::error!(
            message = message.message_id,
            "not moved to the poison queue, it will come again: {error}"
        );
        return;
    }
    tracing::warn!(
        message = message.message_id,
        queue = queues.poison.name(),
        "moved to the poison queue"
    );
    let _ = record::write(listening, record).await;
    delete(queues, receipt).await;
}

/// Pauses while the queue is empty: from 100 ms, doubling with 20 % of chance, up to the longest.
/// Source: `RandomizedExponentialBackoffStrategy` of the storage extension.
struct Pauses {
    longest: Duration,
    current: Duration,
    exponent: u32,
    has_found: bool,
}

impl Pauses {
    fn new(longest: Duration) -> Self {
        Self {
            longest,
            current: Duration::ZERO,
            exponent: 0,
            has_found: false,
        }
    }

    fn found(&mut self) {
        self.has_found = true;
    }

    fn next(&mut self) -> Duration {
        if std::mem::take(&mut self.has_found) {
            self.current = MIN_PAUSE;
            self.exponent = 1;
        } else if self.current != self.longest {
            let mut pause = MIN_PAUSE;
            if self.exponent > 0 {
                let chance = 0.8 + 0.4 * fastrand::f64();
                pause +=
                    MIN_PAUSE.mul_f64(chance * f64::from(1_u32 << (self.exponent - 1).min(30)));
            }
            if pause < self.longest {
                self.current = pause;
                self.exponent += 1;
            } else {
                self.current = self.longest;
            }
        }
        self.current
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_begin_anew_after_a_message() {
        let mut pauses = Pauses::new(Duration::from_secs(2));
        let mut previous = Duration::ZERO;
        let mut steps = 0;
        loop {
            let pause = pauses.next();
            assert!(pause >= previous && pause <= Duration::from_secs(2));
            if pause == Duration::from_secs(2) {
                break;
            }
            previous = pause;
            steps += 1;
        }
        assert!((4..=6).contains(&steps), "{steps} steps to two seconds");
        assert_eq!(pauses.next(), Duration::from_secs(2));
        pauses.found();
        assert_eq!(pauses.next(), MIN_PAUSE);
        assert!(pauses.next() > MIN_PAUSE);
    }
}
