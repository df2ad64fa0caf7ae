//! The books of one term, joined with streams, pods and writes.

use super::cluster::Cluster;
use super::front_ends::FrontEnds;
use super::groups::Groups;
use super::metrics::SlotsMetrics;
use super::outside::{Done, Outside};
use super::record::Record;
use super::service::ConnectionId;
use super::view::{DemandEvent, RoleView};
use super::wire::{encode_from_data_role, encode_start};
use maniple_core::slots::data_role::{DataRole, Deposed, Effect, Effects, Settings};
use maniple_core::slots::message::{
    DataRoleSays, FrontEndId, FrontEndSays, GroupDemand, GroupId, InstanceUid, MemberRecord,
    Session, ToDataRole, ToFrontEnd,
};
use maniple_proto::slots::FromDataRole;
use std::collections::HashMap;
use tokio::sync::mpsc;

/// Who speaks on a stream.
#[derive(Debug)]
struct Speaker {
    id: FrontEndId,
    session: Session,
    to: mpsc::UnboundedSender<FromDataRole>,
}

/// The books of one term.
pub(super) struct Books<C> {
    pub(super) role: DataRole,
    pub(super) outside: Outside<C>,
    demand: mpsc::UnboundedSender<DemandEvent>,
    pub(super) metrics: SlotsMetrics,
    served: bool,
    speakers: HashMap<ConnectionId, Speaker>,
    /// Groups in which more may wait than is there, and when that is looked at again.
    surges: HashMap<GroupId, u64>,
    streams: HashMap<FrontEndId, ConnectionId>,
    pub(super) front_ends: FrontEnds,
    pub(super) groups: Groups,
    hellos: u64,
    listing: bool,
}

impl<C: Cluster> Books<C> {
    pub(super) fn new(
        record: &Record,
        members: Vec<MemberRecord>,
        settings: Settings,
        outside: Outside<C>,
        demand: mpsc::UnboundedSender<DemandEvent>,
        metrics: SlotsMetrics,
        now_ms: u64,
    ) -> Self {
        let (role, _) =
            DataRole::takeover(outside.epoch, members.iter().copied(), [], settings, now_ms);
        Self {
            role,
            outside,
            demand,
            metrics,
            served: record.served,
            speakers: HashMap::new(),
            surges: HashMap::new(),
            streams: HashMap::new(),
            front_ends: FrontEnds::new(record, members),
            groups: Groups::default(),
            hellos: 0,
            listing: false,
        }
    }

    pub(super) fn epoch(&self) -> u64 {
        self.role.epoch().0
    }

    /// Everything that the first lists show is told: from now on it counts.
    pub(super) fn begin(&mut self, now_ms: u64) {
        self.missed_deaths(now_ms);
        self.tell_role();
        self.tell_all(now_ms);
    }

    fn tell_role(&self) {
        let role = if self.served {
            RoleView::Counting
        } else {
            RoleView::Uncounted
        };
        let _ = self.demand.send(DemandEvent::Role(role));
    }

    /// The first word on a stream.
    pub(super) fn welcome(&self, to: &mpsc::UnboundedSender<FromDataRole>) {
        let _ = to.send(encode_from_data_role(&self.role.lead()));
    }

    /// A message of a front end.
    pub(super) fn said(
        &mut self,
        connection: ConnectionId,
        to: &mpsc::UnboundedSender<FromDataRole>,
        message: &ToDataRole,
        now_ms: u64,
    ) -> Result<(), Deposed> {
        let session = message.header.session;
        if let FrontEndSays::Hello(hello) = &message.body {
            let id = hello.member.id;
            let before = self.streams.get(&id);
            let before = before.and_then(|known| self.speakers.get(known));
            if before.is_some_and(|before| before.session >= session) {
                return Ok(());
            }
            if let Some(older) = self.streams.insert(id, connection)
                && older != connection
            {
                self.speakers.remove(&older);
            }
            let to = to.clone();
            let speaker = Speaker { id, session, to };
            self.speakers.insert(connection, speaker);
            self.hellos += 1;
            self.metrics.hellos.inc();
            self.count_streams();
            if hello
                .slots
                .iter()
                .any(|slots| !self.groups.knows(slots.uid))
            {
                self.list();
            }
            let effects = self.role.on_message(id, message, now_ms)?;
            self.act(effects);
            self.reported(id, &hello.demand, now_ms);
            self.tell_all(now_ms);
            return Ok(());
        }
        // A Stale comes without a Hello before it; nothing else does.
        let speaker = self.speakers.get(&connection);
        let from = speaker.map_or(FrontEndId(0), |speaker| speaker.id);
        let effects = self.role.on_message(from, message, now_ms)?;
        self.act(effects);
        match &message.body {
            FrontEndSays::Sync(sync) => {
                self.reported(from, &sync.demand, now_ms);
                for demand in &sync.demand {
                    self.tell(&demand.group, now_ms);
                }
                // The last slot of an instance that drains may have come back.
                for (handle, _) in &sync.released {
                    let group = self
                        .role
                        .instance_of(*handle)
                        .map(|spec| spec.group.clone());
                    if let Some(group) = group {
                        self.tell(&group, now_ms);
                    }
                }
            }
            FrontEndSays::Bye => self.tell_all(now_ms),
            FrontEndSays::Hello(_) | FrontEndSays::Stale => {}
        }
        Ok(())
    }

