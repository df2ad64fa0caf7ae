//! Permission to run one request on one instance.

use std::{sync::Arc, time::Duration};

use maniple_core::slots::word::Bar;

use super::{Group, Instance, gate::After, now_ms};

/// A slot in use. It ends by [`Slot::complete`], [`Slot::unsent`] or [`Slot::settled`]; dropped, it lingers: the instance may still work on the
/// request.
#[derive(Debug)]
pub struct Slot {
    group: Arc<Group>,
    instance: Option<Arc<Instance>>,
}

impl Slot {
    pub(super) fn new(group: Arc<Group>, instance: Arc<Instance>) -> Self {
        Self {
            group,
            instance: Some(instance),
        }
    }

    /// The instance that it is for.
    pub fn instance(&self) -> &Arc<Instance> {
        self.instance.as_ref().expect("present until the slot ends")
    }

    /// The group.
    pub fn group(&self) -> &Arc<Group> {
        &self.group
    }

    /// The whole response came: the slot is free.
    pub fn complete(mut self) {
        self.free();
    }

    /// Nothing was sent: the slot is free.
    pub fn unsent(mut self) {
        self.free();
    }

    fn free(&mut self) {
        if let Some(instance) = self.instance.take() {
            let after = self
                .group
                .gate
                .complete(&instance, &**self.group.lanes.load(), now_ms);
            self.group.after(after, &instance);
        }
    }

    /// The instance refused a connection: nothing of this request ran, and nothing is sent there until it answers again.
    pub(crate) fn refused(self) {
        let instance = self.instance().clone();
        instance.cell.bar(Bar::Unready);
        crate::probe::start(&self.group, &instance);
        self.unsent();
    }

    /// The instance refused a request with the scale-out signal: others are tried for a while.
    pub(crate) fn shed(&self, hold: Duration) {
        let instance = self.instance().clone();
        let group = self.group.clone();
        instance.cell.bar(Bar::Shed);
        group.shared.shed.lock().push(instance.uid());
        group.shared.control.notify_one();
        tokio::spawn(async move {
            tokio::time::sleep(hold).await;
            group.lift(&instance, Bar::Shed);
        });
    }
}

/// How long bytes that were sent before a connection broke can still reach the instance.
const SETTLE: Duration = Duration::from_secs(15);

impl Slot {
    /// The instance closed the connection before its response was complete: it has ended the request, or has ended itself.
    pub(crate) fn broken(mut self) {
        let limit = self.group.settings().linger.min(SETTLE);
        self.linger(limit);
    }

    /// The connection was closed in the middle of the response; after `limit` the instance has ended the request.
    pub(crate) fn abandoned(mut self, limit: Duration) {
        self.linger(limit);
    }

    fn linger(&mut self, limit: Duration) {
        let Some(instance) = self.instance.take() else {
            return;
        };
        instance.cell.abandon();
        let group = self.group.clone();
        // Without a runtime the process is ending, and the slot with it.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        runtime.spawn(async move {
            tokio::select! {
                () = tokio::time::sleep(limit) => {}
                () = instance.gone().cancelled() => {}
            }
            let after = group.gate.settle(&instance, &**group.lanes.load(), now_ms);
            group.after(after, &instance);
        });
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let limit = self.group.settings().linger;
        self.linger(limit);
    }
}

impl Group {
    pub(super) fn after(self: &Arc<Self>, after: After, instance: &Instance) {
        match after {
            // Nobody waited, and nobody waits.
            After::Free if self.waiting() == 0 && self.noted() == 0 => {}
            After::Free | After::HandedOver => self.list(),
            After::Wanted => {
                self.list();
                self.shared.control.notify_one();
            }
            After::Returned => {
                self.list();
                self.shared.returned(instance.uid());
            }
        }
    }
}
