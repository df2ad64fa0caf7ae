//! Instances that come, change and go.

use std::collections::BTreeSet;

use super::{
    books::{Instance, Removal},
    data_role::{DataRole, Effect, Effects, InstanceSpec, Touched},
    message::{DataRoleSays, Epoch, Handle, InstanceUid},
};

impl DataRole {
    /// An instance exists or changed.
    pub fn on_instance(&mut self, spec: InstanceSpec, now_ms: u64) -> Effects {
        let mut effects = Effects::new();
        let touched = Touched::These([spec.group.clone()].into());
        self.upsert(spec, now_ms, &mut effects);
        self.after_change(&touched, now_ms, &mut effects);
        effects
    }

    pub(super) fn upsert(&mut self, spec: InstanceSpec, now_ms: u64, effects: &mut Effects) {
        let uid = spec.uid;
        if let Some(known) = self.instances.get_mut(&uid) {
            let before = known.info();
            let address = known.spec.address;
            // The claim and the mark only ever come; a late event must not take them away.
            let claim = known.spec.claim.or(spec.claim);
            let draining = known.spec.draining || spec.draining;
            known.spec = InstanceSpec {
                claim,
                draining,
                ..spec
            };
            let after = known.info();
            let drain = known.spec.draining && known.removal == Removal::None;
            if address != after.address {
                self.leave_address(address, uid);
                self.addresses.entry(after.address).or_default().insert(uid);
            }
            if before != after {
                self.broadcast(&DataRoleSays::Instance(after), effects);
            }
            if drain {
                self.start_drain(uid, now_ms, effects);
            }
            return;
        }
        let handle = Handle(self.next_handle);
        self.next_handle += 1;
        self.handles.insert(handle, uid);
        let unclaimed = spec.claim.is_none();
        let removal = if spec.draining {
            Removal::Draining
        } else {
            Removal::None
        };
        self.groups
            .entry(spec.group.clone())
            .or_default()
            .insert(uid);
        self.addresses.entry(spec.address).or_default().insert(uid);
        let accounted = self.first_reports(uid);
        let instance = Instance {
            spec,
            handle,
            removal,
            drain_since_ms: now_ms,
            accounted,
            shed_until_ms: now_ms,
            shed_cap: None,
        };
        let info = instance.info();
        self.instances.insert(uid, instance);
        self.broadcast(&DataRoleSays::Instance(info), effects);
        if removal == Removal::Draining {
            self.broadcast(&DataRoleSays::Drain { handle }, effects);
        }
        if unclaimed {
            effects.push(Effect::Claim(uid));
        }
    }

    /// What was reported of an instance before the pod list named it.
    fn first_reports(&self, uid: InstanceUid) -> u32 {
        self.leased.get(&uid).copied().unwrap_or(0)
    }

    /// The pod carries `claim` now, ours or an older one.
    pub fn on_claim(&mut self, uid: InstanceUid, claim: Epoch, now_ms: u64) -> Effects {
        let mut effects = Effects::new();
        if let Some(instance) = self.instances.get_mut(&uid) {
            instance.spec.claim.get_or_insert(claim);
        }
        let touched = Touched::These(self.group_of(uid).into_iter().collect());
        self.after_change(&touched, now_ms, &mut effects);
        effects
    }

    /// The instance is gone with everything that ran there.
    pub fn on_instance_gone(&mut self, uid: InstanceUid, now_ms: u64) -> Effects {
        let mut effects = Effects::new();
        let mut touched: BTreeSet<_> = self.group_of(uid).into_iter().collect();
        // Who has its address now may have waited for this.
        touched.extend(
            self.neighbours(uid)
                .filter_map(|other| self.group_of(other)),
        );
        let touched = Touched::These(touched);
        self.forget(uid, &mut effects);
        self.after_change(&touched, now_ms, &mut effects);
        effects
    }

    /// A complete list of the pods, asked for after every Hello applied so far: what it does not name is gone.
    pub fn on_listed(&mut self, present: &BTreeSet<InstanceUid>, now_ms: u64) -> Effects {
        let mut effects = Effects::new();
        let gone: BTreeSet<InstanceUid> = self
            .instances
            .keys()
            .chain(self.leased.keys())
            .filter(|uid| !present.contains(uid))
            .copied()
            .collect();
        for uid in gone {
            self.forget(uid, &mut effects);
        }
        self.after_change(&Touched::All, now_ms, &mut effects);
        effects
    }

    fn leave_address(&mut self, address: std::net::SocketAddr, uid: InstanceUid) {
        if let Some(known) = self.addresses.get_mut(&address) {
            known.remove(&uid);
            if known.is_empty() {
                self.addresses.remove(&address);
            }
        }
    }

    /// Other pods that were seen at the address of an instance.
    fn neighbours(&self, uid: InstanceUid) -> impl Iterator<Item = InstanceUid> + '_ {
        let address = self.instances.get(&uid).map(|known| known.spec.address);
        let known = address.and_then(|address| self.addresses.get(&address));
        known
            .into_iter()
            .flatten()
            .filter(move |other| **other != uid)
            .copied()
    }

    /// Whether an older pod had the same address and may still be used there: what is sent to that one would run here.
    pub(super) fn shares_address(&self, uid: InstanceUid) -> bool {
        let age = |uid: InstanceUid| (self.instances[&uid].spec.rank.age, uid);
        self.neighbours(uid)
            .any(|other| age(other) < age(uid) && self.leased(other) > 0)
    }

    fn forget(&mut self, uid: InstanceUid, effects: &mut Effects) {
        let known = self.instances.remove(&uid);
        if let Some(instance) = &known {
            self.handles.remove(&instance.handle);
            self.leave_address(instance.spec.address, uid);
        }
        if let Some(instance) = known
            && let Some(group) = self.groups.get_mut(&instance.spec.group)
        {
            group.remove(&uid);
            if group.is_empty() {
                self.groups.remove(&instance.spec.group);
            }
        }
        self.leased.remove(&uid);
        for member in self.members.values_mut() {
            member.lease.remove(&uid);
            member.trims.remove(&uid);
            member.bounds.remove(&uid);
            member.unseen.retain(|grant| grant.uid != uid);
        }
        self.broadcast(&DataRoleSays::Gone { uid }, effects);
    }
}
