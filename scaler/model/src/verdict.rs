//! What has to hold always, and at rest.

use maniple_core::slots::{
    message::{DataRoleSays, InstanceUid, ToFrontEnd},
    pool::SlotPool,
};

use crate::{
    action::Action,
    setup::Setup,
    world::{Message, NodeLife, World, group, member, uid},
};

impl World {
    /// Remembers the first broken invariant.
    pub(crate) fn judge(&mut self) {
        if self.broken.is_none() {
            self.broken = self.violation();
        }
    }

    fn violation(&self) -> Option<&'static str> {
        for instance in &self.instances {
            if instance.total() > instance.bound {
                return Some("I1: more requests run on an instance than its concurrency");
            }
        }
        for fe in &self.fes {
            for (_, word) in fe.pool.words() {
                if u32::from(word.busy()) + u32::from(word.linger()) > u32::from(word.held()) {
                    return Some("I2: more slots are in use than held");
                }
            }
        }
        self.books()
    }

    /// I3: in the session that both sides agree on, the row covers what is held and what is on the way.
    fn books(&self) -> Option<&'static str> {
        for (fe, dr, _) in self.agreed() {
            for i in self.present() {
                let role = self.drs[dr].role.as_ref()?;
                let row = u32::from(role.lease(member(fe).id, uid(i)));
                if row < self.out(fe, dr, uid(i)) {
                    return Some("I3: a row is lower than what the front end holds");
                }
            }
        }
        None
    }

    /// Front ends whose session a data role knows, with the stream.
    fn agreed(&self) -> impl Iterator<Item = (usize, usize, u8)> {
        self.drs.iter().enumerate().flat_map(move |(dr, node)| {
            node.streams
                .iter()
                .filter_map(move |(fe, (session, stream))| {
                    let front = &self.fes[*fe];
                    let role = node.role.as_ref()?;
                    (front.life.runs()
                        && front.control.epoch() == role.epoch()
                        && front.control.session() == *session
                        && front.follows == Some((dr, *stream))
                        && role.members().any(|id| id == member(*fe).id))
                    .then_some((*fe, dr, *stream))
                })
        })
    }

    /// Held, returned but not reported, and granted but not arrived.
    fn out(&self, fe: usize, dr: usize, id: InstanceUid) -> u32 {
        let word = self.fes[fe].pool.word(id);
        let control = &self.fes[fe].control;
        let coming: u32 = self
            .net
            .iter()
            .filter(|((f, d, ..), _)| (*f, *d) == (fe, dr))
            .flat_map(|(_, queue)| queue)
            .filter_map(|message| match message {
                Message::Down(ToFrontEnd {
                    header,
                    body: DataRoleSays::Grant(grants),
                }) if header.epoch == control.epoch()
                    && header.session == control.session()
                    && header.seq > control.applied() =>
                {
                    let role = self.drs[dr].role.as_ref()?;
                    Some(
                        grants
                            .iter()
                            .filter(|(h, _)| role.handle(id) == Some(*h))
                            .map(|(_, n)| u32::from(*n))
                            .sum::<u32>(),
                    )
                }
                _ => None,
            })
            .sum();
        u32::from(word.held()) + u32::from(word.returned()) + coming
    }

    /// L2: nobody waits beside an unused slot, though requests never end.
    ///
    /// While a dead front end is in the record only the whole quarantine is looked at: what runs may be its requests or those of others, and an
    /// instance cannot tell which, so a slot may rest until the instance had fewer running for a moment.
    pub fn waits_beside_unused(&self, setup: &Setup) -> bool {
        let waits = self
            .fes
            .iter()
            .any(|fe| fe.life == NodeLife::Up && fe.pool.waiting(&group()) > 0);
        let unused = self.present().into_iter().any(|i| {
            let instance = &self.instances[i];
            let quarantined = self.quarantined(i);
            let taken = if instance.orphans == instance.total() {
                instance.total()
            } else {
                instance.total().saturating_add(quarantined)
            };
            !instance.draining && taken < instance.cap
        });
        waits
            && unused
            && self.led()
            && self.progress(setup).iter().all(|a| {
                matches!(
                    a,
                    Action::Complete(..) | Action::LingerEnd(..) | Action::OrphanEnd(_)
                )
            })
    }

    /// Slots of dead front ends in the books of the leader.
    fn quarantined(&self, i: usize) -> u16 {
        let dead = self
            .fes
            .iter()
            .enumerate()
            .filter(|(_, fe)| fe.life == NodeLife::Proved);
        let leader = self
            .drs
            .iter()
            .filter_map(|dr| dr.role.as_ref())
            .find(|role| role.epoch() == self.record.0);
        leader.map_or(0, |role| {
            dead.map(|(fe, _)| role.bound_of(member(fe).id, uid(i)))
                .fold(0, u16::saturating_add)
        })
    }

    /// What is wrong with a world in which nothing happens any more by itself: L1, and the books at rest.
    pub fn unrest(&self, setup: &Setup) -> Option<&'static str> {
        if !self.progress(setup).is_empty() {
            return None;
        }
        let usable = self
            .present()
            .into_iter()
            .any(|i| !self.instances[i].draining);
        if !usable || !self.led() {
            return None;
        }
        for fe in self.fes.iter().filter(|fe| fe.life == NodeLife::Up) {
            if fe.pool.waiting(&group()) > 0 {
                return Some("L1: a request waits for ever");
            }
        }
        for (fe, dr, _) in self.agreed() {
            for i in self.present() {
                let role = self.drs[dr].role.as_ref()?;
                if u32::from(role.lease(member(fe).id, uid(i))) != self.out(fe, dr, uid(i)) {
                    return Some("I3: at rest a row differs from what is held");
                }
            }
        }
        None
    }
}
