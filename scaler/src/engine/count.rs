//! The replica count of a group whose instances leave by their slots.
//!
//! Three things are known at different times: the count (our own write is known at once), the pods (seen when the ReplicaSet has acted)
//! and what was decided. The count that is written is one number made of all three, and it is the same before and after the ReplicaSet
//! has acted. Otherwise every pod that goes would turn the count up and down again.

use crate::slots::PodCounts;
use std::time::Duration;

/// How long an instance that was taken out of the count may still be there before it counts again. A ReplicaSet acts within a second;
/// it leaves an instance alone when the count went up again before it looked.
const RELEASED: Duration = Duration::from_secs(10);

/// What the count is made of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Aim {
    /// Instances that are to serve.
    pub(super) desired: u32,
    /// Instances that may exist.
    pub(super) cap: u32,
    /// The count that the Deployment has, as far as it is known.
    pub(super) present: u32,
    /// The count that is being written.
    pub(super) pending: Option<u32>,
    /// Whether anything may be taken away.
    pub(super) may_lower: bool,
}

/// Instances of one group that were taken out of the count and are still there.
#[derive(Debug, Default)]
pub(super) struct Released {
    still_there: u32,
    /// Departures told of when it was last looked.
    departed: u64,
    /// When something was last written, on the clock that never goes back.
    since: Duration,
}

impl Released {
    /// Takes in what the pods show now. Until when to look again.
    pub(super) fn see(
        &mut self,
        pods: &PodCounts,
        pending: bool,
        now: Duration,
    ) -> Option<Duration> {
        // A new term counts departures from zero.
        let gone = pods.departed.saturating_sub(self.departed);
        self.departed = pods.departed;
        let gone = u32::try_from(gone).unwrap_or(u32::MAX);
        self.still_there = self.still_there.saturating_sub(gone).min(pods.removable);
        if pending {
            self.since = now;
        }
        if self.still_there > 0 && now >= self.since + RELEASED {
            self.still_there = 0;
        }
        (self.still_there > 0).then(|| self.since + RELEASED)
    }

    /// Pods that may exist by the count, with those that are still there although they were taken out of it.
    pub(super) fn most(&self, present: u32, pending: Option<u32>) -> u32 {
        present
            .max(pending.unwrap_or(0))
            .saturating_add(self.still_there)
    }

