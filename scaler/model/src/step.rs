//! What each event does.

use std::collections::VecDeque;

use maniple_core::slots::{
    data_role::{DataRole, Effect, Effects},
    message::{Epoch, FrontEndSays, MemberRecord, ToDataRole},
    pool::SlotPool,
};

use crate::{
    action::Action,
    setup::{Setup, Wrong},
    world::{FrontEndNode, Message, NodeLife, World, group, member, uid},
};

/// What a front end has to say, with the state after it.
pub(crate) fn flush(setup: &Setup, node: &mut FrontEndNode) -> Option<ToDataRole> {
    if node.life == NodeLife::Leaving {
        node.control.release_all(&mut node.pool);
    }
    let before = node.control.clone();
    let said = node.control.flush(&mut node.pool, false);
    if setup.wrong == Some(Wrong::SyncOnlyOnChange)
        && let Some(message) = &said
        && let FrontEndSays::Sync(sync) = &message.body
        && sync.released.is_empty()
        && sync
            .demand
            .iter()
            .all(|d| before.last_waiting(&d.group) == d.waiting)
    {
        return None;
    }
    if said.is_none() && node.life == NodeLife::Leaving {
        return node.control.leave(&node.pool);
    }
    said
}

impl World {
    /// Lets `action` happen.
    pub fn step(&mut self, setup: &Setup, action: Action) {
        match action {
            Action::Arrive(fe) => {
                self.fes[fe].arrivals -= 1;
                self.fes[fe].pool.arrive(&group());
            }
            Action::Land(fe, i) => {
                self.instances[i].wire[fe] -= 1;
                self.land(fe, i);
            }
            Action::Complete(fe, i) => {
                self.instances[i].running[fe] -= 1;
                self.fes[fe].pool.complete(uid(i));
            }
            Action::Cancel(fe, i) => {
                self.left.cancels -= 1;
                if setup.wrong == Some(Wrong::FreeAtDisconnect) {
                    self.instances[i].running[fe] -= 1;
                    self.instances[i].orphans += 1;
                    self.fes[fe].pool.complete(uid(i));
                } else {
                    self.fes[fe].pool.abandon(uid(i));
                }
            }
            Action::LingerEnd(fe, i) => {
                self.instances[i].running[fe] -= 1;
                self.fes[fe].pool.settle(uid(i));
            }
            Action::OrphanEnd(i) => self.instances[i].orphans -= 1,
            Action::Flush(fe) => self.flush(setup, fe),
            Action::IdleReturn(fe, i) => {
                self.left.idle_returns -= 1;
                self.fes[fe].pool.release(uid(i), 1);
            }
            Action::Connect(fe, dr) => self.connect(fe, dr),
            Action::Cut(fe, dr) => {
                self.left.cuts -= 1;
                self.cut(fe, dr);
            }
            Action::Deliver(packet) => self.deliver(setup, packet, false),
            Action::Duplicate(packet) => {
                self.left.duplicates -= 1;
                self.deliver(setup, packet, true);
            }
            Action::Write(dr) => self.write(setup, dr),
            Action::Join(fe) => self.fes[fe].life = NodeLife::Up,
            Action::Leave(fe) => {
                self.left.leaves -= 1;
                self.fes[fe].life = NodeLife::Leaving;
            }
            Action::CrashFrontEnd(fe) => {
                self.left.front_end_crashes -= 1;
                self.end_front_end(fe, NodeLife::Crashed);
            }
            Action::ProveDead(fe) => self.prove_dead(setup, fe),
            Action::Outstanding(i) => {
                let count = self.instances[i].total();
                self.each_role(|role| role.on_outstanding(uid(i), count, 0, 0));
            }
            Action::CrashDataRole(dr) => {
                self.left.data_role_crashes -= 1;
                self.end_data_role(dr);
                // The process comes back as a standby.
                self.drs[dr].ended = false;
            }
            Action::Takeover(dr) => self.takeover(setup, dr),
            Action::Appear(i) => {
                self.instances[i].present = true;
                let spec = self.spec(i);
                self.each_role(|role| role.on_instance(spec.clone(), 0));
            }
            Action::Watch(dr, i) => {
                let spec = self.spec(i);
                let effects = self.drs[dr]
                    .role
                    .as_mut()
                    .map(|role| role.on_instance(spec, 0))
                    .unwrap_or_default();
                self.run(dr, effects);
            }
            Action::Remove(dr, i) => {
                self.left.removals -= 1;
                let effects = self.drs[dr]
                    .role
                    .as_mut()
                    .map(|role| role.remove(uid(i), 0))
                    .unwrap_or_default();
                self.run(dr, effects);
            }
            Action::ChangeCap => {
                self.left.cap_changes -= 1;
                for i in self.present() {
                    self.instances[i].cap = setup.new_cap.unwrap_or(self.instances[i].cap);
                    let spec = self.spec(i);
                    self.each_role(|role| role.on_instance(spec.clone(), 0));
                }
            }
        }
        self.start_requests(setup);
        self.judge();
    }

    fn land(&mut self, fe: usize, i: usize) {
        if self.instances[i].deleted {
            return;
        }
        if self.fes[fe].life.runs() {
            self.instances[i].running[fe] += 1;
        } else {
            self.instances[i].orphans += 1;
        }
    }

    /// Requests that took a slot in this step are sent.
    fn start_requests(&mut self, setup: &Setup) {
        for fe in 0..self.fes.len() {
            for started in self.fes[fe].pool.take_started() {
                let i = started.0 as usize;
                if setup.wire {
                    self.instances[i].wire[fe] += 1;
                } else {
                    self.land(fe, i);
                }
            }
        }
    }

