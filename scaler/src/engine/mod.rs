//! The one task that decides. It owns the state of every group and looks at a group again when something that was read, declared
//! or seen of it changes, and when its last decision said so; never on a clock of its own. So a group at rest costs memory only.

mod count;
mod feed;
mod forward;
mod group;
mod http;
mod input;
mod intake;
mod metrics;
mod role;
mod starts;
mod timer;
mod wakes;
mod wish;

use crate::book::{Book, Entry};
use crate::clock::Clock;
use crate::index::apps::AppEvent;
use crate::index::{AppKey, Driver, GroupKey, Seen, Workload, WorkloadKey};
use crate::mirror::MirrorMessage;
use crate::native::{Wishes, Written};
use crate::slots::{Aim, DemandEvent, Wanted};
use forward::Forwarder;
use group::Group;
use http::Http;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::Deployment;
use maniple_core::decision::Now;
use maniple_runtime::{LeaderState, Pending};
use role::Role;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use wakes::Wakes;
use wish::{may_lower, slots_aim, wish};

pub use feed::{Control, Feed, Feeds, Observations, StorageFeeds};
pub use metrics::EngineMetrics;

/// Longest sleep. A step of the wall clock is noticed within this time.
const TICK: Duration = Duration::from_secs(1);
/// A difference between the clocks that is a step and not a drift.
const STEP: SignedDuration = SignedDuration::from_millis(500);
/// How often readings are checked for their age.
const SWEEP: Duration = Duration::from_secs(30);
/// Events that are taken in together before groups are looked at.
const BATCH: usize = 1024;

/// What the engine listens to.
pub struct EngineInputs {
    /// Plans of apps.
    pub apps: mpsc::Receiver<AppEvent>,
    /// Deployments of groups.
    pub workloads: mpsc::Receiver<Seen<Deployment>>,
    /// Whether this process leads.
    pub leadership: watch::Receiver<LeaderState>,
    /// What the leader decides, while another process leads.
    pub mirror: mpsc::Receiver<MirrorMessage>,
    /// Outcomes of writes.
    pub written: mpsc::UnboundedReceiver<Written>,
}

/// Between the engine and the data role of the same process.
pub struct SlotsLink {
    /// What the data role counts.
    pub demand: mpsc::UnboundedReceiver<DemandEvent>,
    /// What was decided about groups whose count is written here.
    pub wanted: mpsc::UnboundedSender<Wanted>,
}

/// What the engine acts on.
pub struct EngineOutputs {
    /// Where decisions are written.
    pub book: Arc<Book>,
    /// Where wishes for replica counts go.
    pub wishes: Wishes,
    /// Apps with a source that does not accept their credential.
    pub refused: mpsc::Sender<AppKey>,
    /// Dropped when the first lists are complete.
    pub ready: Option<Pending>,
    /// What is counted.
    pub metrics: EngineMetrics,
}

/// The engine.
pub struct Engine {
    feeds: Box<dyn Feeds>,
    clock: Arc<dyn Clock>,
    out: EngineOutputs,
    role: Role,
    apps_listed: bool,
    workloads_listed: bool,
    apps: HashMap<AppKey, Vec<GroupKey>>,
    groups: HashMap<GroupKey, Group>,
    workloads: HashMap<WorkloadKey, Workload>,
    by_workload: HashMap<WorkloadKey, GroupKey>,
    dirty: HashSet<GroupKey>,
    dirty_sender: mpsc::Sender<GroupKey>,
    dirty_receiver: Option<mpsc::Receiver<GroupKey>>,
    wakes: Wakes,
    http: Http,
    /// Wall clock minus the other clock, when they were last compared.
    offset: Timestamp,
    swept: Duration,
}

