//! What may happen next.

use maniple_core::slots::{message::ToDataRole, pool::SlotPool};

use crate::{
    action::{Action, Packet},
    setup::{Setup, Wrong},
    world::{FrontEndNode, NodeLife, World, member, uid},
};

impl World {
    /// Everything that may happen now.
    pub fn actions(&self, setup: &Setup) -> Vec<Action> {
        let mut actions = self.progress(setup);
        self.events(&mut actions);
        self.faults(setup, &mut actions);
        actions
    }

    /// What happens by itself, sooner or later.
    pub fn progress(&self, setup: &Setup) -> Vec<Action> {
        let mut actions = Vec::new();
        for (fe, node) in self.fes.iter().enumerate() {
            // A Bye that got lost leaves a member that only the end of its pod explains.
            let silent = node.life == NodeLife::Left && self.record.1.contains_key(&member(fe).id);
            if node.life == NodeLife::Crashed || silent {
                actions.push(Action::ProveDead(fe));
            }
            for (i, instance) in self.instances.iter().enumerate() {
                if instance.wire[fe] > 0 {
                    actions.push(Action::Land(fe, i));
                }
            }
            if !node.life.runs() {
                continue;
            }
            self.of_front_end(setup, fe, node, &mut actions);
        }
        for packet in self.packets() {
            let live = self.links.get(&(packet.fe, packet.dr)) == Some(&(packet.stream, true));
            if live && packet.at == 0 {
                actions.push(Action::Deliver(packet));
            }
        }
        for (dr, node) in self.drs.iter().enumerate() {
            if node.role.is_some() && !node.writes.is_empty() {
                actions.push(Action::Write(dr));
            }
            for i in self.present() {
                let known = node.role.as_ref().and_then(|role| role.instance(uid(i)));
                if self.instances[i].draining && known.is_some_and(|spec| !spec.draining) {
                    actions.push(Action::Watch(dr, i));
                }
            }
        }
        for (i, instance) in self.instances.iter().enumerate() {
            if instance.orphans > 0 {
                actions.push(Action::OrphanEnd(i));
            }
            if self.worth_asking(setup, i) {
                actions.push(Action::Outstanding(i));
            }
        }
        if !self.led() {
            actions.extend(self.standbys().map(Action::Takeover));
        }
        actions
    }

    fn of_front_end(
        &self,
        setup: &Setup,
        fe: usize,
        node: &FrontEndNode,
        actions: &mut Vec<Action>,
    ) {
        for (i, instance) in self.instances.iter().enumerate() {
            let word = node.pool.word(uid(i));
            if instance.running[fe] > 0 && word.busy() > 0 {
                actions.push(Action::Complete(fe, i));
            }
            if instance.running[fe] > 0 && word.linger() > 0 {
                actions.push(Action::LingerEnd(fe, i));
            }
        }
        if self.clone_flush(setup, fe).is_some() {
            actions.push(Action::Flush(fe));
        }
        for (dr, other) in self.drs.iter().enumerate() {
            let up = self.links.get(&(fe, dr)).is_some_and(|(_, up)| *up);
            if other.role.is_some() && !up {
                actions.push(Action::Connect(fe, dr));
            }
        }
    }

    fn clone_flush(&self, setup: &Setup, fe: usize) -> Option<ToDataRole> {
        let mut node = self.fes[fe].clone();
        crate::step::flush(setup, &mut node)
    }

    /// Whether asking instance `i` would tell a data role something.
    fn worth_asking(&self, setup: &Setup, i: usize) -> bool {
        let instance = &self.instances[i];
        let quiet = instance
            .wire
            .iter()
            .zip(&self.fes)
            .all(|(n, fe)| *n == 0 || fe.life.runs());
        if !instance.present
            || instance.deleted
            || (!quiet && setup.wrong != Some(Wrong::CountWithoutSettle))
        {
            return false;
        }
        if setup.wrong == Some(Wrong::QuarantineWhole) && instance.total() > 0 {
            return false;
        }
        self.drs
            .iter()
            .filter_map(|dr| dr.role.as_ref())
            .any(|role| {
                role.quarantined(0).contains(&uid(i)) && {
                    let mut asked = role.clone();
                    asked.on_outstanding(uid(i), instance.total(), 0, 0);
                    asked != *role
                }
            })
    }

    fn events(&self, actions: &mut Vec<Action>) {
        for (fe, node) in self.fes.iter().enumerate() {
            if node.life == NodeLife::Up && node.arrivals > 0 {
                actions.push(Action::Arrive(fe));
            }
            if node.life == NodeLife::Unborn {
                actions.push(Action::Join(fe));
            }
        }
        for (i, instance) in self.instances.iter().enumerate() {
            if !instance.present {
                actions.push(Action::Appear(i));
            }
        }
    }

    fn faults(&self, setup: &Setup, actions: &mut Vec<Action>) {
        let left = &self.left;
        for (fe, node) in self.fes.iter().enumerate().filter(|(_, n)| n.life.runs()) {
            for i in 0..self.instances.len() {
                let word = node.pool.word(uid(i));
                if left.cancels > 0 && word.busy() > 0 && self.instances[i].running[fe] > 0 {
                    actions.push(Action::Cancel(fe, i));
                }
                if left.idle_returns > 0 && word.free() > 0 {
                    actions.push(Action::IdleReturn(fe, i));
                }
            }
            if left.front_end_crashes > 0 {
                actions.push(Action::CrashFrontEnd(fe));
            }
            if left.leaves > 0 && node.life == NodeLife::Up && node.arrivals == 0 {
                actions.push(Action::Leave(fe));
            }
        }
        if left.cuts > 0 {
            actions.extend(
                self.links
                    .iter()
                    .filter(|(_, (_, up))| *up)
                    .map(|((fe, dr), _)| Action::Cut(*fe, *dr)),
            );
        }
        for packet in self.packets() {
            let live = self.links.get(&(packet.fe, packet.dr)) == Some(&(packet.stream, true));
            if !live {
                actions.push(Action::Deliver(packet));
            }
            if left.duplicates > 0 && (!live || packet.at == 0) {
                actions.push(Action::Duplicate(packet));
            }
        }
        for (dr, node) in self.drs.iter().enumerate() {
            if left.data_role_crashes > 0 && node.role.is_some() {
                actions.push(Action::CrashDataRole(dr));
            }
            if left.removals > 0 && node.role.is_some() {
                actions.push(Action::Remove(dr, 0));
            }
        }
        if left.depositions > 0 && self.led() {
            actions.extend(self.standbys().map(Action::Takeover));
        }
        if left.cap_changes > 0 && setup.new_cap.is_some() {
            actions.push(Action::ChangeCap);
        }
    }

    fn standbys(&self) -> impl Iterator<Item = usize> {
        // Which standby takes over makes no difference: the first.
        self.drs
            .iter()
            .position(|dr| dr.role.is_none() && !dr.ended)
            .into_iter()
    }

    fn packets(&self) -> impl Iterator<Item = Packet> {
        self.net
            .iter()
            .flat_map(|(&(fe, dr, stream, down), queue)| {
                (0..queue.len()).map(move |at| Packet {
                    fe,
                    dr,
                    stream,
                    down,
                    at,
                })
            })
    }
}
