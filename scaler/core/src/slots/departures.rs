//! What leaves: dead front ends and their quarantine, instances that are removed.

use super::{
    books::{Life, Removal},
    data_role::{DataRole, Effect, Effects, InstanceSpec, Touched},
    message::{DataRoleSays, FrontEndId, GroupId, Handle, InstanceUid, MemberRecord},
};

impl DataRole {
    /// Proof that a front end process is dead: its rows freeze, nothing of it is believed any more, its slots return as its requests are seen to end.
    pub fn on_dead(&mut self, id: FrontEndId, now_ms: u64) -> Effects {
        let mut effects = Effects::new();
        self.die(id, now_ms);
        self.after_change(&Touched::All, now_ms, &mut effects);
        effects
    }

    fn die(&mut self, id: FrontEndId, now_ms: u64) {
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
            self.die(id, now_ms);
        }
    }

    /// Instances whose outstanding requests have to be asked for: some dead front end may still have requests there and the wire is quiet.
    pub fn quarantined(&self, now_ms: u64) -> Vec<InstanceUid> {
        let settle = self.settings.settle_ms;
        let mut uids = std::collections::BTreeSet::new();
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

    fn bound(&mut self, id: FrontEndId, uid: InstanceUid, most: u16) {
        let Some(member) = self.members.get_mut(&id) else {
            return;
        };
        if !member.reported {
            let bound = member.bounds.entry(uid).or_insert(u16::MAX);
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
        }
    }

    /// Time passed: requests of dead front ends whose functions must have ended are over, instances that had refused work lend again.
    pub fn tick(&mut self, now_ms: u64) -> Effects {
        let settle = self.settings.settle_ms;
        let dead: Vec<(FrontEndId, u64)> = self
            .members
            .iter()
            .filter_map(|(id, m)| {
                if let Life::Dead { at_ms } = m.life {
                    Some((*id, at_ms))
                } else {
                    None
                }
            })
            .collect();
        for (id, at_ms) in dead {
            let over: Vec<InstanceUid> = self
                .instances
                .iter()
                .filter(|(_, i)| {
                    i.spec
                        .function_timeout_ms
                        .is_some_and(|limit| now_ms >= at_ms + limit + settle)
                })
                .map(|(uid, _)| *uid)
                .collect();
            for uid in over {
                self.bound(id, uid, 0);
            }
        }
        for instance in self.instances.values_mut() {
            if instance.shed_cap.is_some() && now_ms >= instance.shed_until_ms {
                instance.shed_cap = None;
            }
        }
        let mut effects = Effects::new();
        self.after_change(&Touched::All, now_ms, &mut effects);
        effects
    }

    /// Members that can have nothing running any more leave the record.
    pub(super) fn leave_if_empty(&mut self, effects: &mut Effects) {
        let ready: Vec<FrontEndId> = self
            .members
            .iter()
            .filter(|(_, m)| m.life != Life::Up && !m.removing && m.lease.is_empty())
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
        if let Some(instance) = self.instances.get_mut(&uid)
            && instance.removal == Removal::None
        {
            instance.removal = Removal::Marking;
            // The mark comes first: front ends never take a drain back, so every later data role has to know of it.
            effects.push(Effect::MarkDrain(uid));
        }
        self.after_change(
            &Touched::These(self.group_of(uid).into_iter().collect()),
            now_ms,
            &mut effects,
        );
        effects
    }

    /// The pod carries the drain mark.
    pub fn on_drain_marked(&mut self, uid: InstanceUid, now_ms: u64) -> Effects {
        let mut effects = Effects::new();
        if self
            .instances
            .get(&uid)
            .is_some_and(|i| i.removal == Removal::Marking)
        {
            self.start_drain(uid, &mut effects);
        }
        self.after_change(
            &Touched::These(self.group_of(uid).into_iter().collect()),
            now_ms,
            &mut effects,
        );
        effects
    }

    pub(super) fn start_drain(&mut self, uid: InstanceUid, effects: &mut Effects) {
        if let Some(instance) = self.instances.get_mut(&uid) {
            instance.spec.draining = true;
            instance.removal = Removal::Draining;
            let handle = instance.handle;
            self.broadcast(&DataRoleSays::Drain { handle }, effects);
        }
    }

    pub(super) fn finish_removals(&mut self, group: &GroupId, effects: &mut Effects) {
        let empty: Vec<InstanceUid> = self
            .groups
            .get(group)
            .into_iter()
            .flatten()
            .filter(|uid| {
                self.instances[*uid].removal == Removal::Draining
                    && self.leased(**uid) == 0
                    && self.unreported(**uid) == Some(0)
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

    /// The most that a member can have running at an instance, as far as the books know.
    pub fn bound_of(&self, id: FrontEndId, uid: InstanceUid) -> u16 {
        self.members.get(&id).map_or(0, |m| match m.life {
            Life::Dead { .. } if !m.reported => m.bounds.get(&uid).copied().unwrap_or(u16::MAX),
            _ => m.lease.get(&uid).copied().unwrap_or(0),
        })
    }

    /// How far the removal of an instance is; none when it is not known.
    pub fn removal(&self, uid: InstanceUid) -> Option<RemovalState> {
        let instance = self.instances.get(&uid)?;
        Some(match instance.removal {
            Removal::None => RemovalState::Serving,
            Removal::Marking | Removal::Draining => RemovalState::Draining,
            Removal::Confirming => RemovalState::Empty,
            Removal::Deleted => RemovalState::Deleted,
        })
    }

    /// The instance as last seen in the cluster.
    pub fn instance(&self, uid: InstanceUid) -> Option<&InstanceSpec> {
        self.instances.get(&uid).map(|i| &i.spec)
    }

    /// The instance of that name in messages of this data role.
    pub fn instance_of(&self, handle: Handle) -> Option<&InstanceSpec> {
        self.instance(*self.handles.get(&handle)?)
    }

    /// The name of an instance in messages of this data role.
    pub fn handle(&self, uid: InstanceUid) -> Option<Handle> {
        self.instances.get(&uid).map(|i| i.handle)
    }

    /// The front ends of the record.
    pub fn members(&self) -> impl Iterator<Item = FrontEndId> {
        self.members.keys().copied()
    }
}

/// Life of an instance as the books see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RemovalState {
    /// Lends slots.
    Serving,
    /// Lends nothing, waits until every slot is back.
    Draining,
    /// Nothing can run there; the record is being confirmed.
    Empty,
    /// Deletion was asked for.
    Deleted,
}
