//! How many instances a group should have, and why.
//!
//! One pure function, [`decide`], of what is declared ([`GroupSpec`]), what is observed ([`GroupObservation`]), what was
//! decided before ([`GroupState`]) and the time ([`Now`]).
//!
//! Rules, in this order:
//! 1. A paused group keeps its present count.
//! 2. Every source wants a number of instances; the group needs the largest of them. (The open-source `ScaleManager` takes
//!    the maximum too; one group of Flex Consumption is decided alone.)
//! 3. A source that cannot be read wants an unknown number: the group keeps at least what it has. Others may still add.
//! 4. Without any need the last instance stays through the idle window, then goes. A timer leaves no window behind: its run
//!    is recorded, nothing else is expected.
//! 5. Always-ready instances are the floor; on-demand instances on top of them are capped. Both are exact, with one exception
//!    that follows from 1: a paused group is not touched.
//!
//! Windows are measured on a clock that only goes forward ([`Now::mono`]), so that a step of the wall clock neither ends nor
//! stretches them.

mod decide;
mod look;
mod outcome;

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use jiff::Timestamp;

use crate::timer::WakeState;

pub use decide::decide;
pub use outcome::{Decision, Reason, SourceResult};

/// The time of a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Wall clock. Timers and the age of readings are measured with it.
    pub wall: Timestamp,
    /// Time since any fixed moment of this process, on a clock that never goes back.
    pub mono: Duration,
}

impl Now {
    /// Both clocks from one, for simulations and tests where the wall clock is never set.
    pub fn at(wall: Timestamp) -> Self {
        Self {
            wall,
            mono: Duration::try_from(wall.duration_since(Timestamp::MIN)).unwrap_or_default(),
        }
    }
}

/// What is declared for a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupSpec {
    /// Instances that are always there.
    pub always_ready: u32,
    /// Most instances on top of the always-ready ones.
    pub max_on_demand: u32,
    /// How long the last instance stays without work.
    pub idle_window: Duration,
    /// A backlog reading older than this is no longer known. It guards against a poller that died.
    pub reading_max_age: Duration,
    /// The present count is kept, whatever happens.
    pub paused: bool,
    /// The triggers of all functions of the group.
    pub sources: Vec<SourceSpec>,
}

impl GroupSpec {
    /// Default of [`GroupSpec::idle_window`]. Flex Consumption goes to zero after 30 s to a few minutes.
    pub const IDLE_WINDOW: Duration = Duration::from_mins(1);
    /// Default of [`GroupSpec::reading_max_age`]: several polls of even a long-idle source.
    pub const READING_MAX_AGE: Duration = Duration::from_mins(3);

    /// Most instances of any kind.
    pub fn cap(&self) -> u32 {
        self.always_ready.saturating_add(self.max_on_demand)
    }
}

/// One trigger of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceSpec {
    /// Unique in the group. Readings come under this key.
    pub key: String,
    /// The function it triggers.
    pub function: String,
    /// What it is.
    pub kind: SourceKind,
    /// Most instances that this source may ask for. `None`: only the cap of the group.
    pub instance_cap: Option<u32>,
}

/// What a source is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum SourceKind {
    /// A storage queue.
    StorageQueue {
        /// Messages per instance.
        target: NonZeroU32,
    },
    /// A timer.
    Timer,
    /// HTTP. While nothing counts requests, one instance is kept.
    Http {
        /// Requests that one instance gets at a time.
        concurrency: NonZeroU32,
    },
    /// A trigger type without a source. One instance is kept, so that the function works.
    Unsupported {
        /// The type as declared, like `serviceBusTrigger`.
        trigger: String,
    },
}

impl SourceKind {
    /// The trigger type as in function.json.
    pub fn trigger(&self) -> &str {
        match self {
            Self::StorageQueue { .. } => "queueTrigger",
            Self::Timer => "timerTrigger",
            Self::Http { .. } => "httpTrigger",
            Self::Unsupported { trigger } => trigger,
        }
    }
}

/// What is observed of a group.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GroupObservation {
    /// Declared replicas of the group's Deployment. `None`: not known.
    pub replicas: Option<u32>,
    /// Readings by [`SourceSpec::key`]. A missing one is [`SourceReading::NotRead`]. HTTP and unsupported sources need none.
    pub readings: BTreeMap<String, SourceReading>,
}

/// What is known of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceReading {
    /// Nothing yet.
    NotRead,
    /// A backlog.
    Backlog {
        /// Units of work waiting.
        count: u64,
        /// When it was read.
        at: Timestamp,
        /// What is special about it.
        note: Option<String>,
    },
    /// Requests that run and wait.
    Demand {
        /// Now. Scale-out follows it.
        current: u64,
        /// The most within the time that scale-in looks back on; never below `current` in its effect.
        peak: u64,
        /// Whether every front end is heard. While one is silent nothing is taken away.
        complete: bool,
    },
    /// It cannot be read.
    Unknown {
        /// Why.
        error: String,
        /// Since when.
        since: Timestamp,
        /// The last backlog that could be read.
        last_good: Option<u64>,
    },
    /// What a timer wants.
    Timer(WakeState),
}

/// What a decision leaves for the next one. Kept in memory only; after a restart it starts from the default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct GroupState {
    /// The last number that was decided.
    pub desired: Option<u32>,
    /// When there was last work that leaves an idle window behind, on [`Now::mono`].
    pub busy_at: Option<Duration>,
}
