//! The state of the data role: what every front end may hold of every instance, and who needs more.
//!
//! Everything it wants done outside comes back as [`Effect`]s. Writes to the cluster answer by a call of the method named there; a write that fails because another
//! data role has taken over ends the process.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use super::message::FrontEndSays;
use super::{
    message::{
        DataRoleSays, Epoch, FrontEndId, GroupId, Handle, Header, Hello, InstanceInfo, InstanceUid,
        MemberRecord, Rank, Seq, Session, Sync, ToDataRole, ToFrontEnd,
    },
    placement::Placement,
};

/// Times and choices. All times in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Settings {
    /// How instances fill up.
    pub placement: Placement,
    /// Slots lent beyond the need of a front end that has just asked, in percent of what it holds. 0 to 25; 0 while anybody waits.
    pub ahead_percent: u32,
    /// Longest time that bytes of a dead front end can still reach an instance.
    pub settle_ms: u64,
    /// After how long without a stream the slots of a front end count as busy for scaling.
    pub cut_off_grace_ms: u64,
    /// How long an instance that refused a request lends nothing.
    pub shed_hold_ms: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            placement: Placement::Pack,
            ahead_percent: 25,
            settle_ms: 15_000,
            cut_off_grace_ms: 5_000,
            shed_hold_ms: 5_000,
        }
    }
}

/// An instance as the cluster shows it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct InstanceSpec {
    /// Its pod.
    pub uid: InstanceUid,
    /// Its group.
    pub group: GroupId,
    /// Where it listens.
    pub address: SocketAddr,
    /// Requests at a time.
    pub cap: u16,
    /// Order of use.
    pub rank: Rank,
    /// Epoch of the data role that first saw it, as written on the pod.
    pub claim: Option<Epoch>,
    /// Whether the pod carries the drain mark.
    pub draining: bool,
    /// Longest run of a function in milliseconds; none when unbounded.
    pub function_timeout_ms: Option<u64>,
}

/// Something to be done outside.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Send on the stream of that front end's session; dropped when it is closed.
    Send {
        /// To whom.
        to: FrontEndId,
        /// What.
        message: ToFrontEnd,
    },
    /// Add to the record by compare-and-swap, then [`DataRole::on_member_added`]. Failed: exit.
    AddMember(MemberRecord),
    /// Remove from the record by compare-and-swap, then [`DataRole::on_member_removed`]. Failed: exit.
    RemoveMember(FrontEndId),
    /// Write our epoch on the pod if none is there, then [`DataRole::on_claim`] with what stands there.
    Claim(InstanceUid),
    /// Write the drain mark on the pod, then [`DataRole::on_drain_marked`].
    MarkDrain(InstanceUid),
    /// Write the record unchanged by compare-and-swap, then [`DataRole::on_record_confirmed`]. Failed: exit.
    ConfirmRecord(InstanceUid),
    /// Delete the pod: nothing runs there.
    Delete(InstanceUid),
}