    /// A stream ended.
    pub(super) fn closed(&mut self, connection: ConnectionId, now_ms: u64) {
        if let Some(speaker) = self.speakers.remove(&connection) {
            self.streams.remove(&speaker.id);
            self.count_streams();
            self.role
                .on_disconnected(speaker.id, speaker.session, now_ms);
            self.tell_all(now_ms);
        }
    }

    fn count_streams(&self) {
        let streams = i64::try_from(self.speakers.len()).unwrap_or(i64::MAX);
        self.metrics.front_ends.set(streams);
    }

    /// Time passed.
    pub(super) fn tick(&mut self, now_ms: u64) {
        let effects = self.role.tick(now_ms);
        self.act(effects);
        let members = i64::try_from(self.front_ends.members().len()).unwrap_or(i64::MAX);
        self.metrics.members.set(members);
        for group in self.groups.declared() {
            self.tell(&group, now_ms);
            self.shrink(&group, now_ms);
            self.metrics.group(&group, self.role.slots(&group, now_ms));
        }
    }

    /// The outcome of a write.
    pub(super) fn done(&mut self, done: Done, now_ms: u64) {
        let (effects, of) = match done {
            Done::Added(member) => {
                self.front_ends.joined(member);
                if !self.served {
                    self.served = true;
                    self.tell_role();
                }
                let effects = self.role.on_member_added(member, now_ms);
                self.act(effects);
                self.process_ended(member.id, now_ms);
                (Effects::new(), None)
            }
            Done::Removed(id) => {
                self.front_ends.left(id);
                (self.role.on_member_removed(id, now_ms), None)
            }
            Done::Confirmed(uid) => {
                self.metrics.removal("empty");
                (self.role.on_record_confirmed(uid), Some(uid))
            }
            Done::Claimed(uid, claim) => {
                if let Some(instance) = self.groups.instance_mut(uid) {
                    instance.pod.claim.get_or_insert(claim);
                    instance.claiming = false;
                }
                (self.role.on_claim(uid, claim, now_ms), Some(uid))
            }
            Done::Marked(uid) => {
                if let Some(instance) = self.groups.instance_mut(uid) {
                    instance.pod.marked = true;
                }
                self.metrics.removal("draining");
                (self.role.on_drain_marked(uid, now_ms), Some(uid))
            }
            Done::CostLowered(uid) => {
                if let Some(instance) = self.groups.instance_mut(uid) {
                    instance.removable = true;
                }
                self.metrics.removal("removable");
                (Effects::new(), Some(uid))
            }
            Done::Listed { present, hellos } => {
                self.listing = false;
                if hellos == self.hellos {
                    (self.role.on_listed(&present, now_ms), None)
                } else {
                    self.list();
                    return;
                }
            }
            Done::Gone => return,
        };
        self.act(effects);
        match of {
            Some(uid) => {
                if let Some(group) = self.groups.group_of(uid).cloned() {
                    self.tell(&group, now_ms);
                }
            }
            None => self.tell_all(now_ms),
        }
    }

    fn list(&mut self) {
        if !self.listing {
            self.listing = true;
            self.outside.list(self.hellos);
        }
    }

