//! The control state of one front end: which data role it follows, what it holds of whom, what it has to say.
//!
//! Requests do not pass here. They take slots from the [`SlotPool`] by themselves; this state is run by one task that is woken when a data role
//! speaks, when a first request waits, when a slot is returned, and at the latest after the rest interval.

mod report;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::{
    message::{
        DataRoleSays, Epoch, FrontEndSays, GroupId, Handle, Header, HeldSlots, Hello, InstanceInfo,
        InstanceUid, MemberRecord, Rank, Seq, Session, ToDataRole, ToFrontEnd,
    },
    pool::{Changes, SlotPool},
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
    /// Not reported yet, the newest last.
    samples: VecDeque<u32>,
}

/// What has to be looked at with the next flush.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Pending {
    groups: BTreeSet<GroupId>,
    returned: BTreeSet<InstanceUid>,
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
    named: BTreeMap<InstanceUid, Handle>,
    instances: BTreeMap<InstanceUid, InstanceInfo>,
    /// The instances of each group in order of use.
    members: BTreeMap<GroupId, BTreeSet<(Rank, InstanceUid)>>,
    groups: BTreeMap<GroupId, GroupState>,
    /// Groups of which others want slots.
    recalled: BTreeSet<GroupId>,
    /// Groups with waiting requests as last told.
    told_waiting: BTreeSet<GroupId>,
    /// None: everything.
    pending: Option<Pending>,
    /// Point of the grid that was sampled last; none before the first.
    sampled: Option<u64>,
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
            named: BTreeMap::new(),
            instances: BTreeMap::new(),
            members: BTreeMap::new(),
            groups: BTreeMap::new(),
            recalled: BTreeSet::new(),
            told_waiting: BTreeSet::new(),
            pending: None,
            sampled: None,
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

    /// Whether others want slots of any group.
    pub fn recalls(&self) -> bool {
        !self.recalled.is_empty()
    }

    /// Takes in what the pool says has changed. Before each [`FrontEnd::urgency`], if the pool keeps account of its changes.
    pub fn note(&mut self, pool: &mut impl SlotPool) {
        match pool.take_changes() {
            Changes::All => self.pending = None,
            Changes::Of { groups, returned } => {
                for group in &groups {
                    self.know_group(group);
                }
                let pending = self.pending.get_or_insert_default();
                pending.groups.extend(groups);
                pending.returned.extend(returned);
            }
        }
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
        self.named.clear();
        self.recalled.clear();
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
        let mut demand = Vec::new();
        for group in &groups {
            let told = self.demand(group, pool);
            if told.waiting + told.busy > 0 || told.samples.iter().any(|seen| *seen > 0) {
                demand.push(told);
            }
        }
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
                self.forget(*uid);
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
                if *want > 0 {
                    self.recalled.insert(group.clone());
                } else {
                    self.recalled.remove(group);
                }
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
        self.named.insert(info.uid, info.handle);
        self.groups.entry(info.group.clone()).or_default();
        if self.instances.get(&info.uid) != Some(info) {
            if let Some(before) = self.instances.insert(info.uid, info.clone()) {
                self.leave_group(&before);
            }
            let members = self.members.entry(info.group.clone()).or_default();
            members.insert((info.rank, info.uid));
            pool.upsert(info);
        }
    }

    fn forget(&mut self, uid: InstanceUid) {
        if let Some(handle) = self.named.remove(&uid) {
            self.handles.remove(&handle);
        }
        if let Some(info) = self.instances.remove(&uid) {
            self.leave_group(&info);
        }
        if let Some(pending) = &mut self.pending {
            pending.returned.remove(&uid);
        }
    }

    fn leave_group(&mut self, info: &InstanceInfo) {
        if let Some(members) = self.members.get_mut(&info.group) {
            members.remove(&(info.rank, info.uid));
            if members.is_empty() {
                self.members.remove(&info.group);
            }
        }
    }

    /// Names a group before any of its instances exist, so that its waiting requests are reported.
    pub fn know_group(&mut self, group: &GroupId) {
        if !self.groups.contains_key(group) {
            self.groups.insert(group.clone(), GroupState::default());
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
