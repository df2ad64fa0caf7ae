//! The instances of a group in order of use, and how many of them are to get work.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use maniple_core::slots::{
    choice::{Load, Order, choose, pack_set},
    message::{InstanceUid, Tier},
    placement::Placement,
};

use super::{
    Instance,
    gate::{Lane, Lanes},
};

/// An immutable order; replaced as a whole when instances come, go or change.
#[derive(Debug, Default)]
pub(super) struct Ordered {
    lanes: Arc<Vec<Arc<Instance>>>,
    floor: usize,
    /// On-demand instances that are to get work. Grows by the request that needs one more, shrinks by [`Ordered::shrink`].
    pack: AtomicUsize,
    placement: Placement,
}

impl Ordered {
    /// The same with `change` made to the instances.
    pub(super) fn changed(&self, change: impl FnOnce(&mut Vec<Arc<Instance>>)) -> Self {
        let mut lanes = Vec::clone(&self.lanes);
        change(&mut lanes);
        let always_ready = |lane: &Arc<Instance>| lane.rank().tier == Tier::AlwaysReady;
        Self {
            floor: lanes.partition_point(always_ready),
            lanes: Arc::new(lanes),
            pack: AtomicUsize::new(self.pack.load(Ordering::Relaxed)),
            placement: self.placement,
        }
    }

    /// Puts `lane` where its rank says.
    pub(super) fn put(lanes: &mut Vec<Arc<Instance>>, lane: Arc<Instance>) {
        Self::take_out(lanes, lane.uid());
        let place = (lane.rank(), lane.uid());
        let at = lanes.partition_point(|other| (other.rank(), other.uid()) < place);
        lanes.insert(at, lane);
    }

    /// Takes the instance out.
    pub(super) fn take_out(lanes: &mut Vec<Arc<Instance>>, uid: InstanceUid) {
        lanes.retain(|other| other.uid() != uid);
    }

    /// All of them, in order.
    pub(super) fn lanes(&self) -> &Arc<Vec<Arc<Instance>>> {
        &self.lanes
    }

    /// After a time in which not more than `demand` requests ran at once: what is not needed for so many gets no more work, and can leave.
    pub(super) fn shrink(&self, demand: u32) {
        let held = |lane: &Arc<Instance>| lane.word().held();
        let (floor, rest) = self.lanes.split_at(self.floor);
        let floor = floor.iter().map(|lane| u32::from(held(lane))).sum();
        let needed = pack_set(demand, floor, rest.iter().map(held));
        self.pack.fetch_min(needed, Ordering::Relaxed);
    }
}

impl Lanes for Ordered {
    type Lane = Instance;

    fn take(&self) -> Option<Arc<Instance>> {
        let order = Order {
            len: self.lanes.len(),
            floor: self.floor,
            pack: self.pack.load(Ordering::Relaxed),
        };
        // Plain reads keep full instances from being written to by everybody who looks.
        let load = |i: usize| {
            let word = self.lanes[i].cell().word();
            Load {
                held: word.held(),
                used: word.busy() + word.linger(),
                usable: word.usable(),
            }
        };
        loop {
            let chosen = choose(self.placement, order, fastrand::u32(..), load)?;
            // Lost to another request: looked at again, as long as there is one.
            if self.lanes[chosen].cell().acquire() {
                let needed = (chosen + 1).saturating_sub(self.floor);
                if needed > order.pack {
                    self.pack.fetch_max(needed, Ordering::Relaxed);
                }
                return Some(Arc::clone(&self.lanes[chosen]));
            }
        }
    }
}