    pub(crate) fn flush(&mut self, setup: &Setup, fe: usize) {
        let said = flush(setup, &mut self.fes[fe]);
        let follows = self.fes[fe].follows;
        if let (Some(message), Some((dr, stream))) = (said, follows) {
            let bye = matches!(message.body, FrontEndSays::Bye);
            self.put(fe, dr, stream, Message::Up(message));
            if bye {
                // The process ends when its Bye is on the way.
                self.fes[fe].life = NodeLife::Left;
            }
        }
    }

    pub(crate) fn run(&mut self, dr: usize, effects: Effects) {
        for effect in effects {
            if let Effect::Send { to, message } = effect {
                let fe = to.0 as usize;
                if let Some((session, stream)) = self.drs[dr].streams.get(&fe).copied()
                    && session == message.header.session
                    && self.links.get(&(fe, dr)) == Some(&(stream, true))
                {
                    self.put(fe, dr, stream, Message::Down(message));
                }
            } else {
                self.drs[dr].writes.push_back(effect);
            }
        }
    }

    pub(crate) fn each_role(&mut self, mut change: impl FnMut(&mut DataRole) -> Effects) {
        for dr in 0..self.drs.len() {
            if let Some(role) = &mut self.drs[dr].role {
                let effects = change(role);
                self.run(dr, effects);
            }
        }
    }

    fn write(&mut self, setup: &Setup, dr: usize) {
        let Some(effect) = self.drs[dr].writes.pop_front() else {
            return;
        };
        let Some(role) = &mut self.drs[dr].role else {
            return;
        };
        let named = self.record.0 == role.epoch();
        let effects = match effect {
            Effect::AddMember(record) => {
                if !named && setup.wrong != Some(Wrong::JoinWithoutRecord) {
                    return self.end_data_role(dr);
                }
                if named {
                    self.record.1.insert(record.id, record);
                }
                role.on_member_added(record, 0)
            }
            Effect::RemoveMember(id) => {
                if !named {
                    return self.end_data_role(dr);
                }
                self.record.1.remove(&id);
                role.on_member_removed(id, 0)
            }
            Effect::Claim(id) => {
                let claim = *self.instances[id.0 as usize]
                    .claim
                    .get_or_insert(role.epoch());
                let claim = if setup.wrong == Some(Wrong::NoClaim) {
                    role.epoch()
                } else {
                    claim
                };
                role.on_claim(id, claim, 0)
            }
            Effect::MarkDrain(id) => {
                self.instances[id.0 as usize].draining = true;
                role.on_drain_marked(id, 0)
            }
            Effect::ConfirmRecord(id) => {
                if !named && setup.wrong != Some(Wrong::DeleteWithoutRecord) {
                    return self.end_data_role(dr);
                }
                role.on_record_confirmed(id)
            }
            Effect::Delete(id) => {
                self.delete(id.0 as usize);
                Effects::new()
            }
            Effect::Send { .. } => Effects::new(),
        };
        self.run(dr, effects);
    }

    fn delete(&mut self, i: usize) {
        let instance = &mut self.instances[i];
        if instance.total() > 0 || instance.wire.iter().any(|n| *n > 0) {
            self.broken = Some("I7: an instance was deleted while requests ran there");
        }
        instance.deleted = true;
        instance.orphans = 0;
        instance.running.fill(0);
        self.each_role(|role| role.on_instance_gone(uid(i), 0));
    }

    fn takeover(&mut self, setup: &Setup, dr: usize) {
        if self.led() {
            self.left.depositions -= 1;
        }
        self.record.0 = Epoch(self.record.0.0 + 1);
        let members: Vec<MemberRecord> = if setup.wrong == Some(Wrong::EmptyMemory) {
            Vec::new()
        } else {
            self.record.1.values().copied().collect()
        };
        let mut specs: Vec<_> = self.present().into_iter().map(|i| self.spec(i)).collect();
        if setup.wrong == Some(Wrong::NoClaim) {
            for spec in specs.iter_mut().skip(setup.instances) {
                spec.claim = Some(self.record.0);
            }
        }
        let (role, effects) =
            DataRole::takeover(self.record.0, members, specs, Self::settings(setup), 0);
        self.drs[dr].role = Some(role);
        self.drs[dr].writes = VecDeque::new();
        self.drs[dr].streams.clear();
        self.run(dr, effects);
        // Deaths that were proved before are proved to the new one too: the pods are still gone.
        for fe in 0..self.fes.len() {
            if self.fes[fe].life == NodeLife::Proved {
                self.prove_dead(setup, fe);
            }
        }
    }

    fn prove_dead(&mut self, setup: &Setup, fe: usize) {
        self.fes[fe].life = NodeLife::Proved;
        self.each_role(|role| {
            let mut effects = role.on_dead(member(fe).id, 0);
            if setup.wrong == Some(Wrong::NoQuarantine) {
                for i in 0..8 {
                    effects.extend(role.on_outstanding(uid(i), 0, 0, 0));
                }
            }
            effects
        });
    }

    fn end_front_end(&mut self, fe: usize, life: NodeLife) {
        for dr in 0..self.drs.len() {
            self.cut(fe, dr);
        }
        self.fes[fe].life = life;
        self.fes[fe].pool = crate::pool::PlainPool::default();
        for instance in &mut self.instances {
            instance.orphans += std::mem::take(&mut instance.running[fe]);
        }
    }

    pub(crate) fn end_data_role(&mut self, dr: usize) {
        for fe in 0..self.fes.len() {
            self.cut(fe, dr);
        }
        let node = &mut self.drs[dr];
        node.role = None;
        node.ended = true;
        node.writes.clear();
        node.streams.clear();
    }
}
