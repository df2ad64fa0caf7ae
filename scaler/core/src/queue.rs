//! The storage queue trigger: how many messages one instance works on, what counts as backlog, how many instances follow.
//!
//! Sources: `QueuesOptions`, `QueueMetricsProvider` and `QueueTargetScaler` of the storage extension.

use std::num::NonZeroU32;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::host_config::{HostConfig, HostConfigError};
use crate::names::Settings;

/// How message texts are encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum MessageEncoding {
    /// The default.
    Base64,
    /// Plain text.
    None,
}

/// `extensions.queues` of host.json.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct QueueOptions {
    /// Messages fetched at once, 1 to 32.
    pub batch_size: u32,
    /// The next batch is fetched when no more than this many messages are in work.
    pub new_batch_threshold: u32,
    /// Tries before a message goes to the poison queue.
    pub max_dequeue_count: u32,
    /// How long a message stays hidden after a failed try.
    pub visibility_timeout: Duration,
    /// Longest pause between looks at an empty queue.
    pub max_polling_interval: Duration,
    /// How message texts are encoded.
    pub message_encoding: MessageEncoding,
}

impl QueueOptions {
    /// Reads the options. `processors` is what the host process sees ([`processors`]); it only matters while
    /// `newBatchThreshold` is not set, which then is half the batch size times `processors`.
    ///
    /// # Errors
    /// For values that the host refuses.
    pub fn read(config: &HostConfig, processors: NonZeroU32) -> Result<Self, HostConfigError> {
        let path = |name: &str| format!("extensions.queues.{name}");
        let number = |name: &str, min, max| {
            Ok(config
                .integer(&path(name), min, max)?
                .map(i32::unsigned_abs))
        };
        let span = |name: &str, min| {
            Ok(config
                .timespan(&path(name), min)?
                .map(|ticks| Duration::from_nanos(ticks.unsigned_abs().saturating_mul(100))))
        };
        let batch_size = number("batchSize", 1, 32)?.unwrap_or(16);
        Ok(Self {
            batch_size,
            new_batch_threshold: number("newBatchThreshold", 0, i32::MAX)?
                .unwrap_or_else(|| (batch_size / 2).saturating_mul(processors.get())),
            max_dequeue_count: number("maxDequeueCount", 1, i32::MAX)?.unwrap_or(5),
            visibility_timeout: span("visibilityTimeout", 0)?.unwrap_or_default(),
            max_polling_interval: span("maxPollingInterval", 1_000_000)?
                .unwrap_or(Duration::from_mins(1)),
            message_encoding: config
                .one_of(
                    &path("messageEncoding"),
                    &[
                        ("base64", MessageEncoding::Base64),
                        ("none", MessageEncoding::None),
                    ],
                )?
                .unwrap_or(MessageEncoding::Base64),
        })
    }

    /// Messages that one instance works on: `batchSize + newBatchThreshold`. (The documentation names only `batchSize`.)
    pub fn target(&self) -> NonZeroU32 {
        NonZeroU32::MIN
            .saturating_add(self.batch_size.saturating_sub(1))
            .saturating_add(self.new_batch_threshold)
    }
}

/// The processors that a host process sees: its CPU limit rounded up, at least one, and always one when `WEBSITE_SKU` is
/// `Dynamic`. Without a limit .NET takes all cores of its node, which nobody knows here: one is assumed, which gives rather
/// too many instances than too few.
pub fn processors(cpu_limit_millicores: Option<u64>, settings: &Settings) -> NonZeroU32 {
    let dynamic = settings
        .get("WEBSITE_SKU")
        .is_some_and(|sku| sku.eq_ignore_ascii_case("Dynamic"));
    let cores = cpu_limit_millicores.map_or(1, |limit| limit.div_ceil(1_000));
    let cores = u32::try_from(cores).unwrap_or(u32::MAX);
    NonZeroU32::new(if dynamic { 1 } else { cores }).unwrap_or(NonZeroU32::MIN)
}

/// What storage said when asked for the properties of a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Properties {
    /// The approximate number of messages, hidden ones included.
    Count(u64),
    /// 404 with the code `QueueNotFound`. Any other 404 is a failure.
    NotFound,
    /// Everything else.
    Failed(String),
}

/// What storage said when asked to show one message without taking it.
///
/// The peek must not decode the message, or a queue of undecodable messages looks empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Peek {
    /// There is one.
    Visible,
    /// There is none.
    Empty,
    /// It failed.
    Failed(String),
}

/// The backlog of a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Backlog {
    /// It is known.
    Known {
        /// Messages.
        count: u64,
        /// What is special about the number.
        note: Option<BacklogNote>,
    },
    /// It is not known. That is not zero.
    Unknown {
        /// Why.
        error: String,
    },
}

/// What is special about a backlog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BacklogNote {
    /// The queue does not exist.
    QueueMissing,
    /// Messages exist, but none is visible: they are in work or delayed.
    NothingVisible {
        /// Their approximate number.
        hidden: u64,
    },
    /// The peek failed, so the number may count messages in work.
    PeekFailed {
        /// Why.
        error: String,
    },
}

impl std::fmt::Display for BacklogNote {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::QueueMissing => f.write_str("the queue does not exist, so it holds no messages"),
            Self::NothingVisible { hidden } => {
                write!(
                    f,
                    "about {hidden} messages are in work or delayed, none is visible"
                )
            }
            Self::PeekFailed { error } => write!(
                f,
                "the number may count messages in work, looking for a visible one failed: {error}"
            ),
        }
    }
}

impl Properties {
    /// Whether a peek is needed to know the backlog.
    pub fn needs_peek(&self) -> bool {
        matches!(self, Self::Count(count) if *count > 0)
    }
}

/// The backlog that follows from both answers. `peek` is `None` when it was not asked for.
///
/// As in the original, nothing visible is a backlog of zero, and a failed peek leaves the approximate count. On purpose
/// different: the original takes *every* failure to read the properties for zero; here it is unknown, so that running
/// instances are kept. The one exception is a queue that does not exist (`QueueNotFound`): it cannot hold a message, no work
/// waits in it, and work in progress is protected by drain. Were it unknown, an app whose queue is created by its first
/// sender would never reach zero. A queue that is being deleted (409) or an account that cannot be found is unknown.
pub fn backlog(properties: &Properties, peek: Option<&Peek>) -> Backlog {
    let (count, note) = match (properties, peek) {
        (Properties::Failed(error), _) => {
            return Backlog::Unknown {
                error: error.clone(),
            };
        }
        (Properties::NotFound, _) => (0, Some(BacklogNote::QueueMissing)),
        (Properties::Count(0), _) => (0, None),
        (Properties::Count(hidden), Some(Peek::Empty)) => {
            (0, Some(BacklogNote::NothingVisible { hidden: *hidden }))
        }
        (Properties::Count(count), Some(Peek::Failed(error))) => (
            *count,
            Some(BacklogNote::PeekFailed {
                error: error.clone(),
            }),
        ),
        (Properties::Count(count), Some(Peek::Visible) | None) => (*count, None),
    };
    Backlog::Known { count, note }
}

/// Instances for a backlog: the quotient rounded up, saturating.
pub fn instances(backlog: u64, target: NonZeroU32) -> u32 {
    u32::try_from(backlog.div_ceil(u64::from(target.get()))).unwrap_or(u32::MAX)
}