impl Engine {
    /// An engine that knows nothing yet.
    pub fn new(feeds: impl Feeds, clock: Arc<dyn Clock>, out: EngineOutputs) -> Self {
        let (dirty_sender, dirty_receiver) = mpsc::channel(BATCH);
        Self {
            feeds: Box::new(feeds),
            offset: offset(clock.now()),
            clock,
            out,
            role: Role::default(),
            apps_listed: false,
            workloads_listed: false,
            apps: HashMap::new(),
            groups: HashMap::new(),
            workloads: HashMap::new(),
            by_workload: HashMap::new(),
            dirty: HashSet::new(),
            dirty_sender,
            dirty_receiver: Some(dirty_receiver),
            wakes: Wakes::default(),
            http: Http::default(),
            swept: Duration::ZERO,
        }
    }

    /// Requests are counted by a data role.
    #[must_use]
    pub fn with_slots(mut self, link: SlotsLink) -> Self {
        self.http = Http::new(link);
        self
    }

    /// Decides until `stop` is cancelled.
    pub async fn run(mut self, mut inputs: EngineInputs, stop: CancellationToken) {
        let mut dirty = self.dirty_receiver.take().expect("an engine runs once");
        let leadership = inputs.leadership.borrow_and_update().clone();
        self.lead(&leadership);
        let mut tick = Instant::now() + TICK;
        loop {
            self.settle();
            let wake = Instant::now() + self.pause();
            tokio::select! {
                () = stop.cancelled() => return,
                Some(event) = inputs.apps.recv() => {
                    self.app(event);
                    drain(&mut inputs.apps, |event| self.app(event));
                }
                Some(seen) = inputs.workloads.recv() => {
                    self.workload(seen);
                    drain(&mut inputs.workloads, |seen| self.workload(seen));
                }
                Some(key) = dirty.recv() => {
                    self.dirty.insert(key);
                    drain(&mut dirty, |key| {
                        self.dirty.insert(key);
                    });
                }
                Some(event) = self.http.recv() => {
                    self.demand(event);
                    for _ in 0..BATCH {
                        let Some(event) = self.http.try_recv() else { break };
                        self.demand(event);
                    }
                }
                Some(written) = inputs.written.recv() => self.wrote(&written),
                Some(message) = inputs.mirror.recv() => self.mirror(message),
                Ok(()) = inputs.leadership.changed() => {
                    let leadership = inputs.leadership.borrow_and_update().clone();
                    self.lead(&leadership);
                }
                () = sleep_until(wake.min(tick)) => {
                    self.wake();
                    if Instant::now() >= tick {
                        tick = Instant::now() + TICK;
                        self.tick();
                    }
                }
            }
        }
    }

    fn listed(&mut self) {
        if !self.is_listed() {
            return;
        }
        self.out.book.open();
        self.out.ready = None;
        self.dirty.extend(self.groups.keys().cloned());
    }

    fn is_listed(&self) -> bool {
        self.apps_listed && self.workloads_listed
    }

    fn lead(&mut self, leadership: &LeaderState) {
        let now = self.clock.now();
        let leads = matches!(leadership, LeaderState::Leading { .. });
        if leads == self.role.leads() {
            return;
        }
        for (key, group) in &mut self.groups {
            if leads {
                group.take_over(self.role.inherited(key, now), now);
                group.open(&*self.feeds, &forwarder(key, &self.dirty_sender));
            } else {
                group.close();
                self.wakes.set(key, None);
            }
        }
        if !leads {
            self.out.wishes.clear();
        }
        self.role.set_leads(leads);
        self.dirty.extend(self.groups.keys().cloned());
    }

    fn mirror(&mut self, message: MirrorMessage) {
        if self.role.hear(message, self.clock.now()) {
            self.dirty.extend(self.groups.keys().cloned());
        } else {
            self.dirty.extend(self.role.take_changed());
        }
    }

    fn pause(&self) -> Duration {
        let now = self.clock.now().mono;
        let wait = self.wakes.next().map(|at| at.saturating_sub(now));
        wait.unwrap_or(TICK).min(TICK)
    }

    fn wake(&mut self) {
        let now = self.clock.now();
        while let Some(key) = self.wakes.pop(now.mono) {
            self.dirty.insert(key);
        }
    }

