//! Lending: what is available, who gets it, who is asked to give back.

use super::{
    books::{Life, Removal, Unseen},
    data_role::{DataRole, Effects},
    message::{DataRoleSays, Epoch, FrontEndId, GroupId, Handle, InstanceUid},
    placement::{self, Candidate},
};

/// What one front end needs of one group in one pump.
#[derive(Clone, Copy, Debug)]
struct Asker {
    id: FrontEndId,
    /// Waiting requests that no grant on the way will serve.
    unmet: u32,
    /// Waiting and running requests, 1 at least.
    demand: u32,
    /// Slots held and on the way.
    lease: u32,
    waited: bool,
}

impl DataRole {
    /// Slots of an instance that may be lent now. Never more than the cap less everything that anybody may hold.
    pub fn available(&self, uid: InstanceUid, now_ms: u64) -> u32 {
        let Some(instance) = self.instances.get(&uid) else {
            return 0;
        };
        let leased = self.leased.get(&uid).copied().unwrap_or(0);
        let Some(claim) = instance.spec.claim else {
            return 0;
        };
        if claim > self.epoch || instance.removal != Removal::None || instance.spec.draining {
            return 0;
        }
        if self.shares_address(uid) {
            return 0;
        }
        let mut cap = u32::from(instance.spec.cap);
        if now_ms < instance.shed_until_ms
            && let Some(limit) = instance.shed_cap
        {
            cap = cap.min(u32::from(limit));
        }
        if claim == self.epoch {
            return cap.saturating_sub(leased);
        }
        match self.unreported(uid) {
            Some(bound) => cap.saturating_sub(leased).saturating_sub(bound),
            None => cap.min(instance.accounted).saturating_sub(leased),
        }
    }

    /// Upper bound of what members that never reported in this epoch can have running at an instance; none while a living member is silent or the
    /// bound of a dead one is unknown.
    pub(super) fn unreported(&self, uid: InstanceUid) -> Option<u32> {
        let ours = self.instances.get(&uid).and_then(|i| i.spec.claim) == Some(self.epoch);
        let mut sum = 0;
        for member in self.members.values().filter(|m| !m.reported) {
            if ours {
                continue;
            }
            match member.life {
                Life::Up => return None,
                Life::Left => {}
                Life::Dead { .. } => sum += u32::from(*member.bounds.get(&uid)?),
            }
        }
        Some(sum)
    }

    /// Whether every member of the record is accounted for, so that instances of earlier epochs can be lent in full.
    pub fn recovered(&self) -> bool {
        self.instances
            .keys()
            .all(|&uid| self.unreported(uid) == Some(0))
            && self
                .members
                .values()
                .all(|m| m.reported || m.life != Life::Up)
    }

    /// What `fe` may hold of `uid` at most.
    pub fn lease(&self, fe: FrontEndId, uid: InstanceUid) -> u16 {
        self.members
            .get(&fe)
            .and_then(|m| m.lease.get(&uid))
            .copied()
            .unwrap_or(0)
    }

    /// What all front ends together may hold of `uid` at most.
    pub fn leased(&self, uid: InstanceUid) -> u32 {
        self.leased.get(&uid).copied().unwrap_or(0)
    }

    fn askers(&self, group: &GroupId) -> Vec<Asker> {
        let instances = &self.groups[group];
        self.members
            .iter()
            .filter(|(_, m)| m.reachable())
            .map(|(id, member)| {
                let (waiting, busy) = member
                    .needs
                    .get(group)
                    .map_or((0, 0), |n| (n.waiting, n.busy));
                let unseen: u32 = member
                    .unseen
                    .iter()
                    .filter(|g| instances.contains(&g.uid))
                    .map(|g| u32::from(g.count))
                    .sum();
                let lease = instances
                    .iter()
                    .filter_map(|uid| member.lease.get(uid))
                    .map(|n| u32::from(*n))
                    .sum();
                Asker {
                    id: *id,
                    unmet: waiting.saturating_sub(unseen),
                    demand: (waiting + busy).max(1),
                    lease,
                    waited: waiting > unseen,
                }
            })
            .collect()
    }

