//! What the data role writes down of each front end and instance.

use std::collections::BTreeMap;

use super::{
    data_role::InstanceSpec,
    message::{GroupId, Handle, InstanceInfo, InstanceUid, MemberRecord, Seq, Session},
};

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Need {
    pub(super) waiting: u32,
    pub(super) busy: u32,
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
    /// Since when its pod is gone without a proof that its processes are.
    pub(super) lost_since_ms: Option<u64>,
}

impl Member {
    pub(super) fn new(record: MemberRecord, now_ms: u64) -> Self {
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
            lost_since_ms: None,
        }
    }

    /// Since when nobody hears it.
    pub(super) fn silent_since_ms(&self) -> Option<u64> {
        self.down_since_ms.filter(|_| self.life == Life::Up)
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
    /// When it began to drain, as far as this data role knows.
    pub(super) drain_since_ms: u64,
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
