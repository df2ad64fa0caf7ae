//! The control state of one front end: which data role it follows, what it holds of whom, what it has to say.
//!
//! Requests do not pass here. They take slots from the [`SlotPool`] by themselves; this state is run by one task that is woken when a data role
//! speaks, when a first request waits, when a slot is returned, and at the latest after the rest interval.

use std::collections::BTreeMap;

use super::{
    message::{
        DataRoleSays, Epoch, FrontEndSays, GroupDemand, GroupId, Handle, Header, HeldSlots, Hello,
        InstanceInfo, InstanceUid, MemberRecord, Seq, Session, Sync, ToDataRole, ToFrontEnd,
    },
    pool::SlotPool,
    word::Bar,
};

/// The answer to a Lead.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum LeadAnswer {
    /// Follow this data role on the stream that the Lead came on; close the stream followed before and drop what is left in it.
    Follow(ToDataRole),
    /// The data role is deposed; stay where we are.
    Stale(ToDataRole),
    /// Already followed on another stream.
    Ignore,
}

/// How soon [`FrontEnd::flush`] has to be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Urgency {
    /// At the rest interval.
    Rest,
    /// With the next batch, some milliseconds later.
    Batch,
    /// At once: the first request waits, or slots that others asked for came back.
    Now,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct GroupState {
    want: u32,
    must: u32,
    sent_waiting: u32,
    sent_busy: u32,
}

/// How the front end stands to the data role that it follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Link {
    Down,
    Up,
    /// Said Bye: nothing is applied or said any more.
    Left,
}

/// Control state of one front end process.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FrontEnd {
    member: MemberRecord,
    epoch: Epoch,
    session: Session,
    link: Link,
    sent: Seq,
    applied: Seq,
    ack_owed: bool,
    handles: BTreeMap<Handle, InstanceUid>,
    instances: BTreeMap<InstanceUid, InstanceInfo>,
    groups: BTreeMap<GroupId, GroupState>,
}

impl FrontEnd {
    /// A process that follows nobody yet and holds nothing.
    pub fn new(member: MemberRecord) -> Self {
        Self {
            member,
            epoch: Epoch(0),
            session: Session(0),
            link: Link::Down,
            sent: Seq(0),
            applied: Seq(0),
            ack_owed: false,
            handles: BTreeMap::new(),
            instances: BTreeMap::new(),
            groups: BTreeMap::new(),
        }
    }

    /// Who this is.
    pub fn member(&self) -> MemberRecord {
        self.member
    }

    /// The term followed, 0 before the first.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The current session, 0 before the first.
    pub fn session(&self) -> Session {
        self.session
    }

    /// Whether the followed stream is up.
    pub fn connected(&self) -> bool {
        self.link == Link::Up
    }

    /// Instances known, whoever reported them.
    pub fn instances(&self) -> impl Iterator<Item = &InstanceInfo> {
        self.instances.values()
    }

    /// Waiting requests of a group as last reported.
    pub fn last_waiting(&self, group: &GroupId) -> u32 {
        self.groups.get(group).map_or(0, |g| g.sent_waiting)
    }

    /// Highest message number applied in this session.
    pub fn applied(&self) -> Seq {
        self.applied
    }

    /// Messages said in this session.
    pub fn said(&self) -> u64 {
        self.sent.0
    }

    /// What other front ends asked for and has not been returned: `(want, must)`.
    pub fn recall(&self, group: &GroupId) -> (u32, u32) {
        self.groups.get(group).map_or((0, 0), |g| (g.want, g.must))
    }

    /// The followed stream ended. Slots stay and keep serving.
    pub fn on_disconnected(&mut self) {
        if self.link == Link::Up {
            self.link = Link::Down;
        }
    }

    /// A Lead on a new stream: follows a higher term, or the same one when its stream broke.
    pub fn on_lead(&mut self, lead: &ToFrontEnd, pool: &mut impl SlotPool) -> LeadAnswer {
        if self.link == Link::Left {
            return LeadAnswer::Ignore;
        }
        let theirs = lead.header.epoch;
        if theirs < self.epoch {
            let header = Header {
                epoch: theirs,
                session: Session(0),
                seq: Seq(1),
                ack: Seq(0),
            };
            return LeadAnswer::Stale(ToDataRole {
                header,
                body: FrontEndSays::Stale,
            });
        }
        if theirs == self.epoch && self.link == Link::Up {
            return LeadAnswer::Ignore;
        }
        self.epoch = theirs;
        self.session.0 += 1;
        self.link = Link::Up;
        self.sent = Seq(0);
        self.applied = Seq(0);
        self.ack_owed = false;
        self.handles.clear();
        for (group, state) in &mut self.groups {
            state.want = 0;
            state.must = 0;
            pool.set_recall(group, 0, 0);
        }
        let hello = self.snapshot(pool);
        LeadAnswer::Follow(self.say(FrontEndSays::Hello(hello)))
    }