    pub(super) fn pump_group(&mut self, group: &GroupId, now_ms: u64, effects: &mut Effects) {
        let mut askers = self.askers(group);
        let mut granted: Vec<(FrontEndId, InstanceUid)> = Vec::new();
        if askers.iter().any(|a| a.unmet > 0) {
            let mut candidates = self.candidates(group, now_ms);
            let demand = self.demand(group, now_ms).current;
            while let Some(next) = self.next_asker(&askers) {
                let Some(at) = placement::choose(self.settings.placement, demand, &candidates)
                else {
                    break;
                };
                self.lend(&mut askers[next], &mut candidates[at], &mut granted);
            }
            self.lend_ahead(demand, &mut askers, &mut candidates, &mut granted);
        }
        self.send_grants(&granted, effects);
        self.recall(group, &askers, effects);
        self.trim(group, effects);
    }

    fn candidates(&self, group: &GroupId, now_ms: u64) -> Vec<Candidate> {
        let mut candidates: Vec<_> = self.groups[group]
            .iter()
            .map(|&uid| {
                let spec = &self.instances[&uid].spec;
                Candidate {
                    uid,
                    rank: spec.rank,
                    cap: spec.cap,
                    leased: self.leased(uid),
                    available: self.available(uid, now_ms),
                }
            })
            .collect();
        placement::order(&mut candidates);
        candidates
    }

    /// Least slots for its demand first; when equal, who waited longest for a grant.
    fn next_asker(&self, askers: &[Asker]) -> Option<usize> {
        let turn = |id: FrontEndId| self.turn.iter().position(|known| *known == id).unwrap_or(0);
        askers
            .iter()
            .enumerate()
            .filter(|(_, a)| a.unmet > 0)
            .min_by(|(_, a), (_, b)| {
                let left = u64::from(a.lease) * u64::from(b.demand);
                let right = u64::from(b.lease) * u64::from(a.demand);
                left.cmp(&right).then_with(|| turn(a.id).cmp(&turn(b.id)))
            })
            .map(|(i, _)| i)
    }

    fn lend(
        &mut self,
        asker: &mut Asker,
        from: &mut Candidate,
        granted: &mut Vec<(FrontEndId, InstanceUid)>,
    ) {
        asker.unmet = asker.unmet.saturating_sub(1);
        asker.lease += 1;
        from.leased += 1;
        from.available -= 1;
        let member = self.members.get_mut(&asker.id).expect("askers are members");
        *member.lease.entry(from.uid).or_default() += 1;
        let sum = self.leased.entry(from.uid).or_default();
        *sum += 1;
        // I4: the books never lend more than the cap.
        debug_assert!(
            *sum <= u32::from(from.cap),
            "{:?} lent {sum} of {}",
            from.uid,
            from.cap
        );
        granted.push((asker.id, from.uid));
        if self.turn.last() != Some(&asker.id) {
            self.turn.retain(|id| *id != asker.id);
            self.turn.push(asker.id);
        }
    }

    /// A front end that had to ask gets some more, so that a growing stream of requests does not ask for each; nobody does while one waits.
    fn lend_ahead(
        &mut self,
        demand: u32,
        askers: &mut [Asker],
        candidates: &mut [Candidate],
        granted: &mut Vec<(FrontEndId, InstanceUid)>,
    ) {
        if self.settings.ahead_percent == 0 || askers.iter().any(|a| a.unmet > 0) {
            return;
        }
        for asker in askers.iter_mut().filter(|a| a.waited) {
            let more = asker.lease * self.settings.ahead_percent.min(25) / 100;
            for _ in 0..more {
                let Some(at) = placement::choose(self.settings.placement, demand, candidates)
                else {
                    return;
                };
                self.lend(asker, &mut candidates[at], granted);
            }
        }
    }

