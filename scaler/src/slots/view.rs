//! What the data role tells the engine.

use crate::index::GroupKey;
use maniple_core::decision::SourceReading;

/// News for the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DemandEvent {
    /// How the data role stands. Groups that are not told of have no requests when it counts.
    Role(RoleView),
    /// One group.
    Group(GroupKey, GroupView),
}

/// How the data role of this process stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RoleView {
    /// There is none: nothing will ever count requests.
    #[default]
    Off,
    /// It does not know yet what runs.
    Pending,
    /// No front end was ever there: nothing counts requests.
    Uncounted,
    /// It counts requests.
    Counting,
}

/// Demand and instances of one group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupView {
    /// Requests that run and wait.
    pub current: u32,
    /// The most of them within the time that scale-in looks back on.
    pub peak: u32,
    /// Whether a front end is silent.
    pub incomplete: bool,
    /// Its pods.
    pub pods: PodCounts,
}

/// Pods of a group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PodCounts {
    /// Pods that are neither being deleted nor ended.
    pub live: u32,
    /// Of these, such that get no new requests but are not empty yet.
    pub draining: u32,
    /// Of these, such that are empty and go first when the count is lowered.
    pub removable: u32,
    /// Whether all other live pods are ready. A ReplicaSet takes unready ones before all others.
    pub rest_ready: bool,
    /// Empty instances that have gone in this term.
    pub departed: u64,
}

impl GroupView {
    pub(crate) fn reading(&self) -> SourceReading {
        SourceReading::Demand {
            current: self.current.into(),
            peak: self.peak.into(),
            complete: !self.incomplete,
        }
    }
}
