//! What a front end returns and reports, at costs that follow what changed.

use super::{FrontEnd, Link, Urgency};
use crate::slots::{
    joint::{GRID_MS, MOST_SAMPLES},
    message::{FrontEndSays, GroupDemand, GroupId, Handle, InstanceUid, Sync, ToDataRole},
    pool::SlotPool,
    word::Bar,
};

impl FrontEnd {
    /// How soon a [`FrontEnd::flush`] is due.
    pub fn urgency(&self, pool: &impl SlotPool) -> Urgency {
        if self.link != Link::Up {
            return Urgency::Rest;
        }
        let mut due = Urgency::Rest;
        for group in self.groups_to_look_at(false) {
            let waiting = pool.waiting(&group);
            let told = self.last_waiting(&group);
            if waiting > 0 && told == 0 {
                return Urgency::Now;
            }
            if waiting != told || (self.ack_owed && waiting > 0) {
                due = due.max(Urgency::Batch);
            }
        }
        // Only what has a name in this session can be reported: the rest waits for one, or for the next Hello.
        for (_, uid) in self.instances_to_look_at() {
            if pool.word(uid).returned() == 0 {
                continue;
            }
            let group = self.instances.get(&uid).map(|info| &info.group);
            let asked = group.is_some_and(|group| self.recalled.contains(group));
            due = due.max(if asked { Urgency::Now } else { Urgency::Batch });
        }
        due
    }

    fn groups_to_look_at(&self, rest: bool) -> Vec<GroupId> {
        match &self.pending {
            Some(pending) if !rest => {
                // A grant serves one request while another arrives: the number is the same, and only the ack tells that one more is needed.
                let acked = self.told_waiting.iter().filter(|_| self.ack_owed);
                let changed = pending.groups.iter();
                changed
                    .chain(acked.filter(|group| !pending.groups.contains(group)))
                    .cloned()
                    .collect()
            }
            _ => self.groups.keys().cloned().collect(),
        }
    }

    /// Instances with a name in this session that may have returned slots.
    fn instances_to_look_at(&self) -> Vec<(Handle, InstanceUid)> {
        match &self.pending {
            Some(pending) => pending
                .returned
                .iter()
                .filter_map(|uid| Some((*self.named.get(uid)?, *uid)))
                .collect(),
            None => self
                .handles
                .iter()
                .map(|(handle, uid)| (*handle, *uid))
                .collect(),
        }
    }

    /// Follows recalls and collects what the data role has to hear. `rest` reports every group, changed or not.
    ///
    /// `None` when there is nothing to say or nobody to say it to.
    pub fn flush(&mut self, pool: &mut impl SlotPool, rest: bool) -> Option<ToDataRole> {
        if self.link != Link::Up {
            return None;
        }
        self.release_wanted(pool);
        self.note(pool);
        // Where others wait, what runs here tells whether they wait for more than there is.
        let mut asked = self.recalled.clone();
        let released = self.take_returned(pool);
        let given = released.iter().filter_map(|(handle, _)| {
            let uid = self.handles.get(handle)?;
            Some(self.instances.get(uid)?.group.clone())
        });
        asked.extend(given);
        let shed: Vec<Handle> = pool
            .take_shed()
            .iter()
            .filter_map(|uid| self.named.get(uid).copied())
            .collect();
        let ack_owed = self.ack_owed;
        let mut demand = Vec::new();
        let mut groups = self.groups_to_look_at(rest);
        let others = asked.iter().filter(|group| !groups.contains(group));
        groups.extend(others.cloned().collect::<Vec<_>>());
        groups.sort_unstable();
        for group in groups {
            let waiting = pool.waiting(&group);
            if waiting != self.last_waiting(&group)
                || (ack_owed && waiting > 0)
                || (asked.contains(&group) && self.busy(&group, pool) != self.last_busy(&group))
                || (rest && self.worth_telling(&group, pool))
            {
                demand.push(self.demand(&group, pool));
            } else if rest {
                // Nothing but 0: that is what the data role takes for what it is not told.
                if let Some(state) = self.groups.get_mut(&group) {
                    state.samples.clear();
                }
                self.forget_group(&group, pool);
            }
        }
        if let Some(pending) = &mut self.pending {
            pending.groups.clear();
        }
        if released.is_empty() && demand.is_empty() && shed.is_empty() && !(rest && ack_owed) {
            return None;
        }
        self.ack_owed = false;
        Some(self.say(FrontEndSays::Sync(Sync {
            released,
            demand,
            shed,
        })))
    }