    fn snapshot(&mut self, pool: &mut impl SlotPool) -> Hello {
        let mut slots = Vec::new();
        for &uid in self.instances.keys() {
            // The data role of the new session hears what is held now; slots returned before it are no news for it.
            pool.take_returned(uid);
            pool.trim(uid, 0);
            let word = pool.word(uid);
            // A return between the two reads only makes the report too high by it, and it is reported again with the next Sync.
            let held = word.held() + word.returned();
            if held > 0 {
                slots.push(HeldSlots {
                    uid,
                    held,
                    busy: word.busy() + word.linger(),
                });
            }
        }
        let groups: Vec<GroupId> = self.groups.keys().cloned().collect();
        let demand = groups
            .iter()
            .map(|group| self.demand(group, pool))
            .collect();
        Hello {
            member: self.member,
            features: 0,
            slots,
            demand,
        }
    }

    /// A message of a data role. Messages of another term or session change nothing.
    pub fn on_message(&mut self, message: &ToFrontEnd, pool: &mut impl SlotPool) -> Applied {
        let header = message.header;
        if self.link != Link::Up || header.epoch != self.epoch || header.session != self.session {
            return Applied::Dropped;
        }
        if header.seq <= self.applied {
            return Applied::Dropped;
        }
        self.applied = header.seq;
        match &message.body {
            DataRoleSays::Lead { .. } => return Applied::Dropped,
            DataRoleSays::Instance(info) => self.on_instance(info, pool),
            DataRoleSays::Gone { uid } => {
                self.instances.remove(uid);
                self.handles.retain(|_, known| known != uid);
                pool.remove(*uid);
            }
            DataRoleSays::Grant(grants) => {
                self.ack_owed = true;
                for (handle, count) in grants {
                    if let Some(&uid) = self.handles.get(handle) {
                        pool.grant(uid, *count);
                    }
                }
            }
            DataRoleSays::Recall { group, want, must } => {
                let state = self.groups.entry(group.clone()).or_default();
                state.want = *want;
                state.must = *must;
                pool.set_recall(group, *want, *must);
            }
            DataRoleSays::Trim { handle, excess } => {
                if let Some(&uid) = self.handles.get(handle) {
                    pool.trim(uid, *excess);
                }
            }
            DataRoleSays::Drain { handle } => {
                if let Some(&uid) = self.handles.get(handle) {
                    pool.drain(uid);
                }
            }
            // Held slots serve on; the next data role leads soon.
            DataRoleSays::Handover => {}
        }
        Applied::Yes
    }

    fn on_instance(&mut self, info: &InstanceInfo, pool: &mut impl SlotPool) {
        self.handles.insert(info.handle, info.uid);
        self.groups.entry(info.group.clone()).or_default();
        if self.instances.get(&info.uid) != Some(info) {
            self.instances.insert(info.uid, info.clone());
            pool.upsert(info);
        }
    }

    /// Names a group before any of its instances exist, so that its waiting requests are reported.
    pub fn know_group(&mut self, group: &GroupId) {
        if !self.groups.contains_key(group) {
            self.groups.insert(group.clone(), GroupState::default());
        }
    }

    /// How soon a [`FrontEnd::flush`] is due.
    pub fn urgency(&self, pool: &impl SlotPool) -> Urgency {
        if self.link != Link::Up {
            return Urgency::Rest;
        }
        let mut due = Urgency::Rest;
        for (group, state) in &self.groups {
            let waiting = pool.waiting(group);
            if waiting > 0 && state.sent_waiting == 0 {
                return Urgency::Now;
            }
            if waiting != state.sent_waiting || (self.ack_owed && waiting > 0) {
                due = due.max(Urgency::Batch);
            }
        }
        // Only what has a name in this session can be reported: the rest waits for one, or for the next Hello.
        for uid in self.handles.values() {
            if pool.word(*uid).returned() == 0 {
                continue;
            }
            let group = self.instances.get(uid).map(|info| &info.group);
            let asked = group
                .and_then(|group| self.groups.get(group))
                .is_some_and(|g| g.want > 0);
            due = due.max(if asked { Urgency::Now } else { Urgency::Batch });
        }
        due
    }

    /// Follows recalls and collects what the data role has to hear. `rest` reports every group, changed or not.
    ///
    /// `None` when there is nothing to say or nobody to say it to.
    pub fn flush(&mut self, pool: &mut impl SlotPool, rest: bool) -> Option<ToDataRole> {
        if self.link != Link::Up {
            return None;
        }
        self.release_wanted(pool);
        let released = self.take_returned(pool);
        let shed: Vec<Handle> = {
            let uids = pool.take_shed();
            self.handles
                .iter()
                .filter(|(_, uid)| uids.contains(uid))
                .map(|(handle, _)| *handle)
                .collect()
        };
        let groups: Vec<GroupId> = self.groups.keys().cloned().collect();
        let ack_owed = self.ack_owed;
        let mut demand = Vec::new();
        for group in &groups {
            let waiting = pool.waiting(group);
            let state = &self.groups[group];
            // A grant may have served one request while another arrived: the number is the same, and only the ack tells that one more is needed.
            if waiting != state.sent_waiting
                || (ack_owed && waiting > 0)
                || (rest && self.worth_telling(group, pool))
            {
                demand.push(self.demand(group, pool));
            }
        }
        if released.is_empty() && demand.is_empty() && shed.is_empty() && !(rest && ack_owed) {
            return None;
        }
        self.ack_owed = false;
        Some(self.say(FrontEndSays::Sync(Sync {
            released,
            demand,
            shed,
        })))
    }

