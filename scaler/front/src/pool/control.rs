//! The pool as the control state sees it.

use std::sync::Arc;

use maniple_core::slots::{
    message::{GroupId, InstanceInfo, InstanceUid},
    pool::{Changes, SlotPool},
    word::SlotWord,
};

use super::{Group, Instance, Pool, lanes::Ordered, now_ms};

/// How long slots serve waiting requests here before they go to others who wait, in milliseconds.
const TURN_MS: u64 = 20;

impl Pool {
    fn group_of(&self, info: &InstanceInfo) -> Arc<Group> {
        self.group_or_new(&info.group)
    }

    /// Has the control task report what was returned of the instance. It does so anyway with its next message.
    fn report(&self, instance: &Instance) {
        if instance.word().returned() > 0 {
            self.shared.returned.lock().push(instance.uid());
        }
    }

    fn set_lanes(group: &Group, change: impl FnOnce(&mut Vec<Arc<Instance>>)) {
        let changed = group.lanes.load().changed(change);
        group.lanes.store(Arc::new(changed));
    }
}

impl SlotPool for Pool {
    fn upsert(&mut self, info: &InstanceInfo) {
        let group = self.group_of(info);
        if let Some(known) = self.instance(info.uid) {
            known.set_info(info);
            Self::set_lanes(&group, |lanes| Ordered::put(lanes, known));
            return;
        }
        let instance = Arc::new(Instance::new(info));
        self.instances.lock().insert(info.uid, instance.clone());
        Self::set_lanes(&group, |lanes| Ordered::put(lanes, instance.clone()));
        crate::probe::start(&group, &instance);
    }

    fn remove(&mut self, uid: InstanceUid) {
        let Some(instance) = self.instances.lock().remove(&uid) else {
            return;
        };
        // Nothing is handed on to it, and what lingers there is over.
        instance.cell.drain();
        instance.gone().cancel();
        if let Some(group) = self.group(&instance.group()) {
            Self::set_lanes(&group, |lanes| Ordered::take_out(lanes, uid));
        }
    }

    fn grant(&mut self, uid: InstanceUid, count: u16) {
        let Some(instance) = self.instance(uid) else {
            return;
        };
        instance.cell.grant(count);
        // What is granted to a draining instance goes back at once.
        self.report(&instance);
        if let Some(group) = self.group(&instance.group()) {
            group.gate.new_turn(now_ms() + TURN_MS);
            group.serve();
        }
    }

    fn drain(&mut self, uid: InstanceUid) {
        if let Some(instance) = self.instance(uid) {
            instance.cell.drain();
            self.report(&instance);
        }
    }

    fn trim(&mut self, uid: InstanceUid, excess: u16) {
        if let Some(instance) = self.instance(uid) {
            instance.cell.trim(excess);
            self.report(&instance);
        }
    }

    fn release(&mut self, uid: InstanceUid, count: u16) -> u16 {
        let Some(instance) = self.instance(uid) else {
            return 0;
        };
        let released = instance.cell.release(count);
        self.report(&instance);
        released
    }

    fn take_returned(&mut self, uid: InstanceUid) -> u16 {
        self.instance(uid)
            .map_or(0, |instance| instance.cell.take_returned())
    }

    fn word(&self, uid: InstanceUid) -> SlotWord {
        self.instance(uid)
            .map_or(SlotWord::EMPTY, |instance| instance.cell.word())
    }

    fn set_recall(&mut self, group: &GroupId, want: u32, must: u32) {
        if let Some(group) = self.group(group) {
            group.gate.set_recall(want, must, now_ms() + TURN_MS);
        }
    }

    fn cap_recall(&mut self, group: &GroupId, want: u32, must: u32) {
        if let Some(group) = self.group(group) {
            group.gate.cap_recall(want, must);
        }
    }

    fn waiting(&self, group: &GroupId) -> u32 {
        self.group(group).map_or(0, |group| group.gate.waiting())
    }

    fn load(&self, group: &GroupId) -> u32 {
        self.group(group).map_or(0, |group| {
            let (_, busy, linger) = group.slots();
            busy + linger + group.waiting()
        })
    }

    fn oldest_wait_ms(&self, group: &GroupId) -> u32 {
        let since = self
            .group(group)
            .and_then(|group| group.gate.oldest_since_ms());
        since.map_or(0, |since| {
            u32::try_from(now_ms().saturating_sub(since)).unwrap_or(u32::MAX)
        })
    }

    fn take_shed(&mut self) -> Vec<InstanceUid> {
        std::mem::take(&mut self.shared.shed.lock())
    }

    fn take_changes(&mut self) -> Changes {
        let changed = std::mem::take(&mut *self.shared.changed.lock());
        let groups = changed.iter().map(|group| {
            group.look();
            group.id().clone()
        });
        Changes::Of {
            groups: groups.collect(),
            returned: std::mem::take(&mut *self.shared.returned.lock()),
        }
    }

    fn knows(&self, group: &GroupId) -> bool {
        self.group(group).is_some()
    }
}
