//! What front ends and data roles say to each other, as plain values.

use std::{fmt, net::SocketAddr, sync::Arc};

/// Term of one data role; raised by one with every takeover.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u64);

/// Counts the Hellos of one front end process. Messages of an older session are never applied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Session(pub u64);

/// Number of a message in its session and direction, from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seq(pub u64);

/// Random id of one front end process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FrontEndId(pub u128);

/// Uid of an instance's pod.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstanceUid(pub u128);

impl fmt::Debug for FrontEndId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "fe-{:x}", self.0)
    }
}

impl fmt::Debug for InstanceUid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "i-{:x}", self.0)
    }
}

/// Short name of an instance within one session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Handle(pub u32);

/// Name of a function group, unique in the cluster.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId(Arc<str>);

impl GroupId {
    /// A group by its name, usually `namespace/app/group`.
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The pod that a front end process runs in, for the proof that an earlier process of it is dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FrontEndPod {
    /// Uid of the pod.
    pub uid: u128,
    /// Restart count of its container: a Hello with a higher one proves the end of the lower ones.
    pub restarts: u32,
}

/// A front end as the record of members names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberRecord {
    /// The process.
    pub id: FrontEndId,
    /// Its pod.
    pub pod: FrontEndPod,
}

/// Where an instance stands in the order of use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rank {
    /// Always-ready instances come first.
    pub tier: Tier,
    /// Older ones (smaller numbers) before younger ones.
    pub age: u64,
}

/// Kind of an instance, in order of use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tier {
    /// Part of the group's floor.
    AlwaysReady,
    /// Came by demand and can leave.
    OnDemand,
}

/// An instance as a front end has to know it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct InstanceInfo {
    /// Its name in this session.
    pub handle: Handle,
    /// Its pod.
    pub uid: InstanceUid,
    /// Where it listens.
    pub address: SocketAddr,
    /// The group that it serves.
    pub group: GroupId,
    /// Requests at a time, over all front ends.
    pub cap: u16,
    /// Order of use.
    pub rank: Rank,
}

/// What every message carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Header {
    /// Term of the data role that says it or is meant.
    pub epoch: Epoch,
    /// Session that it belongs to; 0 in a Lead.
    pub session: Session,
    /// Number of the message.
    pub seq: Seq,
    /// Highest number applied of the other direction.
    pub ack: Seq,
}

/// A message of the data role.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ToFrontEnd {
    /// Term, session, numbers.
    pub header: Header,
    /// What it says.
    pub body: DataRoleSays,
}

/// What a data role says.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum DataRoleSays {
    /// This process leads `header.epoch`: say Hello.
    Lead {
        /// Optional parts of the protocol that it knows, as bits.
        features: u64,
    },
    /// An instance exists or changed.
    Instance(InstanceInfo),
    /// An instance is gone with everything that ran on it.
    Gone {
        /// Its pod.
        uid: InstanceUid,
    },
    /// These slots are held from now on.
    Grant(Vec<(Handle, u16)>),
    /// Others need slots of a group. Replaces the recall of that group before it; each returned slot lowers both numbers.
    Recall {
        /// The group.
        group: GroupId,
        /// Slots asked for as soon as they are free.
        want: u32,
        /// Slots of these that have to come back when a request ends, although requests wait here.
        must: u32,
    },
    /// More slots of this instance are out than it may have now: give back that many as they become free. Replaces the one before it.
    Trim {
        /// The instance.
        handle: Handle,
        /// Slots asked back.
        excess: u16,
    },
    /// Start nothing there any more and give back all. Final.
    Drain {
        /// The instance.
        handle: Handle,
    },
    /// No grant follows: another data role takes over.
    Handover,
}

/// A message of a front end.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ToDataRole {
    /// Term, session, numbers.
    pub header: Header,
    /// What it says.
    pub body: FrontEndSays,
}

/// What a front end says.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum FrontEndSays {
    /// All that it holds and needs; starts the session.
    Hello(Hello),
    /// Changes since.
    Sync(Sync),
    /// It holds nothing, applies nothing more, and leaves.
    Bye,
    /// It follows a higher epoch: the receiver is deposed and has to exit.
    Stale,
}

/// A full snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Hello {
    /// Who.
    pub member: MemberRecord,
    /// Optional parts of the protocol that it knows, as bits.
    pub features: u64,
    /// Every instance that it holds slots of.
    pub slots: Vec<HeldSlots>,
    /// Every group with waiting or running requests.
    pub demand: Vec<GroupDemand>,
}

/// Slots held of one instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HeldSlots {
    /// The instance.
    pub uid: InstanceUid,
    /// Slots held.
    pub held: u16,
    /// Slots in use, lingering ones included.
    pub busy: u16,
}

/// Changes since the last message.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Sync {
    /// Slots given back.
    pub released: Vec<(Handle, u16)>,
    /// Groups whose demand changed, as absolute values.
    pub demand: Vec<GroupDemand>,
    /// Instances that refused a request with the scale-out signal.
    pub shed: Vec<Handle>,
}

/// Demand of one group at one front end.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct GroupDemand {
    /// The group.
    pub group: GroupId,
    /// Requests in the waiting room.
    pub waiting: u32,
    /// Slots in use, lingering ones included.
    pub busy: u32,
    /// Age of the oldest waiting request in milliseconds.
    pub oldest_wait_ms: u32,
    /// `waiting + busy` every [`GRID_MS`](super::joint::GRID_MS) since the last report, the newest last; at most
    /// [`MOST_SAMPLES`](super::joint::MOST_SAMPLES).
    pub samples: Vec<u32>,
}