/// The effects of one step, in order. What is to be sent is put on its stream before the answer of any write is told: messages are numbered, and a later one
/// that overtakes makes the front end drop the earlier.
pub type Effects = Vec<Effect>;

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Need {
    pub(super) waiting: u32,
    pub(super) busy: u32,
    pub(super) peak: u32,
    pub(super) oldest_wait_ms: u32,
    pub(super) recall: (u32, u32),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Unseen {
    pub(super) seq: Seq,
    pub(super) uid: InstanceUid,
    pub(super) count: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Life {
    Up,
    /// Said Bye: holds nothing for ever.
    Left,
    /// Proved dead at this time; its rows are quarantined.
    Dead {
        at_ms: u64,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Member {
    pub(super) record: MemberRecord,
    pub(super) life: Life,
    /// Said Hello in this epoch.
    pub(super) reported: bool,
    pub(super) session: Session,
    /// Since when its stream is down; none while it is up.
    pub(super) down_since_ms: Option<u64>,
    pub(super) sent: Seq,
    pub(super) applied: Seq,
    pub(super) lease: BTreeMap<InstanceUid, u16>,
    pub(super) needs: BTreeMap<GroupId, Need>,
    pub(super) unseen: Vec<Unseen>,
    pub(super) trims: BTreeMap<InstanceUid, u16>,
    /// Bounds of what a member that died before it reported can still run, by instance; missing: unknown.
    pub(super) bounds: BTreeMap<InstanceUid, u16>,
    pub(super) removing: bool,
}

impl Member {
    fn new(record: MemberRecord, now_ms: u64) -> Self {
        Self {
            record,
            life: Life::Up,
            reported: false,
            session: Session(0),
            down_since_ms: Some(now_ms),
            sent: Seq(0),
            applied: Seq(0),
            lease: BTreeMap::new(),
            needs: BTreeMap::new(),
            unseen: Vec::new(),
            trims: BTreeMap::new(),
            bounds: BTreeMap::new(),
            removing: false,
        }
    }

    /// Whether slots may be lent to it.
    pub(super) fn reachable(&self) -> bool {
        self.life == Life::Up && self.reported && self.down_since_ms.is_none()
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Instance {
    pub(super) spec: InstanceSpec,
    pub(super) handle: Handle,
    pub(super) removal: Removal,
    pub(super) accounted: u32,
    pub(super) shed_until_ms: u64,
    pub(super) shed_cap: Option<u16>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Removal {
    None,
    Marking,
    Draining,
    Confirming,
    Deleted,
}

/// The books of one data role in one epoch.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DataRole {
    pub(super) epoch: Epoch,
    pub(super) settings: Settings,
    pub(super) members: BTreeMap<FrontEndId, Member>,
    /// What a front end said since its first Hello, until the record names it.
    pub(super) joining: BTreeMap<FrontEndId, Vec<ToDataRole>>,
    pub(super) instances: BTreeMap<InstanceUid, Instance>,
    pub(super) groups: BTreeMap<GroupId, BTreeSet<InstanceUid>>,
    /// Sum of the rows, by instance.
    pub(super) leased: BTreeMap<InstanceUid, u32>,
    /// Front ends in the order of their last grant, least recent first.
    pub(super) turn: Vec<FrontEndId>,
    next_handle: u32,
}

impl DataRole {
    /// Starts after the record was raised to `epoch` in one write with reading `members`, from a pod list made after that write.
    pub fn takeover(
        epoch: Epoch,
        members: impl IntoIterator<Item = MemberRecord>,
        instances: impl IntoIterator<Item = InstanceSpec>,
        settings: Settings,
        now_ms: u64,
    ) -> (Self, Effects) {
        let members: BTreeMap<_, _> = members
            .into_iter()
            .map(|m| (m.id, Member::new(m, now_ms)))
            .collect();
        let mut role = Self {
            epoch,
            settings,
            turn: members.keys().copied().collect(),
            members,
            joining: BTreeMap::new(),
            instances: BTreeMap::new(),
            groups: BTreeMap::new(),
            leased: BTreeMap::new(),
            next_handle: 1,
        };
        let mut effects = Effects::new();
        for spec in instances {
            role.upsert(spec, now_ms, &mut effects);
        }
        (role, effects)
    }

    /// The term of these books.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The first message on every new stream.
    pub fn lead(&self) -> ToFrontEnd {
        let header = Header {
            epoch: self.epoch,
            session: Session(0),
            seq: Seq(0),
            ack: Seq(0),
        };
        ToFrontEnd {
            header,
            body: DataRoleSays::Lead { features: 0 },
        }
    }

    /// A message of front end `from`. Returns what to do, or that this process is deposed.
    pub fn on_message(
        &mut self,
        from: FrontEndId,
        message: &ToDataRole,
        now_ms: u64,
    ) -> Result<Effects, Deposed> {
        let header = message.header;
        let mut effects = Effects::new();
        if matches!(message.body, FrontEndSays::Stale) {
            return if header.epoch == self.epoch {
                Err(Deposed { epoch: self.epoch })
            } else {
                Ok(effects)
            };
        }
        if header.epoch != self.epoch {
            return Ok(effects);
        }
        if let Some(said) = self.joining.get_mut(&from)
            && said
                .first()
                .is_some_and(|first| first.header.session == header.session)
            && said.last().is_some_and(|last| last.header.seq < header.seq)
        {
            // Applied when the record names the sender; a Hello of a new session replaces it all.
            said.push(message.clone());
            return Ok(effects);
        }
        match &message.body {
            FrontEndSays::Hello(hello) => self.on_hello(message, hello, now_ms, &mut effects),
            FrontEndSays::Sync(sync) => self.on_sync(from, header, sync, now_ms, &mut effects),
            FrontEndSays::Bye => self.on_bye(from, header, &mut effects),
            FrontEndSays::Stale => {}
        }
        Ok(effects)
    }

    fn on_hello(
        &mut self,
        message: &ToDataRole,
        hello: &Hello,
        now_ms: u64,
        effects: &mut Effects,
    ) {
        let id = hello.member.id;
        let session = message.header.session;
        let Some(member) = self.members.get(&id) else {
            // Granting waits until the record names it: a later data role has to know whom to wait for.
            let known = self
                .joining
                .get(&id)
                .and_then(|said| said.first())
                .map(|first| first.header.session);
            if known.is_none_or(|known| known < session)
                && self.joining.insert(id, vec![message.clone()]).is_none()
            {
                effects.push(Effect::AddMember(hello.member));
            }
            return;
        };
        if session <= member.session || member.life != Life::Up {
            return;
        }
        self.restarted(hello.member, now_ms, effects);
        let old = self.members[&id].lease.clone();
        for (uid, count) in old {
            self.lower_leased(uid, count);
        }
        let member = self.members.get_mut(&id).expect("looked up above");
        let first = !member.reported;
        member.reported = true;
        member.session = session;
        member.down_since_ms = None;
        member.sent = Seq(0);
        member.applied = message.header.seq;
        member.unseen.clear();
        member.trims.clear();
        member.lease = hello
            .slots
            .iter()
            .filter(|s| s.held > 0)
            .map(|s| (s.uid, s.held))
            .collect();
        member.needs = hello
            .demand
            .iter()
            .map(|d| {
                let need = Need {
                    waiting: d.waiting,
                    busy: d.busy,
                    peak: d.peak,
                    oldest_wait_ms: d.oldest_wait_ms,
                    recall: (0, 0),
                };
                (d.group.clone(), need)
            })
            .collect();
        for slots in &hello.slots {
            *self.leased.entry(slots.uid).or_default() += u32::from(slots.held);
            if first && let Some(instance) = self.instances.get_mut(&slots.uid) {
                instance.accounted += u32::from(slots.held);
            }
        }
        let known: Vec<(InstanceInfo, bool)> = self
            .instances
            .values()
            .map(|i| (i.info(), i.drains()))
            .collect();
        for (info, draining) in known {
            let handle = info.handle;
            self.send(id, DataRoleSays::Instance(info), effects);
            if draining {
                self.send(id, DataRoleSays::Drain { handle }, effects);
            }
        }
        self.after_change(now_ms, effects);
    }

    fn on_sync(
        &mut self,
        from: FrontEndId,
        header: Header,
        sync: &Sync,
        now_ms: u64,
        effects: &mut Effects,
    ) {
        let Some(member) = self.members.get_mut(&from) else {
            return;
        };
        if header.session != member.session
            || member.life != Life::Up
            || !member.reported
            || header.seq <= member.applied
        {
            return;
        }
        member.applied = header.seq;
        member.unseen.retain(|grant| grant.seq > header.ack);
        for demand in &sync.demand {
            let need = member.needs.entry(demand.group.clone()).or_default();
            need.waiting = demand.waiting;
            need.busy = demand.busy;
            need.peak = demand.peak;
            need.oldest_wait_ms = demand.oldest_wait_ms;
        }
        let by_handle: BTreeMap<Handle, InstanceUid> =
            if sync.released.is_empty() && sync.shed.is_empty() {
                BTreeMap::new()
            } else {
                self.by_handle()
            };
        for (handle, count) in &sync.released {
            if let Some(&uid) = by_handle.get(handle) {
                self.returned(from, uid, *count);
            }
        }
        for handle in &sync.shed {
            if let Some(&uid) = by_handle.get(handle) {
                self.shed(uid, now_ms);
            }
        }
        self.after_change(now_ms, effects);
    }

    fn by_handle(&self) -> BTreeMap<Handle, InstanceUid> {
        self.instances
            .iter()
            .map(|(uid, i)| (i.handle, *uid))
            .collect()
    }

    fn on_bye(&mut self, from: FrontEndId, header: Header, effects: &mut Effects) {
        let Some(member) = self.members.get_mut(&from) else {
            return;
        };
        if header.session != member.session || member.life != Life::Up || !member.reported {
            return;
        }
        // It applied nothing after `ack` and never will.
        let lost: Vec<Unseen> = member
            .unseen
            .iter()
            .filter(|g| g.seq > header.ack)
            .cloned()
            .collect();
        member.life = Life::Left;
        for grant in lost {
            self.returned(from, grant.uid, grant.count);
        }
        self.leave_if_empty(effects);
    }

    fn returned(&mut self, from: FrontEndId, uid: InstanceUid, count: u16) {
        let group = self.instances.get(&uid).map(|i| i.spec.group.clone());
        let Some(member) = self.members.get_mut(&from) else {
            return;
        };
        let Some(row) = member.lease.get_mut(&uid) else {
            return;
        };
        let count = count.min(*row);
        *row -= count;
        if *row == 0 {
            member.lease.remove(&uid);
        }
        if let Some(trim) = member.trims.get_mut(&uid) {
            *trim = trim.saturating_sub(count);
        }
        if let Some(need) = group.and_then(|g| member.needs.get_mut(&g)) {
            need.recall.0 = need.recall.0.saturating_sub(u32::from(count));
            need.recall.1 = need.recall.1.saturating_sub(u32::from(count));
        }
        self.lower_leased(uid, count);
    }

    pub(super) fn lower_leased(&mut self, uid: InstanceUid, count: u16) {
        if let Some(sum) = self.leased.get_mut(&uid) {
            *sum -= u32::from(count);
            if *sum == 0 {
                self.leased.remove(&uid);
            }
        }
    }

    /// The stream of a front end's session ended. Its slots stay with it.
    pub fn on_disconnected(&mut self, from: FrontEndId, session: Session, now_ms: u64) {
        if let Some(member) = self.members.get_mut(&from)
            && member.session == session
            && member.down_since_ms.is_none()
        {
            member.down_since_ms = Some(now_ms);
        }
    }

    /// The record names `record` now: its Hello counts.
    pub fn on_member_added(&mut self, record: MemberRecord, now_ms: u64) -> Effects {
        let id = record.id;
        let mut effects = Effects::new();
        let said = self.joining.remove(&id).unwrap_or_default();
        if said.is_empty() && !self.members.contains_key(&id) {
            // It died before anything was lent to it.
            let member = Member {
                life: Life::Left,
                ..Member::new(record, now_ms)
            };
            self.members.insert(id, member);
            self.leave_if_empty(&mut effects);
        }
        for message in &said {
            match &message.body {
                FrontEndSays::Hello(hello) => {
                    self.turn.insert(0, id);
                    self.members.insert(id, Member::new(hello.member, now_ms));
                    self.on_hello(message, hello, now_ms, &mut effects);
                }
                FrontEndSays::Sync(sync) => {
                    self.on_sync(id, message.header, sync, now_ms, &mut effects);
                }
                FrontEndSays::Bye => self.on_bye(id, message.header, &mut effects),
                FrontEndSays::Stale => {}
            }
        }
        effects
    }

    /// An instance exists or changed.
    pub fn on_instance(&mut self, spec: InstanceSpec, now_ms: u64) -> Effects {
        let mut effects = Effects::new();
        self.upsert(spec, now_ms, &mut effects);
        self.after_change(now_ms, &mut effects);
        effects
    }

    fn upsert(&mut self, spec: InstanceSpec, now_ms: u64, effects: &mut Effects) {
        let uid = spec.uid;
        if let Some(known) = self.instances.get_mut(&uid) {
            let before = known.info();
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
            if before != after {
                self.broadcast(&DataRoleSays::Instance(after), effects);
            }
            if drain {
                self.start_drain(uid, effects);
            }
            return;
        }
        let handle = Handle(self.next_handle);
        self.next_handle += 1;
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
        let accounted = self.first_reports(uid);
        let instance = Instance {
            spec,
            handle,
            removal,
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
        self.after_change(now_ms, &mut effects);
        effects
    }

    /// The instance is gone with everything that ran there.
    pub fn on_instance_gone(&mut self, uid: InstanceUid, now_ms: u64) -> Effects {
        let mut effects = Effects::new();
        self.forget(uid, &mut effects);
        self.after_change(now_ms, &mut effects);
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
        self.after_change(now_ms, &mut effects);
        effects
    }

    fn forget(&mut self, uid: InstanceUid, effects: &mut Effects) {
        if let Some(instance) = self.instances.remove(&uid)
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

    /// Whatever changed: lend, ask back, finish removals and departures.
    pub(super) fn after_change(&mut self, now_ms: u64, effects: &mut Effects) {
        self.pump(now_ms, effects);
        self.leave_if_empty(effects);
        self.finish_removals(effects);
    }

    pub(super) fn broadcast(&mut self, body: &DataRoleSays, effects: &mut Effects) {
        let reachable: Vec<_> = self
            .members
            .iter()
            .filter(|(_, m)| m.reachable())
            .map(|(id, _)| *id)
            .collect();
        for id in reachable {
            self.send(id, body.clone(), effects);
        }
    }

    pub(super) fn send(
        &mut self,
        to: FrontEndId,
        body: DataRoleSays,
        effects: &mut Effects,
    ) -> Seq {
        let member = self.members.get_mut(&to).expect("only members are sent to");
        member.sent.0 += 1;
        let header = Header {
            epoch: self.epoch,
            session: member.session,
            seq: member.sent,
            ack: member.applied,
        };
        effects.push(Effect::Send {
            to,
            message: ToFrontEnd { header, body },
        });
        member.sent
    }
}

impl Instance {
    pub(super) fn info(&self) -> InstanceInfo {
        InstanceInfo {
            handle: self.handle,
            uid: self.spec.uid,
            address: self.spec.address,
            group: self.spec.group.clone(),
            cap: self.spec.cap,
            rank: self.spec.rank,
        }
    }

    pub(super) fn drains(&self) -> bool {
        !matches!(self.removal, Removal::None | Removal::Marking)
    }
}

/// Another data role leads: this process must end without another word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("epoch {} of the data role is over, a front end follows a higher one: end this process, the standby leads", epoch.0)]
pub struct Deposed {
    /// The term that is over.
    pub epoch: Epoch,
}

impl Deposed {
    /// Stable name for logs and metrics.
    pub fn category(&self) -> &'static str {
        "deposed"
    }
}
