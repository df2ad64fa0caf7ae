//! One function group: its instances in order of use and its waiting room.

use std::{
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering, fence},
    },
    task::Poll,
    time::Duration,
};

use arc_swap::{ArcSwap, Guard};
use maniple_core::slots::{message::GroupId, word::Bar};

use super::{
    Instance, Shared, Slot,
    gate::{Gate, Ticket},
    lanes::Ordered,
    now_ms,
};

/// How the instances of a group speak HTTP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2 without TLS, from the first byte.
    H2c,
}

/// How requests of a group are treated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupSettings {
    /// Requests that may wait at this front end.
    pub room: u32,
    /// How long one may wait.
    pub patience: Duration,
    /// From the request's arrival at an instance to the end of its response; upgraded connections and responses under way are not cut by it before
    /// their first byte. None: no limit.
    pub response_limit: Option<Duration>,
    /// How long an instance is taken to work on a request after the connection broke, bytes on their way included.
    pub linger: Duration,
    /// How long an unanswered request that nobody waits for any more keeps its slot while its connection stands; none: until it is answered.
    pub run_limit: Option<Duration>,
    /// HTTP towards the instances.
    pub protocol: Protocol,
    /// What a new instance is asked to find out whether it serves; none: an accepted connection is enough.
    pub probe_path: Option<String>,
}

impl Default for GroupSettings {
    fn default() -> Self {
        Self {
            room: 1_000,
            patience: Duration::from_secs(60),
            response_limit: Some(Duration::from_secs(230)),
            linger: Duration::from_secs(230 + 15),
            run_limit: Some(Duration::from_secs(30 * 60 + 15)),
            protocol: Protocol::Http1,
            probe_path: Some("/".to_owned()),
        }
    }
}

/// Why no slot was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoSlot {
    /// As many requests wait as may.
    #[error(
        "the waiting room is full: retry later, or raise the concurrency, the instance count or the room"
    )]
    Full,
    /// No slot became free in time.
    #[error(
        "no instance became free in time: retry later, or raise the instance count or the waiting time"
    )]
    TimedOut,
}

impl NoSlot {
    /// Stable name for logs, metrics and response bodies.
    pub fn category(self) -> &'static str {
        match self {
            Self::Full => "waiting-room-full",
            Self::TimedOut => "waiting-room-timeout",
        }
    }
}

/// A function group.
#[derive(Debug)]
pub struct Group {
    id: GroupId,
    pub(super) gate: Gate<Instance>,
    pub(super) lanes: ArcSwap<Ordered>,
    settings: ArcSwap<GroupSettings>,
    /// Waiting requests as the control task has last seen them.
    noted: AtomicU32,
    /// Whether requests can come: a group that no route leads to is forgotten with its last instance.
    pub(super) routed: AtomicBool,
    /// Whether the control task will look again.
    listed: AtomicBool,
    pub(super) shared: Arc<Shared>,
}

impl Group {
    pub(super) fn new(id: GroupId, shared: Arc<Shared>) -> Self {
        Self {
            id,
            gate: Gate::new(),
            lanes: ArcSwap::default(),
            settings: ArcSwap::default(),
            noted: AtomicU32::new(0),
            routed: AtomicBool::new(false),
            listed: AtomicBool::new(false),
            shared,
        }
    }

    /// Its name.
    pub fn id(&self) -> &GroupId {
        &self.id
    }

    /// Requests waiting here.
    pub fn waiting(&self) -> u32 {
        self.gate.waiting()
    }

    /// Its instances in order of use.
    pub fn instances(&self) -> Arc<Vec<Arc<Instance>>> {
        self.lanes.load().lanes().clone()
    }

    /// Its settings now. Not to be kept: they change as a whole.
    pub fn settings(&self) -> Guard<Arc<GroupSettings>> {
        self.settings.load()
    }

    pub(super) fn configure(&self, settings: GroupSettings) {
        if **self.settings.load() != settings {
            self.settings.store(Arc::new(settings));
        }
    }

    /// A slot if one is free and nobody waits.
    pub fn try_acquire(self: &Arc<Self>) -> Option<Slot> {
        let instance = self.gate.try_acquire(&**self.lanes.load())?;
        Some(Slot::new(self.clone(), instance))
    }

    /// A slot, now or as soon as one is free; dropped, the place in line is given up. `patience` limits the wait.
    pub async fn acquire(self: &Arc<Self>, patience: Duration) -> Result<Slot, NoSlot> {
        if let Some(slot) = self.try_acquire() {
            return Ok(slot);
        }
        let ticket = self
            .gate
            .enter(self.settings.load().room, now_ms())
            .map_err(|_| NoSlot::Full)?;
        let place = Place {
            group: self,
            ticket,
        };
        self.gate.serve(&**self.lanes.load());
        self.list();
        self.shared.control.notify_one();
        let arrival = poll_fn(|cx| match self.gate.poll(&place.ticket, cx.waker()) {
            Poll::Ready(instance) => Poll::Ready(Slot::new(self.clone(), instance)),
            Poll::Pending => Poll::Pending,
        });
        tokio::time::timeout(patience, arrival)
            .await
            .map_err(|_| NoSlot::TimedOut)
    }

    /// Gives free slots to those who wait.
    pub(crate) fn serve(self: &Arc<Self>) {
        self.gate.serve(&**self.lanes.load());
        self.list();
    }

    /// To be called after whatever may have changed the number of waiting requests: the control task looks at groups that are listed.
    pub(super) fn list(self: &Arc<Self>) {
        // Pairs with the fence in `look`: of a number that changes while it is looked at, one side sees the other.
        fence(Ordering::SeqCst);
        if self.gate.waiting() != self.noted.load(Ordering::Relaxed)
            && !self.listed.swap(true, Ordering::AcqRel)
        {
            self.shared.changed.lock().push(Arc::clone(self));
        }
    }

    pub(super) fn noted(&self) -> u32 {
        self.noted.load(Ordering::Relaxed)
    }

    /// The control task looks: from now on a change is one against this number.
    pub(super) fn look(&self) {
        self.listed.store(false, Ordering::Release);
        loop {
            let waiting = self.gate.waiting();
            self.noted.store(waiting, Ordering::Relaxed);
            fence(Ordering::SeqCst);
            if self.gate.waiting() == waiting {
                return;
            }
        }
    }

    pub(crate) fn lift(self: &Arc<Self>, instance: &Instance, bar: Bar) {
        instance.cell.lift(bar);
        self.serve();
    }

    /// Slots held, in use and lingering, over all instances.
    pub fn slots(&self) -> (u32, u32, u32) {
        self.instances().iter().fold((0, 0, 0), |sum, instance| {
            let word = instance.word();
            (
                sum.0 + u32::from(word.held()),
                sum.1 + u32::from(word.busy()),
                sum.2 + u32::from(word.linger()),
            )
        })
    }
}

/// A place in line, given up when dropped.
struct Place<'a> {
    group: &'a Arc<Group>,
    ticket: Ticket,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if let Some(instance) = self.group.gate.leave(&self.ticket) {
            Slot::new(self.group.clone(), instance).unsent();
        }
        self.group.list();
    }
}