    pub(super) fn act(&mut self, effects: Effects) {
        for effect in effects {
            match effect {
                Effect::Send { to, message } => {
                    match &message.body {
                        DataRoleSays::Grant(slots) => {
                            let count = slots.iter().map(|(_, count)| u64::from(*count)).sum();
                            self.metrics.granted.inc_by(count);
                        }
                        DataRoleSays::Recall { want, .. } if *want > 0 => {
                            self.metrics.recalls.inc();
                        }
                        _ => {}
                    }
                    let stream = self.streams.get(&to).and_then(|id| self.speakers.get(id));
                    if let Some(stream) = stream.filter(|s| s.session == message.header.session) {
                        let _ = stream.to.send(self.encode(&message));
                    }
                }
                Effect::AddMember(member) => {
                    let watched = self.front_ends.watches(member);
                    if !watched {
                        tracing::warn!(front_end = ?member.id, "slots: the pod of this front end is not among those watched, its end will not be seen");
                    }
                    self.outside.add_member(member, watched);
                }
                Effect::RemoveMember(id) => self.outside.remove_member(id),
                Effect::ConfirmRecord(uid) => {
                    let slots = self.role.leased(uid);
                    if slots > 0 {
                        tracing::warn!(instance = ?uid, slots, "slots: an instance did not come to rest within its time to drain, it goes with what runs there");
                        self.metrics.removal("overdue");
                    }
                    self.outside.confirm(uid);
                }
                Effect::Claim(uid) => {
                    let claimed = self
                        .groups
                        .instance_mut(uid)
                        .is_some_and(|instance| !std::mem::replace(&mut instance.claiming, true));
                    if claimed {
                        self.write(uid, Outside::claim);
                    }
                }
                Effect::MarkDrain(uid) => {
                    tracing::info!(instance = ?uid, slots = self.role.leased(uid), "slots: an instance gets nothing new any more");
                    self.write(uid, Outside::mark);
                }
                Effect::Delete(uid) => self.write(uid, Outside::lower_cost),
            }
        }
    }

    fn encode(&self, message: &ToFrontEnd) -> FromDataRole {
        let ages = match &message.body {
            DataRoleSays::Instance(info) => self.groups.instance(info.uid),
            _ => None,
        };
        match ages.and_then(|instance| instance.start?.ages()) {
            Some(ages) => encode_start(message, &ages),
            None => encode_from_data_role(message),
        }
    }

    /// Writes to the pod of an instance.
    pub(super) fn write(
        &mut self,
        uid: InstanceUid,
        write: impl FnOnce(&mut Outside<C>, InstanceUid, super::pods::PodName),
    ) {
        if let Some(name) = self.groups.name(uid).cloned() {
            write(&mut self.outside, uid, name);
        }
    }

    pub(super) fn tell_all(&mut self, now_ms: u64) {
        for group in self.groups.declared() {
            self.tell(&group, now_ms);
        }
    }

    /// Tells the engine what is new of a group.
    pub(super) fn tell(&mut self, group: &GroupId, now_ms: u64) {
        let Some(known) = self.groups.get_mut(group) else {
            return;
        };
        if let Some((key, view)) = known.news(group, &self.role, now_ms) {
            let _ = self.demand.send(DemandEvent::Group(key, view));
        }
        match known.surge_due_ms(now_ms) {
            Some(due_ms) => {
                self.surges.insert(group.clone(), due_ms);
            }
            None if self.surges.is_empty() => {}
            None => drop(self.surges.remove(group)),
        }
    }

    fn reported(&mut self, from: FrontEndId, demand: &[GroupDemand], now_ms: u64) {
        for demand in demand {
            if let Some(known) = self.groups.get_mut(&demand.group) {
                known.reported(from, demand, now_ms);
            }
        }
    }

    /// When [`Books::surged`] has to be called.
    pub(super) fn surge_due_ms(&self) -> Option<u64> {
        self.surges.values().min().copied()
    }

    /// Looks again at the groups in which more may wait than is there.
    pub(super) fn surged(&mut self, now_ms: u64) {
        let due: Vec<_> = self
            .surges
            .iter()
            .filter(|(_, due)| **due <= now_ms)
            .collect();
        let due: Vec<_> = due.into_iter().map(|(group, _)| group.clone()).collect();
        for group in due {
            self.surges.remove(&group);
            self.tell(&group, now_ms);
        }
    }
}

impl<C> Drop for Books<C> {
    fn drop(&mut self) {
        self.metrics.end_term();
    }
}
