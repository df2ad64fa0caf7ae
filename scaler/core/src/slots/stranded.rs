//! Slots that are of no use to anybody: with front ends that nobody hears, or of requests whose end nobody will see.
//!
//! Such slots never come back by themselves, and nothing proves that they are free. So they count as busy, and when they are half of an
//! instance, the instance is replaced.

use super::{
    books::{Life, Member, Removal},
    data_role::{DataRole, Effects},
    message::{FrontEndId, GroupId, InstanceUid},
};

impl DataRole {
    /// The pod of a front end is gone, and nothing proves that its processes are: somebody forced it.
    pub fn on_lost(&mut self, id: FrontEndId, now_ms: u64) -> Effects {
        let mut effects = Effects::new();
        if let Some(member) = self.members.get_mut(&id)
            && member.life == Life::Up
        {
            member.lost_since_ms.get_or_insert(now_ms);
        }
        self.leave_if_empty(&mut effects);
        effects
    }

    /// Whether instances of a group are replaced when half of their slots are of no use. They are unless this says otherwise.
    pub fn set_replaced(&mut self, group: &GroupId, replaced: bool) {
        if replaced {
            self.kept.remove(group);
        } else {
            self.kept.insert(group.clone());
        }
    }

    /// Front ends that nobody has heard for so long that their instances are replaced. None while this data role hears less than half of them:
    /// then it is the one that is cut off.
    fn cut_off(&self, now_ms: u64) -> Vec<FrontEndId> {
        let after = self.settings.cut_off_replace_ms;
        let members = self.members.iter();
        let silent: Vec<_> = members
            .filter(|(_, member)| {
                let since = member.silent_since_ms();
                since.is_some_and(|since| now_ms >= since + after)
            })
            .map(|(id, _)| *id)
            .collect();
        let heard = self.members.values().filter(|m| m.reachable()).count();
        if heard > 0 && heard >= silent.len() {
            silent
        } else {
            Vec::new()
        }
    }

    /// Who forces a pod away says that its node is down. That is believed when nothing is heard from there either.
    pub(super) fn give_up_lost(&mut self, now_ms: u64) {
        for id in self.cut_off(now_ms) {
            if self.members[&id].lost_since_ms.is_some() {
                self.die(id, now_ms);
            }
        }
    }

    /// Instances to be replaced because half of their slots or more are stranded.
    pub(super) fn stranded(&self, now_ms: u64) -> Vec<InstanceUid> {
        let silent = self.cut_off(now_ms);
        let settle = self.settings.settle_ms;
        let settled = |member: &&Member| matches!(member.life, Life::Dead { at_ms } if now_ms >= at_ms + settle);
        let dead = self.members.values().any(|member| settled(&member));
        if silent.is_empty() && !dead {
            return Vec::new();
        }
        let serving = self.instances.iter();
        let serving = serving.filter(|(_, i)| i.removal == Removal::None && !i.spec.draining);
        let serving = serving.filter(|(_, i)| !self.kept.contains(&i.spec.group));
        serving
            .filter(|(uid, instance)| {
                // Where functions end by themselves, the end of the quarantine is near.
                let endless = instance.spec.function_timeout_ms.is_none();
                let stranded = self
                    .members
                    .iter()
                    .filter(|(id, member)| silent.contains(id) || (endless && settled(member)));
                let cap = u32::from(instance.spec.cap);
                let sum: u32 = stranded
                    .map(|(_, member)| self.most(member, **uid, cap, instance.accounted))
                    .sum();
                sum > 0 && sum * 2 >= cap
            })
            .map(|(uid, _)| *uid)
            .collect()
    }

    /// The most that a member may have there.
    fn most(&self, member: &Member, uid: InstanceUid, cap: u32, accounted: u32) -> u32 {
        let ours = self.claim(uid) == Some(self.epoch);
        let row = member.lease.get(&uid).copied().map_or(0, u32::from);
        if member.reported || ours {
            return row;
        }
        match member.bounds.get(&uid) {
            Some(bound) => u32::from(*bound),
            None => cap.saturating_sub(accounted),
        }
    }
}
