//! Demand of a group over all front ends, for the decision.

use super::{
    books::Life,
    data_role::DataRole,
    message::{FrontEndId, GroupId, InstanceUid},
};

/// Slots of a group, now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SlotCounts {
    /// Held by front ends that are not known to be dead.
    pub lent: u32,
    /// May be lent at once.
    pub free: u32,
    /// Of dead front ends, whose requests may still run.
    pub quarantined: u32,
}

/// Demand of a group in requests, now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Demand {
    /// Running, lingering and waiting requests, with the slots of dead and cut-off front ends counted as running. Scale-out follows it.
    pub current: u32,
    /// Of these, slots of dead and cut-off front ends.
    pub unheard: u32,
    /// The most that is certain: `unheard`, and what the front end with the most of them had at one moment. `current` adds up reports of different
    /// moments, and a request that moved from one front end to another may be in both.
    pub certain: u32,
    /// Requests waiting.
    pub waiting: u32,
    /// Age of the oldest waiting request in milliseconds, as reported.
    pub oldest_wait_ms: u32,
    /// Whether part of the truth is missing: a member is silent. No scale-in then.
    pub incomplete: bool,
}

impl DataRole {
    /// Demand of a group.
    pub fn demand(&self, group: &GroupId, now_ms: u64) -> Demand {
        let mut demand = Demand::default();
        let mut most = 0;
        // Those that leave are replaced anyway, so that only slots of the others are missing.
        let instances = self.groups.get(group).into_iter().flatten();
        let instances = instances.filter(|uid| !self.instances[*uid].drains());
        let leased = |lease: &std::collections::BTreeMap<InstanceUid, u16>| -> u32 {
            instances
                .clone()
                .filter_map(|uid| lease.get(uid))
                .map(|n| u32::from(*n))
                .sum()
        };
        for member in self.members.values() {
            match member.life {
                Life::Left => {}
                // What it held without having said so in this epoch is among what rests.
                Life::Dead { .. } => {
                    let rows = leased(&member.lease);
                    demand.current += rows;
                    demand.unheard += rows;
                }
                Life::Up => {
                    let need = member.needs.get(group);
                    let (waiting, busy, oldest) =
                        need.map_or((0, 0, 0), |n| (n.waiting, n.busy, n.oldest_wait_ms));
                    let silent = member.down_since_ms.is_some();
                    let cut_off = member
                        .down_since_ms
                        .is_some_and(|since| now_ms >= since + self.settings.cut_off_grace_ms);
                    // A cut-off front end goes on serving; what it holds is no use to anybody else. Of another one no more runs than it
                    // holds: slots come back sooner than its next report.
                    let rows = leased(&member.lease);
                    let running = if cut_off { rows } else { busy.min(rows) };
                    demand.current += waiting + running;
                    if cut_off {
                        demand.unheard += waiting + running;
                    } else {
                        most = most.max(waiting + running);
                    }
                    demand.waiting += waiting;
                    demand.oldest_wait_ms = demand.oldest_wait_ms.max(oldest);
                    // What a front end that does not come back runs is in its rows.
                    let over = member.lost_since_ms.is_some() && cut_off;
                    demand.incomplete |= (silent && !over) || !member.reported;
                }
            }
        }
        let resting = self.resting(instances.clone(), now_ms);
        demand.current += resting;
        demand.unheard += resting;
        demand.certain = demand.unheard + most;
        demand
    }

    /// Requests that the instances of a group can have at a time, as far as they may be lent: slots lent and free of those that do not leave.
    pub fn capacity(&self, group: &GroupId, now_ms: u64) -> u32 {
        let instances = self.groups.get(group).into_iter().flatten();
        let instances = instances.filter(|uid| !self.instances[*uid].drains());
        instances
            .map(|uid| self.leased(*uid) + self.available(*uid, now_ms))
            .sum()
    }

    /// Slots of instances of earlier epochs that nobody may have, because a front end that is dead or cut off never said in this epoch what it held: of no use
    /// until it is known, so that instances of this epoch have to replace them.
    fn resting<'a>(&self, instances: impl Iterator<Item = &'a InstanceUid>, now_ms: u64) -> u32 {
        let grace = self.settings.cut_off_grace_ms;
        let unknown = self.members.values().any(|member| {
            let gone = match member.life {
                Life::Left => false,
                Life::Dead { .. } => true,
                Life::Up => member
                    .down_since_ms
                    .is_some_and(|since| now_ms >= since + grace),
            };
            gone && !member.reported
        });
        if !unknown {
            return 0;
        }
        instances
            .filter(|uid| self.claim(**uid).is_some_and(|claim| claim != self.epoch))
            .map(|uid| {
                let cap = u32::from(self.instances[uid].spec.cap);
                cap.saturating_sub(self.leased(*uid) + self.available(*uid, now_ms))
            })
            .sum()
    }

    /// Whether what a front end sampled counts: it lives, and it is not cut off for so long that its slots count instead.
    pub fn counts(&self, id: FrontEndId, now_ms: u64) -> bool {
        self.members.get(&id).is_some_and(|member| {
            let silent = member.down_since_ms;
            let cut_off = silent.is_some_and(|at| now_ms >= at + self.settings.cut_off_grace_ms);
            member.life == Life::Up && !cut_off
        })
    }

    /// Slots of a group by what may be done with them.
    pub fn slots(&self, group: &GroupId, now_ms: u64) -> SlotCounts {
        let mut counts = SlotCounts::default();
        for uid in self.groups.get(group).into_iter().flatten() {
            counts.lent += self.leased(*uid);
            counts.free += self.available(*uid, now_ms);
        }
        for member in self.members.values() {
            if matches!(member.life, Life::Dead { .. }) {
                let rows = member.lease.iter();
                let rows = rows.filter(|(uid, _)| self.group_of(**uid).as_ref() == Some(group));
                counts.quarantined += rows.map(|(_, count)| u32::from(*count)).sum::<u32>();
            }
        }
        counts.lent = counts.lent.saturating_sub(counts.quarantined);
        counts
    }

    /// Instances of a group that hold no slot of anybody, the youngest on-demand ones first: these can leave without a wait.
    pub fn idle_instances(&self, group: &GroupId) -> Vec<InstanceUid> {
        let mut idle: Vec<_> = self
            .groups
            .get(group)
            .into_iter()
            .flatten()
            .filter(|uid| self.leased(**uid) == 0)
            .map(|uid| (self.instances[uid].spec.rank, *uid))
            .collect();
        idle.sort_unstable();
        idle.into_iter().rev().map(|(_, uid)| uid).collect()
    }
}