    fn worth_telling(&self, group: &GroupId, pool: &impl SlotPool) -> bool {
        let state = &self.groups[group];
        state.sent_busy > 0 || state.sent_waiting > 0 || self.busy(group, pool) > 0
    }

    fn busy(&self, group: &GroupId, pool: &impl SlotPool) -> u32 {
        self.in_use_order(group)
            .map(|uid| pool.word(uid))
            .map(|word| u32::from(word.busy()) + u32::from(word.linger()))
            .sum()
    }

    fn in_use_order(
        &self,
        group: &GroupId,
    ) -> impl DoubleEndedIterator<Item = InstanceUid> + use<> {
        let mut ranked: Vec<_> = self
            .instances
            .values()
            .filter(|i| i.group == *group)
            .map(|i| (i.rank, i.uid))
            .collect();
        ranked.sort_unstable();
        ranked.into_iter().map(|(_, uid)| uid)
    }

    /// Free slots that others wait for go back at once, the least preferred instances first. While requests wait here, only must-turns return
    /// slots, and the pool does that when a request ends: an unused slot that went back before it served anybody would wander for ever.
    fn release_wanted(&mut self, pool: &mut impl SlotPool) {
        let asked: Vec<(GroupId, u32)> = self
            .groups
            .iter()
            .filter(|(_, g)| g.want > 0)
            .map(|(group, g)| (group.clone(), g.want))
            .collect();
        for (group, want) in asked {
            let uids: Vec<InstanceUid> = self.in_use_order(&group).rev().collect();
            let mut left = want.saturating_sub(
                uids.iter()
                    .map(|&uid| u32::from(pool.word(uid).returned()))
                    .sum(),
            );
            for uid in uids {
                if left == 0 {
                    break;
                }
                // An instance that refused work a moment ago serves nobody here for a while, whoever waits.
                if pool.waiting(&group) == 0 || pool.word(uid).barred(Bar::Shed) {
                    left -= u32::from(pool.release(uid, u16::try_from(left).unwrap_or(u16::MAX)));
                }
            }
        }
    }

    fn take_returned(&mut self, pool: &mut impl SlotPool) -> Vec<(Handle, u16)> {
        let mut released = Vec::new();
        for (&handle, uid) in &self.handles {
            let count = pool.take_returned(*uid);
            if count == 0 {
                continue;
            }
            released.push((handle, count));
            let group = &self.instances[uid].group;
            if let Some(state) = self.groups.get_mut(group) {
                state.want = state.want.saturating_sub(u32::from(count));
                state.must = state.must.saturating_sub(u32::from(count));
                pool.cap_recall(group, state.want, state.must);
            }
        }
        released
    }

    fn demand(&mut self, group: &GroupId, pool: &mut impl SlotPool) -> GroupDemand {
        let waiting = pool.waiting(group);
        let busy = self.busy(group, pool);
        let peak = pool.take_peak(group).max(waiting + busy);
        let state = self.groups.entry(group.clone()).or_default();
        state.sent_waiting = waiting;
        state.sent_busy = busy;
        GroupDemand {
            group: group.clone(),
            waiting,
            busy,
            peak,
            oldest_wait_ms: pool.oldest_wait_ms(group),
        }
    }

    /// Leaves for good when nothing is held and everything returned is reported: the Bye, once.
    pub fn leave(&mut self, pool: &impl SlotPool) -> Option<ToDataRole> {
        let empty = self.instances.keys().all(|&uid| {
            let word = pool.word(uid);
            word.held() == 0 && word.returned() == 0
        });
        if !empty || self.link != Link::Up {
            return None;
        }
        let bye = self.say(FrontEndSays::Bye);
        self.link = Link::Left;
        Some(bye)
    }

    /// Gives back every free slot of every group, to leave.
    pub fn release_all(&mut self, pool: &mut impl SlotPool) {
        for &uid in self.instances.keys() {
            pool.release(uid, u16::MAX);
        }
    }

    fn say(&mut self, body: FrontEndSays) -> ToDataRole {
        self.sent.0 += 1;
        let header = Header {
            epoch: self.epoch,
            session: self.session,
            seq: self.sent,
            ack: self.applied,
        };
        ToDataRole { header, body }
    }
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// It changed the state.
    Yes,
    /// It belongs to another term or session, or came twice.
    Dropped,
}
