//! The task that owns the books: it leads while this process leads, and hears front ends, pods, plans and decisions.

use super::books::Books;
use super::cluster::Cluster;
use super::first_lists::FirstLists;
use super::metrics::SlotsMetrics;
use super::outside::Outside;
use super::pods::{PodName, name_of};
use super::record::{TermOver, take_over};
use super::routes::{Claim, routes};
use super::service::{ConnectionId, StreamEvent};
use super::view::{DemandEvent, RoleView};
use super::wire::{RouteSpec, encode_routes};
use crate::index::{AppKey, AppPlan, GroupKey, GroupPlan, HttpPlan, Seen};
use k8s_openapi::api::core::v1::Pod;
use maniple_core::slots::data_role::{Deposed, Settings};
use maniple_proto::slots::FromDataRole;
use maniple_runtime::LeaderState;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tokio_util::sync::CancellationToken;

/// How often time-outs are looked at and peaks are taken.
const TICK: Duration = Duration::from_secs(1);
/// Events that are taken in together.
const BATCH: usize = 1024;

/// What the index knows of apps, for the slots.
#[derive(Clone, Debug)]
pub enum PlanEvent {
    /// The plan of an app, new or changed.
    Planned(AppKey, Arc<AppPlan>),
    /// There is no such app any more.
    Gone(AppKey),
    /// Every app that there is has been told.
    Listed,
}

/// What was decided for an HTTP group whose count this scaler writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Aim {
    /// Instances that are to serve.
    pub desired: u32,
    /// Pods that exist by the count: those above it come with a new version and go with the old one, not by their slots.
    pub most: u32,
}

/// News of a decision; none when nothing may be taken away, or the count is not ours to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The group.
    pub group: GroupKey,
    /// What was decided.
    pub aim: Option<Aim>,
}

/// What the task listens to. Nothing here is bounded, so that nobody waits for it while it takes over.
pub struct SlotsInputs {
    /// Streams of front ends.
    pub streams: mpsc::UnboundedReceiver<StreamEvent>,
    /// Plans of apps.
    pub plans: mpsc::UnboundedReceiver<PlanEvent>,
    /// Decisions about HTTP groups.
    pub wanted: mpsc::UnboundedReceiver<Wanted>,
    /// Whether this process leads.
    pub leadership: watch::Receiver<LeaderState>,
}

/// Why the task ended although nobody asked for it. The process must end.
#[derive(Debug, thiserror::Error)]
pub enum SlotsError {
    /// The record names another term.
    #[error(transparent)]
    TermOver(#[from] TermOver),
    /// A front end follows another term.
    #[error(transparent)]
    Deposed(#[from] Deposed),
}

impl SlotsError {
    /// Stable name for logs and metrics.
    pub fn category(&self) -> &'static str {
        match self {
            Self::TermOver(_) => "term-over",
            Self::Deposed(error) => error.category(),
        }
    }
}

/// The data role of one process.
pub struct SlotsRole<C> {
    cluster: C,
    settings: Settings,
    domain: String,
    demand: mpsc::UnboundedSender<DemandEvent>,
    metrics: SlotsMetrics,
    started: Instant,
    connections: HashMap<ConnectionId, mpsc::UnboundedSender<FromDataRole>>,
    apps: HashMap<AppKey, Vec<GroupKey>>,
    plans: HashMap<GroupKey, Arc<GroupPlan>>,
    /// Apps whose functions are not known yet.
    awaited: HashMap<AppKey, HttpPlan>,
    listed: bool,
    wanted: HashMap<GroupKey, Aim>,
    routes: Vec<RouteSpec>,
}

impl<C: Cluster> SlotsRole<C> {
    /// A data role that leads nothing yet. `domain` is the end of every app's default host.
    pub fn new(
        cluster: C,
        settings: Settings,
        domain: &str,
        demand: mpsc::UnboundedSender<DemandEvent>,
    ) -> Self {
        Self {
            cluster,
            settings,
            domain: domain.to_owned(),
            demand,
            metrics: SlotsMetrics::default(),
            started: Instant::now(),
            connections: HashMap::new(),
            apps: HashMap::new(),
            plans: HashMap::new(),
            awaited: HashMap::new(),
            listed: false,
            wanted: HashMap::new(),
            routes: Vec::new(),
        }
    }

    /// Counts in `metrics`.
    #[must_use]
    pub fn with_metrics(mut self, metrics: SlotsMetrics) -> Self {
        self.metrics = metrics;
        self
    }

