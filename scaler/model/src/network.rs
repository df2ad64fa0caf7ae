//! Streams between front ends and data roles: they break, and what is on them arrives late, out of order or twice.

use maniple_core::slots::{
    data_role::DataRole,
    front_end::LeadAnswer,
    message::{DataRoleSays, FrontEndSays, Session, ToDataRole, ToFrontEnd},
    pool::SlotPool,
};

use crate::{
    action::Packet,
    setup::{Setup, Wrong},
    world::{Message, World, member},
};

impl World {
    pub(crate) fn put(&mut self, fe: usize, dr: usize, stream: u8, message: Message) {
        let down = matches!(message, Message::Down(_));
        self.net
            .entry((fe, dr, stream, down))
            .or_default()
            .push_back(message);
    }

    pub(crate) fn connect(&mut self, fe: usize, dr: usize) {
        let link = self.links.entry((fe, dr)).or_insert((0, false));
        *link = (link.0 + 1, true);
        let stream = link.0;
        if let Some(role) = &self.drs[dr].role {
            let lead = role.lead();
            self.put(fe, dr, stream, Message::Down(lead));
        }
    }

    pub(crate) fn cut(&mut self, fe: usize, dr: usize) {
        let Some(link) = self.links.get_mut(&(fe, dr)) else {
            return;
        };
        if !link.1 {
            return;
        }
        link.1 = false;
        let stream = link.0;
        if self.fes[fe].follows == Some((dr, stream)) {
            self.fes[fe].follows = None;
            self.fes[fe].control.on_disconnected();
        }
        if let Some((session, known)) = self.drs[dr].streams.get(&fe).copied()
            && known == stream
            && let Some(role) = &mut self.drs[dr].role
        {
            role.on_disconnected(member(fe).id, session, 0);
        }
    }

    pub(crate) fn deliver(&mut self, setup: &Setup, packet: Packet, again: bool) {
        let key = (packet.fe, packet.dr, packet.stream, packet.down);
        let Some(queue) = self.net.get_mut(&key) else {
            return;
        };
        let message = if again {
            queue.get(packet.at).cloned()
        } else {
            queue.remove(packet.at)
        };
        if queue.is_empty() {
            self.net.remove(&key);
        }
        match message {
            Some(Message::Down(message)) => self.reach_front_end(setup, packet, message),
            Some(Message::Up(message)) => self.reach_data_role(setup, packet, message),
            None => {}
        }
    }

    pub(crate) fn reach_front_end(
        &mut self,
        setup: &Setup,
        packet: Packet,
        mut message: ToFrontEnd,
    ) {
        let (fe, dr) = (packet.fe, packet.dr);
        if !self.fes[fe].life.runs() {
            return;
        }
        if matches!(message.body, DataRoleSays::Lead { .. }) {
            let live = self.links.get(&(fe, dr)) == Some(&(packet.stream, true));
            if live {
                self.lead(setup, fe, dr, packet.stream, &message);
            }
            return;
        }
        let node = &mut self.fes[fe];
        match setup.wrong {
            Some(Wrong::FrontEndTakesOldSession)
                if message.header.epoch == node.control.epoch() =>
            {
                message.header.session = node.control.session();
                message.header.seq.0 += 1000;
            }
            Some(Wrong::NoEpochFence) if message.header.epoch != node.control.epoch() => {
                message.header.epoch = node.control.epoch();
                message.header.session = node.control.session();
                message.header.seq.0 += 1000;
            }
            _ => {}
        }
        if let DataRoleSays::Recall { want, must, group } = &mut message.body {
            let free = node.pool.words().any(|(_, word)| word.free() > 0);
            if setup.wrong == Some(Wrong::RecallForgotten)
                && (!free || node.pool.waiting(group) > 0)
            {
                (*want, *must) = (0, 0);
            }
            if setup.wrong == Some(Wrong::NoMust) {
                *must = 0;
            }
        }
        node.control.on_message(&message, &mut node.pool);
    }

    pub(crate) fn lead(
        &mut self,
        setup: &Setup,
        fe: usize,
        dr: usize,
        stream: u8,
        message: &ToFrontEnd,
    ) {
        let node = &mut self.fes[fe];
        match node.control.on_lead(message, &mut node.pool) {
            LeadAnswer::Follow(mut hello) => {
                if setup.wrong == Some(Wrong::HelloWithoutWaiting)
                    && let FrontEndSays::Hello(said) = &mut hello.body
                {
                    said.demand.clear();
                }
                if let Some((old, stream)) = node.follows.replace((dr, stream)) {
                    self.net.remove(&(fe, old, stream, true));
                    self.cut_old(fe, old, stream);
                }
                self.put(fe, dr, stream, Message::Up(hello));
            }
            LeadAnswer::Stale(stale) => self.put(fe, dr, stream, Message::Up(stale)),
            LeadAnswer::Ignore => {}
        }
    }

    /// The front end closes the stream that it followed before.
    pub(crate) fn cut_old(&mut self, fe: usize, dr: usize, stream: u8) {
        if self.links.get(&(fe, dr)) == Some(&(stream, true)) {
            self.cut(fe, dr);
        }
    }

    pub(crate) fn reach_data_role(
        &mut self,
        setup: &Setup,
        packet: Packet,
        mut message: ToDataRole,
    ) {
        let (fe, dr) = (packet.fe, packet.dr);
        let Some(epoch) = self.drs[dr].role.as_ref().map(DataRole::epoch) else {
            return;
        };
        let known = self.drs[dr]
            .streams
            .get(&fe)
            .map_or(Session(0), |(session, _)| *session);
        match setup.wrong {
            Some(Wrong::DataRoleTakesOldSession)
                if matches!(message.body, FrontEndSays::Sync(_)) =>
            {
                message.header.session = known;
                message.header.seq.0 += 1000;
            }
            Some(Wrong::LastReportWins)
                if matches!(message.body, FrontEndSays::Hello(_))
                    && message.header.session <= known =>
            {
                message.header.session = Session(known.0 + 1);
            }
            _ => {}
        }
        let hello = matches!(message.body, FrontEndSays::Hello(_));
        if hello && message.header.epoch == epoch && message.header.session > known {
            self.drs[dr]
                .streams
                .insert(fe, (message.header.session, packet.stream));
        }
        let role = self.drs[dr].role.as_mut().expect("looked up above");
        match role.on_message(member(fe).id, &message, 0) {
            Ok(effects) => {
                self.run(dr, effects);
                // A Hello that arrives after its stream broke leaves a session without a stream.
                let live = self.links.get(&(fe, dr)) == Some(&(packet.stream, true));
                if hello
                    && !live
                    && let Some(role) = &mut self.drs[dr].role
                {
                    role.on_disconnected(member(fe).id, message.header.session, 0);
                }
            }
            Err(_) => self.end_data_role(dr),
        }
    }
}
