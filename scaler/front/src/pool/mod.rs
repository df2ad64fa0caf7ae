//! Slots held by this front end: taken by requests, changed by the control task.
//!
//! The hot path is one compare-and-swap on the word of an instance; it sends no message, takes no lock and allocates nothing as long as a slot is free.

mod cell;
mod control;
mod gate;
mod group;
mod instance;
mod lanes;
mod slot;
mod sync;
#[cfg(test)]
mod tests;

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, OnceLock, atomic::Ordering},
    time::Instant,
};

use arc_swap::ArcSwap;
use maniple_core::slots::message::{GroupId, InstanceUid};
use parking_lot::Mutex;
use tokio::sync::Notify;

pub use group::{Group, GroupSettings, NoSlot, Protocol};
pub use instance::Instance;
pub use slot::Slot;

use crate::cold::StartAges;

/// Milliseconds since the first call in this process.
pub(crate) fn now_ms() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    u64::try_from(START.get_or_init(Instant::now).elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// What all groups share.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    /// Wakes the control task: somebody waits, or a slot came back.
    pub(crate) control: Notify,
    pub(crate) shed: Mutex<Vec<InstanceUid>>,
    /// Groups whose number of waiting requests changed since it was looked at.
    changed: Mutex<Vec<Arc<Group>>>,
    /// Instances with slots to report.
    returned: Mutex<Vec<InstanceUid>>,
}

impl Shared {
    /// A slot of this instance came back and has to be reported.
    fn returned(&self, uid: InstanceUid) {
        self.returned.lock().push(uid);
        self.control.notify_one();
    }
}

/// All groups and instances that this front end knows. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Pool {
    groups: Arc<ArcSwap<HashMap<GroupId, Arc<Group>>>>,
    instances: Arc<Mutex<HashMap<InstanceUid, Arc<Instance>>>>,
    shared: Arc<Shared>,
}

impl Pool {
    /// A pool that knows nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The group of that name.
    pub fn group(&self, id: &GroupId) -> Option<Arc<Group>> {
        self.groups.load().get(id).cloned()
    }

    /// The group of that name, made when it is new; its settings become `settings`.
    pub fn configure(&self, id: &GroupId, settings: GroupSettings) -> Arc<Group> {
        let instances = self.instances.lock();
        let group = self.group(id).unwrap_or_else(|| self.make(id));
        group.routed.store(true, Ordering::Relaxed);
        drop(instances);
        group.configure(settings);
        group
    }

    fn group_or_new(&self, id: &GroupId) -> Arc<Group> {
        if let Some(group) = self.group(id) {
            return group;
        }
        let _one = self.instances.lock();
        self.group(id).unwrap_or_else(|| self.make(id))
    }

    /// The caller holds the lock of the instances, so that the same group is not made twice.
    fn make(&self, id: &GroupId) -> Arc<Group> {
        let group = Arc::new(Group::new(id.clone(), self.shared.clone()));
        let mut groups = HashMap::clone(&self.groups.load());
        groups.insert(id.clone(), group.clone());
        self.groups.store(Arc::new(groups));
        group
    }

    /// Only these groups have routes. What is not among them is forgotten some time after its last instance.
    pub fn keep_routed(&self, routed: &HashSet<GroupId>) {
        for group in self.groups() {
            if !routed.contains(group.id()) {
                group.routed.store(false, Ordering::Relaxed);
            }
        }
    }

    /// Forgets what nobody uses. Only where instances are put in, so that none is put into a group that is being forgotten.
    fn forget_unused(&self) {
        let unused = |group: &Arc<Group>| {
            !group.routed.load(Ordering::Relaxed)
                && group.waiting() == 0
                && group.instances().is_empty()
        };
        if !self.groups.load().values().any(unused) {
            return;
        }
        // The lock under which groups are made and get routes.
        let _one = self.instances.lock();
        let mut groups = HashMap::clone(&self.groups.load());
        groups.retain(|_, group| !unused(group));
        self.groups.store(Arc::new(groups));
    }

    /// Every group.
    pub fn groups(&self) -> Vec<Arc<Group>> {
        self.groups.load().values().cloned().collect()
    }

    fn instance(&self, uid: InstanceUid) -> Option<Arc<Instance>> {
        self.instances.lock().get(&uid).cloned()
    }

    /// How an instance started. Of no meaning once it has answered.
    pub(crate) fn told(&self, uid: InstanceUid, ages: &StartAges) {
        if let Some(instance) = self.instance(uid) {
            instance.start().told(ages, tokio::time::Instant::now());
        }
    }

    /// Resolves when the control task has something to look at.
    pub(crate) async fn changed(&self) {
        self.shared.control.notified().await;
    }

    /// Slots of the groups in which nobody waits: `(instance, held, highest use since the last call)`. While somebody waits, unused slots are on their way
    /// to be used, an instance that starts for instance. What was not needed at any time gets no more work until it is needed again.
    pub(crate) fn idle_window(&self) -> Vec<(InstanceUid, u16, u32)> {
        self.forget_unused();
        let groups = self.groups();
        let mut window = Vec::new();
        for group in groups.iter().filter(|group| group.waiting() == 0) {
            let ordered = group.lanes.load();
            let mut used = 0;
            for lane in ordered.lanes().iter() {
                let peak = lane.cell.take_idle_peak();
                used += peak;
                window.push((lane.uid(), lane.cell.word().held(), peak));
            }
            ordered.shrink(used);
        }
        window
    }
}