    /// Leads whenever this process leads, until `stop` is cancelled.
    ///
    /// # Errors
    /// When another process leads, whatever the Lease says: this one must end.
    pub async fn run(
        mut self,
        mut inputs: SlotsInputs,
        stop: CancellationToken,
    ) -> Result<(), SlotsError> {
        loop {
            self.tell(DemandEvent::Role(RoleView::Pending));
            if !self.stand_by(&mut inputs, &stop).await {
                return Ok(());
            }
            let mut leadership = inputs.leadership.clone();
            let lost = async move {
                let follows = |state: &LeaderState| matches!(state, LeaderState::Following { .. });
                drop(leadership.wait_for(follows).await);
            };
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = lost => tracing::info!("slots: this process leads no longer"),
                result = self.lead(&mut inputs) => return result,
            }
            // Front ends connect again, and hear of the next term from whoever leads it.
            self.connections.clear();
        }
    }

    fn tell(&self, event: DemandEvent) {
        let _ = self.demand.send(event);
    }

    fn now_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    /// Takes in what happens until this process leads; false when it is to stop.
    async fn stand_by(&mut self, inputs: &mut SlotsInputs, stop: &CancellationToken) -> bool {
        loop {
            if matches!(
                *inputs.leadership.borrow_and_update(),
                LeaderState::Leading { .. }
            ) {
                return true;
            }
            tokio::select! {
                () = stop.cancelled() => return false,
                changed = inputs.leadership.changed() => if changed.is_err() {
                    return false;
                },
                Some(event) = inputs.plans.recv() => drop(self.plan(event)),
                Some(wanted) = inputs.wanted.recv() => self.want(wanted),
                Some(event) = inputs.streams.recv() => self.idle_stream(event),
            }
        }
    }

    /// A stream of which no books are kept.
    fn idle_stream(&mut self, event: StreamEvent) {
        match event {
            StreamEvent::Opened { id, to } => drop(self.connections.insert(id, to)),
            StreamEvent::Closed { id } => drop(self.connections.remove(&id)),
            // Meant for a term that is over.
            StreamEvent::Said { .. } => {}
        }
    }

    fn want(&mut self, wanted: Wanted) {
        match wanted.aim {
            Some(aim) => self.wanted.insert(wanted.group, aim),
            None => self.wanted.remove(&wanted.group),
        };
    }

    /// The groups whose plan changed or is gone.
    fn plan(&mut self, event: PlanEvent) -> Vec<GroupKey> {
        let (app, groups, awaited) = match event {
            PlanEvent::Listed => {
                self.listed = true;
                return Vec::new();
            }
            PlanEvent::Planned(app, plan) => (app, plan.groups.clone(), plan.awaited.clone()),
            PlanEvent::Gone(app) => (app, Vec::new(), None),
        };
        match awaited {
            Some(plan) => self.awaited.insert(app.clone(), plan),
            None => self.awaited.remove(&app),
        };
        let http: Vec<_> = groups.iter().filter(|group| group.http.is_some()).collect();
        let mut keys: Vec<_> = http.iter().map(|group| group.key.clone()).collect();
        let before = if keys.is_empty() {
            self.apps.remove(&app)
        } else {
            self.apps.insert(app, keys.clone())
        };
        for group in &http {
            self.plans.insert(group.key.clone(), Arc::clone(group));
        }
        for gone in before.unwrap_or_default() {
            if !keys.contains(&gone) {
                self.plans.remove(&gone);
                self.wanted.remove(&gone);
                keys.push(gone);
            }
        }
        keys
    }

    /// Makes the routes anew; true when they differ from those before.
    fn route(&mut self) -> bool {
        let groups = self.plans.iter();
        let groups = groups.filter_map(|(key, plan)| {
            Some(Claim {
                app: &key.app,
                group: Some(key),
                plan: plan.http.as_ref()?,
            })
        });
        let awaited = self.awaited.iter().map(|(app, plan)| Claim {
            app,
            group: None,
            plan,
        });
        let routes = routes(&self.domain, groups.chain(awaited));
        let changed = routes != self.routes;
        self.routes = routes;
        changed
    }