    fn worth_telling(&self, group: &GroupId, pool: &impl SlotPool) -> bool {
        let state = &self.groups[group];
        state.sent_busy > 0
            || state.sent_waiting > 0
            || state.samples.iter().any(|seen| *seen > 0)
            || self.busy(group, pool) > 0
    }

    fn last_busy(&self, group: &GroupId) -> u32 {
        self.groups.get(group).map_or(0, |state| state.sent_busy)
    }

    /// Notes how many requests each group has here. To be called every [`GRID_MS`]; what was missed is filled up with what is now.
    pub fn sample(&mut self, now_ms: u64, pool: &impl SlotPool) {
        let point = now_ms / GRID_MS;
        let missed = self.sampled.map_or(1, |last| point.saturating_sub(last));
        self.sampled = Some(point);
        let times = usize::try_from(missed).map_or(MOST_SAMPLES, |n| n.min(MOST_SAMPLES));
        for group in self.members.keys() {
            let Some(state) = self.groups.get_mut(group) else {
                continue;
            };
            let load = pool.load(group);
            state.samples.extend(std::iter::repeat_n(load, times));
            let old = state.samples.len().saturating_sub(MOST_SAMPLES);
            state.samples.drain(..old);
        }
    }

    pub(super) fn busy(&self, group: &GroupId, pool: &impl SlotPool) -> u32 {
        self.in_use_order(group)
            .map(|uid| pool.word(uid))
            .map(|word| u32::from(word.busy()) + u32::from(word.linger()))
            .sum()
    }

    fn in_use_order<'a>(
        &'a self,
        group: &GroupId,
    ) -> impl DoubleEndedIterator<Item = InstanceUid> + use<'a> {
        let members = self.members.get(group).into_iter().flatten();
        members.map(|(_, uid)| *uid)
    }

    /// A group that is gone, of which everything was told.
    fn forget_group(&mut self, group: &GroupId, pool: &impl SlotPool) {
        let empty = !self.members.contains_key(group) && !self.recalled.contains(group);
        if empty && !pool.knows(group) {
            self.groups.remove(group);
        }
    }

    /// Free slots that others wait for go back at once, the least preferred instances first. While requests wait here, only must-turns return
    /// slots, and the pool does that when a request ends: an unused slot that went back before it served anybody would wander for ever.
    fn release_wanted(&mut self, pool: &mut impl SlotPool) {
        let asked: Vec<(GroupId, u32)> = self
            .recalled
            .iter()
            .map(|group| (group.clone(), self.recall(group).0))
            .collect();
        for (group, want) in asked {
            let uids: Vec<InstanceUid> = self.in_use_order(&group).rev().collect();
            let mut left = want.saturating_sub(
                uids.iter()
                    .map(|&uid| u32::from(pool.word(uid).returned()))
                    .sum(),
            );
            for uid in uids {
                if left == 0 {
                    break;
                }
                // An instance that refused work a moment ago serves nobody here for a while, whoever waits.
                if pool.waiting(&group) == 0 || pool.word(uid).barred(Bar::Shed) {
                    left -= u32::from(pool.release(uid, u16::try_from(left).unwrap_or(u16::MAX)));
                }
            }
        }
    }

    fn take_returned(&mut self, pool: &mut impl SlotPool) -> Vec<(Handle, u16)> {
        let mut released = Vec::new();
        for (handle, uid) in self.instances_to_look_at() {
            if let Some(pending) = &mut self.pending {
                pending.returned.remove(&uid);
            }
            let count = pool.take_returned(uid);
            if count == 0 {
                continue;
            }
            released.push((handle, count));
            let group = &self.instances[&uid].group;
            if let Some(state) = self.groups.get_mut(group) {
                state.want = state.want.saturating_sub(u32::from(count));
                state.must = state.must.saturating_sub(u32::from(count));
                if state.want == 0 {
                    self.recalled.remove(group);
                }
                pool.cap_recall(group, state.want, state.must);
            }
        }
        released
    }

    pub(super) fn demand(&mut self, group: &GroupId, pool: &mut impl SlotPool) -> GroupDemand {
        let waiting = pool.waiting(group);
        let busy = self.busy(group, pool);
        let state = self.groups.entry(group.clone()).or_default();
        state.sent_waiting = waiting;
        state.sent_busy = busy;
        let samples = state.samples.drain(..).collect();
        if waiting > 0 {
            self.told_waiting.insert(group.clone());
        } else {
            self.told_waiting.remove(group);
        }
        GroupDemand {
            group: group.clone(),
            waiting,
            busy,
            oldest_wait_ms: pool.oldest_wait_ms(group),
            samples,
        }
    }
}
