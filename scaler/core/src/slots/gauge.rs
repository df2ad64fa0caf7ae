//! The demand of one group as the decision hears it.

use super::{
    data_role::DataRole,
    joint::{Joint, SEEN_AFTER_MS},
    message::{FrontEndId, GroupDemand, GroupId},
    peaks::Peaks,
    surge::Surge,
};

/// Demand of a group in requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// Scale-out follows it.
    pub current: u32,
    /// The most within [`WINDOW_MS`](super::peaks::WINDOW_MS): scale-in goes down to it only.
    pub peak: u32,
    /// Whether part of the truth is missing: a front end is silent, or was until a moment ago. No scale-in then.
    pub incomplete: bool,
}

/// What was seen of one group over time.
#[derive(Debug, Default)]
pub struct Gauge {
    joint: Joint,
    surge: Surge,
    /// Requests that are more than the instances there can have; 0 when these can have all.
    believed: u32,
    peaks: Peaks,
    /// Since when every front end is heard.
    heard_since_ms: Option<u64>,
}

impl Gauge {
    /// Takes in what a front end reported of itself.
    pub fn put(&mut self, from: FrontEndId, report: &GroupDemand, now_ms: u64) {
        self.joint.put(from, report, now_ms);
    }

    /// Demand of `group` now. To be called after each report and every second. `now_ms` never goes back.
    pub fn read(&mut self, role: &DataRole, group: &GroupId, now_ms: u64) -> Reading {
        let demand = role.demand(group, now_ms);
        let seen = self.joint.advance(now_ms, |id| role.counts(id, now_ms));
        let with_unheard = |seen: u32| seen.saturating_add(demand.unheard);
        // Without a request that waits it is nothing but slots lent.
        let capacity = if demand.waiting > 0 {
            role.capacity(group, now_ms)
        } else {
            demand.current
        };
        if demand.current <= capacity {
            self.believed = 0;
        }
        // What was believed is on its way, and no reason to believe in one more.
        let excess = demand.current.saturating_sub(capacity.max(self.believed));
        // Without an instance nothing moves between front ends, and each request that waits needs one.
        if self.surge.put(excess, now_ms) || capacity == 0 {
            self.believed = self.believed.max(demand.current);
            self.surge = Surge::default();
        }
        let current = self.believed.min(demand.current);
        let current = current
            .max(with_unheard(self.joint.last()))
            .max(demand.certain);
        if demand.incomplete {
            self.heard_since_ms = None;
        } else {
            self.heard_since_ms.get_or_insert(now_ms);
        }
        let unseen = |since: u64| now_ms < since.saturating_add(SEEN_AFTER_MS);
        Reading {
            current,
            peak: self.peaks.put(with_unheard(seen).max(current), now_ms),
            incomplete: self.heard_since_ms.is_none_or(unseen),
        }
    }

    /// When it has to be read again because requests that are too many may be believed then.
    pub fn due_ms(&self, now_ms: u64) -> Option<u64> {
        let after = self.surge.believed_in_ms(now_ms)?;
        (after > 0).then(|| now_ms.saturating_add(after))
    }
}
