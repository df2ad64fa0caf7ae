//! What leaves: dead front ends and their quarantine, instances that are removed.

use std::collections::BTreeSet;

use super::{
    books::{Life, Removal},
    data_role::{DataRole, Effect, Effects, Touched},
    message::{DataRoleSays, FrontEndId, GroupId, InstanceUid, MemberRecord},
};

impl DataRole {
    /// Proof that a front end process is dead: its rows freeze, nothing of it is believed any more, its slots return as its requests are seen to end.
    pub fn on_dead(&mut self, id: FrontEndId, now_ms: u64) -> Effects {
        let mut effects = Effects::new();
        self.buried.insert(id);
        self.die(id, now_ms);
        self.after_change(&Touched::All, now_ms, &mut effects);
        effects
    }

    pub(super) fn die(&mut self, id: FrontEndId, now_ms: u64) {
        if let Some(said) = self.joining.get_mut(&id) {
            said.clear();
        }
        if let Some(member) = self.members.get_mut(&id)
            && member.life == Life::Up
        {
            member.life = Life::Dead { at_ms: now_ms };
            member.needs.clear();
            member.unseen.clear();
            member.trims.clear();
        }
    }

    /// A Hello with a higher restart count proves that earlier processes of that pod are dead.
    pub(super) fn restarted(&mut self, newer: MemberRecord, now_ms: u64, _effects: &mut Effects) {
        let older: Vec<FrontEndId> = self
            .members
            .values()
            .filter(|m| {
                m.record.pod.uid == newer.pod.uid && m.record.pod.restarts < newer.pod.restarts
            })
            .map(|m| m.record.id)
            .collect();
        for id in older {
            self.buried.insert(id);
            self.die(id, now_ms);
        }
    }

    /// Instances whose outstanding requests have to be asked for: some dead front end may still have requests there and the wire is quiet.
    pub fn quarantined(&self, now_ms: u64) -> Vec<InstanceUid> {
        let settle = self.settings.settle_ms;
        let mut uids = BTreeSet::new();
        for member in self.members.values() {
            let Life::Dead { at_ms } = member.life else {
                continue;
            };
            if now_ms < at_ms + settle {
                continue;
            }
            uids.extend(member.lease.keys().copied());
            if !member.reported {
                uids.extend(
                    self.instances
                        .keys()
                        .filter(|uid| member.bounds.get(uid) != Some(&0))
                        .copied(),
                );
            }
        }
        uids.into_iter().collect()
    }

    /// An instance counted `outstanding` requests when asked at `asked_ms`: no more of a dead front end's can run there, and no new ones arrive after the settle time.
    pub fn on_outstanding(
        &mut self,
        uid: InstanceUid,
        outstanding: u16,
        asked_ms: u64,
        now_ms: u64,
    ) -> Effects {
        let settle = self.settings.settle_ms;
        let dead: Vec<FrontEndId> = self
            .members
            .iter()
            .filter(|(_, m)| matches!(m.life, Life::Dead { at_ms } if asked_ms >= at_ms + settle))
            .map(|(id, _)| *id)
            .collect();
        for id in dead {
            self.bound(id, uid, outstanding);
        }
        let mut effects = Effects::new();
        self.after_change(
            &Touched::These(self.group_of(uid).into_iter().collect()),
            now_ms,
            &mut effects,
        );
        effects
    }

    /// True when that is less than what was known.
    fn bound(&mut self, id: FrontEndId, uid: InstanceUid, most: u16) -> bool {
        let Some(member) = self.members.get_mut(&id) else {
            return false;
        };
        let mut changed = false;
        if !member.reported {
            let bound = member.bounds.entry(uid).or_insert(u16::MAX);
            changed = most < *bound;
            *bound = (*bound).min(most);
        }
        if let Some(row) = member.lease.get_mut(&uid)
            && *row > most
        {
            let over = *row - most;
            *row = most;
            if most == 0 {
                member.lease.remove(&uid);
            }
            self.lower_leased(uid, over);
            changed = true;
        }
        changed
    }

    /// Time passed: requests of dead front ends whose functions must have ended are over, instances that had refused work lend again, what is
    /// of no use to anybody any more is replaced, what has drained for too long goes.
    pub fn tick(&mut self, now_ms: u64) -> Effects {
        let settle = self.settings.settle_ms;
        self.give_up_lost(now_ms);
        let dead: Vec<(FrontEndId, u64)> = self
            .members
            .iter()
            .filter_map(|(id, m)| match m.life {
                Life::Dead { at_ms } => Some((*id, at_ms)),
                Life::Up | Life::Left => None,
            })
            .collect();
        let mut touched = BTreeSet::new();
        for (id, at_ms) in dead {
            let ended = |limit: u64| now_ms >= at_ms + limit + settle;
            let over: Vec<InstanceUid> = self
                .instances
                .iter()
                .filter(|(_, i)| i.spec.function_timeout_ms.is_some_and(ended))
                .map(|(uid, _)| *uid)
                .collect();
            for uid in over {
                if self.bound(id, uid, 0) {
                    touched.extend(self.group_of(uid));
                }
            }
        }
        for instance in self.instances.values_mut() {
            if instance.shed_cap.is_some() && now_ms >= instance.shed_until_ms {
                instance.shed_cap = None;
                touched.insert(instance.spec.group.clone());
            }
        }
        let mut effects = Effects::new();
        for uid in self.stranded(now_ms) {
            touched.extend(self.group_of(uid));
            self.mark(uid, &mut effects);
        }
        let late = self.instances.iter();
        let late = late.filter(|(uid, _)| self.drained_long_enough(**uid, now_ms));
        touched.extend(late.map(|(_, instance)| instance.spec.group.clone()));
        self.after_change(&Touched::These(touched), now_ms, &mut effects);
        effects
    }