    /// The count to be written; none when there is nothing to write.
    ///
    /// It is only lowered for instances that are empty and go first, and for such that were never made.
    pub(super) fn count(&mut self, pods: &PodCounts, aim: Aim) -> Option<u32> {
        let live = pods.live.saturating_sub(self.still_there);
        // A count that is being written is as good as written, unless pods went otherwise: then it would take such that serve.
        let pending = aim
            .pending
            .filter(|pending| *pending >= aim.present || (aim.may_lower && live <= *pending));
        let base = pending.unwrap_or(aim.present);

        let going = self.still_there.max(pods.live.saturating_sub(base));
        let removable = pods.removable.saturating_sub(going);
        let leaving = pods.draining.saturating_add(removable);
        let most = aim.cap.max(aim.desired);
        let goal = aim.desired.saturating_add(leaving).min(most);
        if goal > base {
            return Some(goal);
        }
        // A ReplicaSet takes unready pods before all others.
        if !aim.may_lower || !pods.rest_ready {
            return pending;
        }
        // While a new version comes there are more pods than the count says; when all are to go, that does not matter.
        let all = aim.desired == 0 && pods.live > 0 && pods.live == pods.removable;
        if all && base > 0 {
            self.still_there = pods.removable;
            return Some(0);
        }
        if removable > 0 && live == base {
            self.still_there += removable;
            return Some(base - removable);
        }
        let least = goal.max(live);
        if least < base { Some(least) } else { pending }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pods(live: u32, draining: u32, removable: u32) -> PodCounts {
        PodCounts {
            live,
            draining,
            removable,
            rest_ready: true,
            departed: 0,
        }
    }

    fn aim(desired: u32, present: u32) -> Aim {
        Aim {
            desired,
            cap: 10,
            present,
            pending: None,
            may_lower: true,
        }
    }

    #[test]
    fn only_empty_pods_and_those_that_do_not_exist_are_taken_away() {
        // live, draining, removable; desired, present count, cap; expected.
        let cases = [
            ((0, 0, 0), (3, 0, 10), Some(3)),
            ((3, 0, 0), (3, 3, 10), None),
            ((3, 0, 0), (1, 3, 10), None),
            ((3, 2, 0), (1, 3, 10), None),
            ((3, 1, 1), (1, 3, 10), Some(2)),
            ((3, 0, 2), (1, 3, 10), Some(1)),
            // Needed again while two still drain: they serve nobody.
            ((3, 2, 0), (3, 3, 10), Some(5)),
            ((3, 2, 0), (3, 3, 4), Some(4)),
            ((3, 2, 0), (5, 3, 5), Some(5)),
            // Somebody else lowered the count: the empty ones are on their way, the others come back.
            ((9, 0, 6), (3, 3, 10), None),
            ((9, 0, 0), (9, 3, 10), Some(9)),
            // Pods that were never made are not waited for.
            ((2, 0, 0), (1, 9, 10), Some(2)),
            ((2, 0, 0), (4, 9, 10), Some(4)),
            ((1, 0, 1), (0, 1, 10), Some(0)),
            // More pods than the count while a new version comes: they are not those that go.
            ((12, 0, 3), (7, 10, 20), None),
            ((5, 0, 5), (0, 4, 20), Some(0)),
            ((5, 1, 4), (0, 4, 20), None),
        ];
        for ((live, draining, removable), (desired, present, cap), expected) in cases {
            let aim = Aim {
                cap,
                ..aim(desired, present)
            };
            let pods = pods(live, draining, removable);
            let count = Released::default().count(&pods, aim);
            assert_eq!(count, expected, "{pods:?} {aim:?}");
        }
        let unready = PodCounts {
            rest_ready: false,
            ..pods(3, 0, 1)
        };
        assert_eq!(Released::default().count(&unready, aim(1, 3)), None);
    }

    #[test]
    fn the_count_is_the_same_before_and_after_the_pods_are_gone() {
        let mut released = Released::default();
        assert_eq!(released.count(&pods(9, 0, 6), aim(3, 9)), Some(3));
        // The write is under way, and then known, and the pods go one after the other; whatever comes first.
        for gone in 0..=6 {
            let pods = PodCounts {
                departed: gone.into(),
                ..pods(9 - gone, 0, 6 - gone)
            };
            released.see(&pods, false, Duration::ZERO);
            let pending = Aim {
                pending: Some(3),
                ..aim(3, 9)
            };
            assert_eq!(released.count(&pods, pending), Some(3), "{gone} gone");
            assert_eq!(released.count(&pods, aim(3, 3)), None, "{gone} gone");
        }
        assert_eq!(released.still_there, 0);
    }

    #[test]
    fn instances_that_went_otherwise_are_not_taken_twice() {
        let mut released = Released::default();
        assert_eq!(released.count(&pods(9, 0, 6), aim(3, 9)), Some(3));
        let others = PodCounts {
            departed: 6,
            ..pods(9, 0, 0)
        };
        released.see(&others, true, Duration::ZERO);
        let pending = Aim {
            pending: Some(3),
            ..aim(3, 9)
        };
        assert_eq!(released.count(&others, pending), None, "it is withdrawn");
    }

    #[test]
    fn a_count_that_rises_again_counts_no_instance_that_goes() {
        let mut released = Released::default();
        assert_eq!(released.count(&pods(9, 0, 6), aim(3, 9)), Some(3));
        assert_eq!(released.count(&pods(9, 0, 6), aim(5, 3)), Some(5));
        assert_eq!(released.count(&pods(9, 0, 6), aim(5, 5)), None);
        // The ReplicaSet never saw the lower count, and took four only.
        let left = PodCounts {
            departed: 4,
            ..pods(5, 0, 2)
        };
        assert_eq!(
            released.see(&left, false, Duration::ZERO),
            Some(RELEASED),
            "to look again"
        );
        assert_eq!(released.count(&left, aim(5, 5)), None);
        assert_eq!(released.see(&left, false, RELEASED), None);
        assert_eq!(released.count(&left, aim(5, 5)), Some(7));
    }

    #[test]
    fn unknown_takes_nothing_away_and_calls_back_what_would() {
        let hold = Aim {
            may_lower: false,
            ..aim(3, 9)
        };
        assert_eq!(Released::default().count(&pods(9, 0, 6), hold), None);
        let mut released = Released::default();
        assert_eq!(released.count(&pods(9, 0, 6), aim(3, 9)), Some(3));
        let pending = Aim {
            pending: Some(3),
            ..hold
        };
        assert_eq!(released.count(&pods(9, 0, 6), pending), None);
    }
}