    fn send_grants(&mut self, granted: &[(FrontEndId, InstanceUid)], effects: &mut Effects) {
        let ids: std::collections::BTreeSet<FrontEndId> =
            granted.iter().map(|(id, _)| *id).collect();
        for id in ids {
            let mut counts: std::collections::BTreeMap<InstanceUid, u16> =
                std::collections::BTreeMap::new();
            for (_, uid) in granted.iter().filter(|(to, _)| *to == id) {
                *counts.entry(*uid).or_default() += 1;
            }
            let grant: Vec<(Handle, u16)> = counts
                .iter()
                .map(|(uid, n)| (self.instances[uid].handle, *n))
                .collect();
            let seq = self.send(id, DataRoleSays::Grant(grant), effects);
            let member = self.members.get_mut(&id).expect("askers are members");
            member.unseen.extend(
                counts
                    .into_iter()
                    .map(|(uid, count)| Unseen { seq, uid, count }),
            );
        }
    }

    /// Asks every holder for what the others still need, by level: said again whenever it differs from what the holder was told less what it gave
    /// back.
    fn recall(&mut self, group: &GroupId, askers: &[Asker], effects: &mut Effects) {
        let unmet: u32 = askers.iter().map(|a| a.unmet).sum();
        let total: u32 = askers.iter().map(|a| a.lease).sum();
        let active = askers
            .iter()
            .filter(|a| a.unmet > 0 || a.lease > 0)
            .count()
            .max(1) as u32;
        let share = total / active;
        for holder in askers {
            let (mut want, mut must) = (0, 0);
            if holder.lease > 0 {
                want = unmet - holder.unmet;
                // Who holds nothing gets a turn from anybody; who holds less than its share gets from those above theirs.
                let starving: u32 = askers
                    .iter()
                    .filter(|a| a.id != holder.id && a.unmet > 0 && a.lease == 0)
                    .count() as u32;
                let short: u32 = askers
                    .iter()
                    .filter(|a| a.id != holder.id && a.lease < share)
                    .map(|a| a.unmet.min(share - a.lease))
                    .sum();
                must = starving
                    .min(holder.lease)
                    .max(short.min(holder.lease.saturating_sub(share)));
            }
            let member = self
                .members
                .get_mut(&holder.id)
                .expect("askers are members");
            let known = member.needs.get(group).map_or((0, 0), |n| n.recall);
            if known != (want, must) {
                member.needs.entry(group.clone()).or_default().recall = (want, must);
                self.send(
                    holder.id,
                    DataRoleSays::Recall {
                        group: group.clone(),
                        want,
                        must,
                    },
                    effects,
                );
            }
        }
    }

    /// After a lowered cap: every holder gives back until the sum fits.
    fn trim(&mut self, group: &GroupId, effects: &mut Effects) {
        let uids: Vec<InstanceUid> = self.groups[group].iter().copied().collect();
        for uid in uids {
            let instance = &self.instances[&uid];
            let (handle, removal) = (instance.handle, instance.removal);
            let over = self
                .leased(uid)
                .saturating_sub(u32::from(instance.spec.cap));
            if removal != Removal::None
                || (over == 0 && self.members.values().all(|m| !m.trims.contains_key(&uid)))
            {
                continue;
            }
            let reachable: Vec<FrontEndId> = self
                .members
                .iter()
                .filter(|(_, m)| m.reachable())
                .map(|(id, _)| *id)
                .collect();
            for id in reachable {
                let member = self.members.get_mut(&id).expect("listed above");
                let row = member.lease.get(&uid).copied().unwrap_or(0);
                let excess = u16::try_from(over).unwrap_or(u16::MAX).min(row);
                if member.trims.get(&uid).copied().unwrap_or(0) != excess {
                    member.trims.insert(uid, excess);
                    self.send(id, DataRoleSays::Trim { handle, excess }, effects);
                }
                if excess == 0 {
                    self.members
                        .get_mut(&id)
                        .expect("listed above")
                        .trims
                        .remove(&uid);
                }
            }
        }
    }

    pub(super) fn shed(&mut self, uid: InstanceUid, now_ms: u64) {
        let leased = self.leased(uid);
        if let Some(instance) = self.instances.get_mut(&uid) {
            instance.shed_until_ms = now_ms + self.settings.shed_hold_ms;
            instance.shed_cap = Some(u16::try_from(leased.saturating_sub(1)).unwrap_or(u16::MAX));
        }
    }

    /// The term in which the instance was first seen, if it is lent at all.
    pub fn claim(&self, uid: InstanceUid) -> Option<Epoch> {
        self.instances.get(&uid).and_then(|i| i.spec.claim)
    }
}
