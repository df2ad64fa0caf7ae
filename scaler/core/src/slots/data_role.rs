//! The state of the data role: what every front end may hold of every instance, and who needs more.
//!
//! Everything it wants done outside comes back as [`Effect`]s. Writes to the cluster answer by a call of the method named there; a write that fails because another
//! data role has taken over ends the process.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use super::{
    books::{Instance, Member},
    message::{
        DataRoleSays, Epoch, FrontEndId, FrontEndSays, GroupId, Handle, Header, InstanceUid,
        MemberRecord, Rank, Seq, Session, ToDataRole, ToFrontEnd,
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
    /// After how long without a stream instances are replaced of which half the slots or more are with such front ends.
    pub cut_off_replace_ms: u64,
    /// How long an instance may drain before it goes with what still runs there, where [`DataRole::set_drain_limit`] said nothing.
    pub drain_limit_ms: u64,
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
            cut_off_replace_ms: 60_000,
            drain_limit_ms: 3_600_000,
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

/// Groups in which a step may have made a difference. Front ends report many times a second, and there may be thousands of groups.
#[derive(Clone, Debug)]
pub(super) enum Touched {
    All,
    These(BTreeSet<GroupId>),
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
    /// Delete the pod: nothing runs there, or its time to drain is over.
    Delete(InstanceUid),
}

/// The effects of one step, in order. What is to be sent is put on its stream before the answer of any write is told: messages are numbered, and a later one
/// that overtakes makes the front end drop the earlier.
pub type Effects = Vec<Effect>;

/// The books of one data role in one epoch.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DataRole {
    pub(super) epoch: Epoch,
    pub(super) settings: Settings,
    pub(super) members: BTreeMap<FrontEndId, Member>,
    /// What a front end said since its first Hello, until the record names it.
    pub(super) joining: BTreeMap<FrontEndId, Vec<ToDataRole>>,
    /// Proved dead in this term: what they said before may arrive after the record has forgotten them.
    pub(super) buried: BTreeSet<FrontEndId>,
    pub(super) instances: BTreeMap<InstanceUid, Instance>,
    pub(super) groups: BTreeMap<GroupId, BTreeSet<InstanceUid>>,
    /// Addresses are used again: several pods may be known at one for a moment.
    pub(super) addresses: BTreeMap<SocketAddr, BTreeSet<InstanceUid>>,
    /// Where another limit than that of the settings holds.
    pub(super) drain_limits: BTreeMap<GroupId, u64>,
    /// Groups in which nobody makes another instance for one that drains.
    pub(super) kept: BTreeSet<GroupId>,
    /// Sum of the rows, by instance.
    pub(super) leased: BTreeMap<InstanceUid, u32>,
    /// Front ends in the order of their last grant, least recent first.
    pub(super) turn: Vec<FrontEndId>,
    pub(super) handles: BTreeMap<Handle, InstanceUid>,
    pub(super) next_handle: u32,
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
            buried: BTreeSet::new(),
            instances: BTreeMap::new(),
            groups: BTreeMap::new(),
            addresses: BTreeMap::new(),
            drain_limits: BTreeMap::new(),
            kept: BTreeSet::new(),
            leased: BTreeMap::new(),
            handles: BTreeMap::new(),
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

    /// Whatever changed in these groups: lend, ask back, finish removals and departures.
    pub(super) fn after_change(&mut self, touched: &Touched, now_ms: u64, effects: &mut Effects) {
        let groups: Vec<GroupId> = match touched {
            Touched::All => self.groups.keys().cloned().collect(),
            Touched::These(groups) => groups
                .iter()
                .filter(|g| self.groups.contains_key(*g))
                .cloned()
                .collect(),
        };
        for group in &groups {
            self.pump_group(group, now_ms, effects);
        }
        self.leave_if_empty(effects);
        for group in &groups {
            self.finish_removals(group, now_ms, effects);
        }
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
