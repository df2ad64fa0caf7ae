//! The result of a decision.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// How many instances a group should have, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Decision {
    /// The number. `None`: not enough is known to name one without taking instances away; whoever asks must keep what is
    /// there (the RPC layer answers UNAVAILABLE, never 0).
    pub desired: Option<u32>,
    /// Stable code of the reason.
    pub reason: Reason,
    /// The reason in words and numbers.
    pub message: String,
    /// What each source wants, in the order of the spec.
    pub sources: Vec<SourceResult>,
    /// When it was decided.
    pub at: Timestamp,
    /// When the decision may change although nothing new is observed. `None`: never.
    pub next_wake: Option<Timestamp>,
}

/// What one source wants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SourceResult {
    /// The function it triggers.
    pub function: String,
    /// Trigger type as in function.json.
    pub trigger: String,
    /// Units of work waiting. While the source cannot be read, the last known number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backlog: Option<u64>,
    /// Units of work per instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<u32>,
    /// Instances it asks for. `None`: not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wants: Option<u32>,
    /// Why it cannot be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What else is worth knowing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// Why a group has its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Reason {
    /// Not enough is known for any number.
    Unknown,
    /// The group is paused.
    Paused,
    /// Work is waiting.
    Backlog,
    /// A timer is due, needs its first start, or can only run while an instance is up.
    Timer,
    /// Requests run or wait; or HTTP functions keep an instance while requests are not counted.
    Http,
    /// A trigger type without a source keeps an instance.
    Unsupported,
    /// A source cannot be read, the present count is kept.
    HoldUnknown,
    /// No work, but the idle window is not over.
    IdleWindow,
    /// No work beyond the always-ready instances.
    AlwaysReady,
    /// More is wanted than the group may have.
    Capped,
    /// No work.
    Idle,
}

impl Reason {
    /// The stable code.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "Unknown",
            Self::Paused => "Paused",
            Self::Backlog => "Backlog",
            Self::Timer => "Timer",
            Self::Http => "Http",
            Self::Unsupported => "Unsupported",
            Self::HoldUnknown => "HoldUnknown",
            Self::IdleWindow => "IdleWindow",
            Self::AlwaysReady => "AlwaysReady",
            Self::Capped => "Capped",
            Self::Idle => "Idle",
        }
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