    /// What has to be looked at from time to time, because nothing tells of it.
    fn tick(&mut self) {
        let now = self.clock.now();
        let offset = offset(now);
        let step = self.offset.duration_until(offset);
        self.offset = offset;
        if step.abs() > STEP {
            tracing::warn!(milliseconds = step.as_millis(), "the wall clock was set");
            self.dirty.extend(self.groups.keys().cloned());
        }
        if now.mono.saturating_sub(self.swept) >= SWEEP {
            self.swept = now.mono;
            let stale = self.groups.iter().filter(|(_, group)| group.is_stale());
            self.dirty.extend(stale.map(|(key, _)| key.clone()));
        }
        if self.role.expire(now) {
            self.dirty.extend(self.groups.keys().cloned());
        }
    }

    /// Looks at every group of which something is new.
    fn settle(&mut self) {
        if !self.is_listed() {
            return;
        }
        let speaks = self.role.leads() || self.role.is_fresh();
        for key in std::mem::take(&mut self.dirty) {
            if self.role.leads() {
                self.decide(&key);
            } else if let Some(group) = self.groups.get(&key) {
                let observed = self.workloads.get(&group.plan.workload).map(|w| w.replicas);
                self.out.book.write(&key, self.role.entry(&key, observed));
            }
        }
        self.out.book.speak(speaks);
    }

    fn decide(&mut self, key: &GroupKey) {
        let Some(group) = self.groups.get_mut(key) else {
            return;
        };
        let workload = self.workloads.get(&group.plan.workload);
        let now = self.clock.now();
        let demand = self.http.reading(key, now.wall);
        let pods = self.http.pods(&group.plan);
        // Instances that leave serve nobody.
        let leaving = pods.map_or(0, |pods| pods.draining + pods.removable);
        let serving = workload.map(|workload| workload.replicas.saturating_sub(leaving));
        let outcome = group.compute(serving, demand.as_ref(), now, &self.out.metrics);
        let Some(decision) = &group.decision else {
            return;
        };
        if outcome.refused {
            // A full channel only means that Secrets are being read again already.
            let _ = self.out.refused.try_send(key.app.clone());
        }
        if outcome.turned {
            self.out.metrics.decided(decision.reason);
            tracing::info!(
                group = %key,
                desired = decision.desired,
                reason = decision.reason.as_str(),
                "{}",
                decision.message
            );
        }
        let entry = Entry::Decided {
            decision: Arc::clone(decision),
            observed: workload.map(|workload| workload.replicas),
        };
        self.out.book.write(key, entry);
        let mut wake = outcome.wake;
        let wish = match pods {
            Some(pods) => {
                let pending = self.out.wishes.wanted(&group.plan.workload);
                let again = group.released.see(&pods, pending.is_some(), now.mono);
                wake = wake.into_iter().chain(again).min();
                let most = workload.map_or(0, |w| group.released.most(w.replicas, pending));
                let ours = workload.is_some_and(|w| w.driver == Some(Driver::Native));
                let desired = decision
                    .desired
                    .filter(|_| ours && may_lower(decision.reason));
                self.http
                    .want(key, desired.map(|desired| Aim { desired, most }));
                slots_aim(decision, workload, pending, group.plan.spec.cap())
                    .and_then(|aim| group.released.count(&pods, aim))
            }
            None => wish(decision, workload),
        };
        self.wakes.set(key, wake);
        match wish {
            Some(replicas) => self.out.wishes.want(&group.plan.workload, replicas),
            None => self.out.wishes.withdraw(&group.plan.workload),
        }
    }
}

/// Wall clock minus the other clock: constant until the wall clock is set.
fn offset(now: Now) -> Timestamp {
    now.wall.checked_sub(now.mono).unwrap_or(now.wall)
}

fn forwarder(key: &GroupKey, dirty: &mpsc::Sender<GroupKey>) -> Forwarder {
    Forwarder {
        group: key.clone(),
        dirty: dirty.clone(),
    }
}

/// Takes what is there already, so that a group on which much happens is looked at once.
fn drain<T>(receiver: &mut mpsc::Receiver<T>, mut take: impl FnMut(T)) {
    for _ in 0..BATCH {
        match receiver.try_recv() {
            Ok(item) => take(item),
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests;