    /// One term. Ends only by an error.
    async fn lead(&mut self, inputs: &mut SlotsInputs) -> Result<(), SlotsError> {
        let record = take_over(&self.cluster, &self.metrics).await;
        self.metrics.takeovers.inc();
        self.metrics
            .epoch
            .set(i64::try_from(record.epoch).unwrap_or(i64::MAX));
        let members = record.members().expect("a takeover reads them");
        tracing::info!(
            epoch = record.epoch,
            front_ends = members.len(),
            "slots: this process leads"
        );
        if !record.served {
            // Nobody can hold a slot: groups need not wait for the lists.
            self.tell(DemandEvent::Role(RoleView::Uncounted));
        }
        let stop = CancellationToken::new();
        let _ends = stop.clone().drop_guard();
        let mut pods = self.cluster.watch(stop);
        let mut first = FirstLists::default();
        while !(self.listed && first.instances && first.front_ends) {
            tokio::select! {
                Some(seen) = pods.instances.recv() => first.instance(seen),
                Some(seen) = pods.front_ends.recv() => first.front_end(seen),
                Some(event) = inputs.plans.recv() => drop(self.plan(event)),
                Some(wanted) = inputs.wanted.recv() => self.want(wanted),
                Some(event) = inputs.streams.recv() => self.idle_stream(event),
            }
        }
        let (outside, mut done) =
            Outside::new(self.cluster.clone(), record.epoch, self.metrics.clone());
        let mut books = Books::new(
            &record,
            members,
            self.settings.clone(),
            outside,
            self.demand.clone(),
            self.metrics.clone(),
            self.now_ms(),
        );
        for seen in first.seen_front_ends {
            books.front_end_pod(&seen, self.now_ms());
        }
        for plan in self.plans.values() {
            books.plan(plan, self.now_ms());
        }
        for (name, pod) in first.seen_instances {
            books.pod(&name, Some(&pod), self.now_ms());
        }
        for (group, aim) in &self.wanted {
            books.want(group, Some(*aim), self.now_ms());
        }
        books.begin(self.now_ms());
        self.route();
        for to in self.connections.values() {
            books.welcome(to);
            let _ = to.send(encode_routes(books.epoch(), &self.routes));
        }
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let surge = books.surge_due_ms();
            let surge = surge.map(|at| self.started + Duration::from_millis(at));
            tokio::select! {
                // What was written comes first: it never waits behind new work.
                biased;
                Some(done) = done.recv() => books.done(done?, self.now_ms()),
                _ = tick.tick() => books.tick(self.now_ms()),
                () = sleep_until(surge.unwrap_or(self.started)), if surge.is_some() => {
                    books.surged(self.now_ms());
                }
                Some(seen) = pods.front_ends.recv() => {
                    books.front_end_pod(&seen, self.now_ms());
                }
                Some(seen) = pods.instances.recv() => self.instance(&mut books, seen),
                Some(event) = inputs.streams.recv() => {
                    self.stream(&mut books, event)?;
                    for _ in 0..BATCH {
                        let Ok(event) = inputs.streams.try_recv() else { break };
                        self.stream(&mut books, event)?;
                    }
                }
                Some(wanted) = inputs.wanted.recv() => {
                    books.want(&wanted.group, wanted.aim, self.now_ms());
                    self.want(wanted);
                }
                Some(event) = inputs.plans.recv() => {
                    let mut changed = self.plan(event);
                    for _ in 0..BATCH {
                        let Ok(event) = inputs.plans.try_recv() else { break };
                        changed.extend(self.plan(event));
                    }
                    for key in changed {
                        match self.plans.get(&key) {
                            Some(plan) => books.plan(plan, self.now_ms()),
                            None => books.unplan(&key),
                        }
                    }
                    if self.route() {
                        for to in self.connections.values() {
                            let _ = to.send(encode_routes(books.epoch(), &self.routes));
                        }
                    }
                }
            }
        }
    }

    fn instance(&self, books: &mut Books<C>, seen: Seen<Pod>) {
        match seen {
            Seen::Object(pod) => books.pod(&name_of(&pod), Some(&pod), self.now_ms()),
            Seen::Gone { namespace, name } => {
                let name = PodName { namespace, name };
                books.pod(&name, None, self.now_ms());
            }
            Seen::Unreadable { .. } | Seen::Listed => {}
        }
    }

    fn stream(&mut self, books: &mut Books<C>, event: StreamEvent) -> Result<(), SlotsError> {
        match event {
            StreamEvent::Opened { id, to } => {
                books.welcome(&to);
                let _ = to.send(encode_routes(books.epoch(), &self.routes));
                self.connections.insert(id, to);
            }
            StreamEvent::Said { id, message } => {
                if let Some(to) = self.connections.get(&id) {
                    books.said(id, to, &message, self.now_ms())?;
                }
            }
            StreamEvent::Closed { id } => {
                self.connections.remove(&id);
                books.closed(id, self.now_ms());
            }
        }
        Ok(())
    }
}
