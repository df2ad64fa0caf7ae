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

impl PodCounts {
    /// The replica count to write, when it differs from the present one. `desired` instances are to serve, `cap` may exist.
    ///
    /// The count is only lowered for pods that are empty and go first, and for pods that do not exist yet.
    pub fn replicas(&self, desired: u32, replicas: u32, cap: u32) -> Option<u32> {
        let leaving = self.draining + self.removable;
        if self.live == replicas && self.removable > 0 && self.rest_ready {
            return Some(replicas - self.removable);
        }
        let goal = desired.saturating_add(leaving).min(cap.max(desired));
        if goal > replicas {
            return Some(goal);
        }
        let least = goal.max(self.live);
        (least < replicas).then_some(least)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_empty_pods_and_those_that_do_not_exist_are_taken_away() {
        // live, draining, removable, rest ready; desired, present count, cap; expected.
        let cases = [
            ((0, 0, 0, true), (3, 0, 10), Some(3)),
            ((3, 0, 0, true), (3, 3, 10), None),
            ((3, 0, 0, true), (1, 3, 10), None),
            ((3, 2, 0, true), (1, 3, 10), None),
            ((3, 1, 1, true), (1, 3, 10), Some(2)),
            ((3, 0, 2, true), (1, 3, 10), Some(1)),
            ((3, 0, 1, false), (1, 3, 10), None),
            // Just written: the pod that goes is still there.
            ((3, 0, 1, true), (1, 2, 10), None),
            // Needed again while two still drain: they serve nobody.
            ((3, 2, 0, true), (3, 3, 10), Some(5)),
            ((3, 2, 0, true), (3, 3, 4), Some(4)),
            ((3, 2, 0, true), (5, 3, 5), Some(5)),
            // Pods that were never made are not waited for.
            ((2, 0, 0, true), (1, 9, 10), Some(2)),
            ((2, 0, 0, true), (4, 9, 10), Some(4)),
            ((1, 0, 1, true), (0, 1, 10), Some(0)),
        ];
        for ((live, draining, removable, rest_ready), (desired, replicas, cap), expected) in cases {
            let counts = PodCounts {
                live,
                draining,
                removable,
                rest_ready,
            };
            assert_eq!(
                counts.replicas(desired, replicas, cap),
                expected,
                "{counts:?} {desired} of {replicas}, cap {cap}"
            );
        }
    }
}
