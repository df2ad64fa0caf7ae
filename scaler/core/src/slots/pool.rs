//! What the control state of a front end needs from the place where its slot words live.

use super::{
    message::{GroupId, InstanceInfo, InstanceUid},
    word::SlotWord,
};

/// What may differ since it was last looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changes {
    /// Anything.
    All,
    /// Not more than this.
    Of {
        /// Groups whose number of waiting requests changed.
        groups: Vec<GroupId>,
        /// Instances with returned slots.
        returned: Vec<InstanceUid>,
    },
}

/// The slot words and waiting rooms of one front end.
///
/// Requests take and give slots at any moment, without the control task; each method is atomic for one instance.
pub trait SlotPool {
    /// An instance exists, or its cap, rank or address changed. Slots held of it stay.
    fn upsert(&mut self, instance: &InstanceInfo);
    /// An instance is gone: forget its slots.
    fn remove(&mut self, uid: InstanceUid);
    /// Hold `count` more slots and serve waiting requests from them.
    fn grant(&mut self, uid: InstanceUid, count: u16);
    /// Start nothing there any more; every slot that becomes free is returned.
    fn drain(&mut self, uid: InstanceUid);
    /// Return `excess` slots of it as they become free; replaces the number before.
    fn trim(&mut self, uid: InstanceUid, excess: u16);
    /// Return up to `count` free slots now; how many were.
    fn release(&mut self, uid: InstanceUid, count: u16) -> u16;
    /// Takes the returned slots out, to be reported.
    fn take_returned(&mut self, uid: InstanceUid) -> u16;
    /// The word of an instance; empty for an unknown one.
    fn word(&self, uid: InstanceUid) -> SlotWord;
    /// Others ask for `want` slots of the group as soon as they are free, and `must` of these have to be returned when their requests end, each after one
    /// turn. Replaces the numbers before.
    fn set_recall(&mut self, group: &GroupId, want: u32, must: u32);
    /// Lowers the numbers of [`SlotPool::set_recall`] to these; lower ones stay.
    fn cap_recall(&mut self, group: &GroupId, want: u32, must: u32);
    /// Requests in the waiting room of a group.
    fn waiting(&self, group: &GroupId) -> u32;
    /// Requests of the group that wait, run and linger. Asked for every group many times a second.
    fn load(&self, group: &GroupId) -> u32;
    /// Age of the oldest waiting request in milliseconds, 0 when none waits.
    fn oldest_wait_ms(&self, group: &GroupId) -> u32;
    /// Instances that refused a request with the scale-out signal since the last call.
    fn take_shed(&mut self) -> Vec<InstanceUid>;
    /// What changed since the last call, so that the costs of the control state follow changes and not the number of groups and instances.
    fn take_changes(&mut self) -> Changes {
        Changes::All
    }
    /// Whether there is such a group; of one that is gone nothing is told any more.
    fn knows(&self, _group: &GroupId) -> bool {
        true
    }
}