    /// Members that can have nothing running any more leave the record.
    pub(super) fn leave_if_empty(&mut self, effects: &mut Effects) {
        let ready: Vec<FrontEndId> = self
            .members
            .iter()
            .filter(|(_, m)| !m.removing && m.lease.is_empty())
            // One whose pod is gone and that nobody hears holds nothing; should it ever come back, it has to join anew.
            .filter(|(_, m)| {
                m.life != Life::Up || (m.lost_since_ms.is_some() && m.down_since_ms.is_some())
            })
            .filter(|(_, m)| {
                m.reported
                    || m.life == Life::Left
                    || self.instances.iter().all(|(uid, i)| {
                        i.spec.claim == Some(self.epoch) || m.bounds.get(uid) == Some(&0)
                    })
            })
            .map(|(id, _)| *id)
            .collect();
        for id in ready {
            if let Some(member) = self.members.get_mut(&id) {
                member.removing = true;
                effects.push(Effect::RemoveMember(id));
            }
        }
    }

    /// The record no longer names `id`.
    pub fn on_member_removed(&mut self, id: FrontEndId, now_ms: u64) -> Effects {
        let mut effects = Effects::new();
        self.members.remove(&id);
        self.turn.retain(|known| *known != id);
        self.after_change(&Touched::All, now_ms, &mut effects);
        effects
    }

    /// Starts to remove an instance: nothing is lent there any more, everybody gives back, and it is deleted when nothing can run there.
    pub fn remove(&mut self, uid: InstanceUid, now_ms: u64) -> Effects {
        let mut effects = Effects::new();
        self.mark(uid, &mut effects);
        self.after_change(
            &Touched::These(self.group_of(uid).into_iter().collect()),
            now_ms,
            &mut effects,
        );
        effects
    }

    fn mark(&mut self, uid: InstanceUid, effects: &mut Effects) {
        if let Some(instance) = self.instances.get_mut(&uid)
            && instance.removal == Removal::None
        {
            instance.removal = Removal::Marking;
            // The mark comes first: front ends never take a drain back, so every later data role has to know of it.
            effects.push(Effect::MarkDrain(uid));
        }
    }

    /// The pod carries the drain mark.
    pub fn on_drain_marked(&mut self, uid: InstanceUid, now_ms: u64) -> Effects {
        let mut effects = Effects::new();
        if self
            .instances
            .get(&uid)
            .is_some_and(|i| i.removal == Removal::Marking)
        {
            self.start_drain(uid, now_ms, &mut effects);
        }
        self.after_change(
            &Touched::These(self.group_of(uid).into_iter().collect()),
            now_ms,
            &mut effects,
        );
        effects
    }

    pub(super) fn start_drain(&mut self, uid: InstanceUid, now_ms: u64, effects: &mut Effects) {
        if let Some(instance) = self.instances.get_mut(&uid) {
            instance.spec.draining = true;
            instance.removal = Removal::Draining;
            instance.drain_since_ms = now_ms;
            let handle = instance.handle;
            self.broadcast(&DataRoleSays::Drain { handle }, effects);
        }
    }

    pub(super) fn finish_removals(&mut self, group: &GroupId, now_ms: u64, effects: &mut Effects) {
        let empty: Vec<InstanceUid> = self
            .groups
            .get(group)
            .into_iter()
            .flatten()
            .filter(|uid| {
                let nothing = self.leased(**uid) == 0 && self.unreported(**uid) == Some(0);
                (self.instances[*uid].removal == Removal::Draining && nothing)
                    || self.drained_long_enough(**uid, now_ms)
            })
            .copied()
            .collect();
        for uid in empty {
            if let Some(instance) = self.instances.get_mut(&uid) {
                instance.removal = Removal::Confirming;
                // Only the data role that the record names may delete: a deposed one has empty books by right and is wrong.
                effects.push(Effect::ConfirmRecord(uid));
            }
        }
    }

    /// The last fence: whoever did not give back its slots in that time never will.
    fn drained_long_enough(&self, uid: InstanceUid, now_ms: u64) -> bool {
        self.instances.get(&uid).is_some_and(|instance| {
            let limit = self.drain_limits.get(&instance.spec.group);
            let limit = limit.copied().unwrap_or(self.settings.drain_limit_ms);
            instance.removal == Removal::Draining && now_ms >= instance.drain_since_ms + limit
        })
    }

    /// How long the instances of a group may drain, in milliseconds.
    pub fn set_drain_limit(&mut self, group: &GroupId, limit_ms: u64) {
        self.drain_limits.insert(group.clone(), limit_ms);
    }

    /// The record still names this epoch.
    pub fn on_record_confirmed(&mut self, uid: InstanceUid) -> Effects {
        match self.instances.get_mut(&uid) {
            Some(instance) if instance.removal == Removal::Confirming => {
                instance.removal = Removal::Deleted;
                vec![Effect::Delete(uid)]
            }
            _ => Effects::new(),
        }
    }
}
