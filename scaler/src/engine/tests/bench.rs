//! One engine with everything around it.

use super::super::*;
use crate::clock::SettableClock;
use crate::grpc::{Answer, DecisionBook, GroupRef};
use crate::index::{ResolvedSettings, translate};
use crate::index::{SnapshotPlan, apps};
use maniple_crds::GroupName;
use maniple_crds::report::GroupReport;
use maniple_sources::observation::{LastRead, Observation, Outcome, SourceError};
use maniple_sources::secret::Secret;
use maniple_sources::storage::{Account, ConnectionError};
use maniple_sources::storage_queue::{QueueReading, QueueTarget};
use maniple_sources::timer_status::TimerStatus;
use parking_lot::Mutex;
use serde_json::{Value, json};

/// Monday, 1 June 2026, 12:00:00 UTC.
pub(super) const NOON: &str = "2026-06-01T12:00:00Z";

type Channel<R> = watch::Sender<Arc<Observation<R>>>;

/// Sources that say what the test puts into them.
#[derive(Clone, Default)]
pub(super) struct Played {
    queues: Arc<Mutex<HashMap<String, Channel<QueueReading>>>>,
    timers: Arc<Mutex<HashMap<String, Channel<TimerStatus>>>>,
    intervals: Arc<Mutex<HashMap<String, Duration>>>,
}

struct Hand {
    name: String,
    intervals: Arc<Mutex<HashMap<String, Duration>>>,
}

impl Control for Hand {
    fn set_interval(&self, interval: Duration) {
        self.intervals.lock().insert(self.name.clone(), interval);
    }
}

fn channel<R: Clone>() -> Channel<R> {
    watch::Sender::new(Arc::new(Observation::pending(Instant::now().into_std())))
}

impl Played {
    fn open<R: Clone>(&self, channels: &Mutex<HashMap<String, Channel<R>>>, name: &str) -> Feed<R> {
        let mut channels = channels.lock();
        let sender = channels.entry(name.to_owned()).or_insert_with(channel);
        Feed {
            observations: sender.subscribe(),
            max_age: feed::MAX_AGE,
            control: Box::new(Hand {
                name: name.to_owned(),
                intervals: Arc::clone(&self.intervals),
            }),
        }
    }

    pub(super) fn is_followed(&self, queue: &str) -> bool {
        let queues = self.queues.lock();
        queues
            .get(queue)
            .is_some_and(|sender| sender.receiver_count() > 0)
    }

    pub(super) fn interval(&self, function: &str) -> Option<Duration> {
        self.intervals.lock().get(function).copied()
    }
}

impl Feeds for Played {
    fn queue(&self, target: &QueueTarget) -> Result<Feed<QueueReading>, ConnectionError> {
        Ok(self.open(&self.queues, &target.queue))
    }

    fn timer(
        &self,
        _: &Account,
        _: &str,
        function: &str,
    ) -> Result<Feed<TimerStatus>, ConnectionError> {
        Ok(self.open(&self.timers, function))
    }

    fn snapshot(&self, _: &SnapshotPlan) -> Result<Feed<Option<Vec<u8>>>, ConnectionError> {
        let sender = channel();
        Ok(Feed {
            observations: sender.subscribe(),
            max_age: feed::MAX_AGE,
            control: Box::new(Sender(sender)),
        })
    }
}

/// Keeps a channel open.
struct Sender<T>(#[allow(dead_code, reason = "held only")] T);
impl<T: Send> Control for Sender<T> {}

pub(super) struct Bench {
    pub(super) played: Played,
    pub(super) clock: Arc<SettableClock>,
    pub(super) book: Arc<Book>,
    pub(super) wishes: Wishes,
    pub(super) metrics: EngineMetrics,
    pub(super) leadership: watch::Sender<LeaderState>,
    pub(super) mirror: mpsc::Sender<MirrorMessage>,
    pub(super) written: mpsc::UnboundedSender<Written>,
    pub(super) refused: mpsc::Receiver<AppKey>,
    apps: mpsc::Sender<AppEvent>,
    workloads: mpsc::Sender<Seen<Deployment>>,
    version: u64,
    _stop: tokio_util::sync::DropGuard,
}

pub(super) fn following() -> LeaderState {
    LeaderState::Following { holder: None }
}

pub(super) fn leading() -> LeaderState {
    LeaderState::Leading {
        since: Instant::now(),
    }
}

impl Bench {
    /// An engine that leads, with complete lists and nothing in them.
    pub(super) async fn new() -> Self {
        let mut bench = Self::unlisted(leading());
        bench.list().await;
        bench
    }

    pub(super) fn unlisted(state: LeaderState) -> Self {
        let (played, clock) = (
            Played::default(),
            Arc::new(SettableClock::new(NOON.parse().unwrap())),
        );
        let book = Arc::new(Book::new("starting"));
        let (wishes, metrics) = (Wishes::default(), EngineMetrics::default());
        let (refused_sender, refused) = mpsc::channel(8);
        let out = EngineOutputs {
            book: Arc::clone(&book),
            wishes: wishes.clone(),
            refused: refused_sender,
            ready: None,
            metrics: metrics.clone(),
        };
        let (apps, apps_receiver) = mpsc::channel(20_000);
        let (workloads, workloads_receiver) = mpsc::channel(20_000);
        let (leadership, leadership_receiver) = watch::channel(state);
        let (mirror, mirror_receiver) = mpsc::channel(8);
        let (written, written_receiver) = mpsc::unbounded_channel();
        let inputs = EngineInputs {
            apps: apps_receiver,
            workloads: workloads_receiver,
            leadership: leadership_receiver,
            mirror: mirror_receiver,
            written: written_receiver,
        };
        let stop = CancellationToken::new();
        let engine = Engine::new(played.clone(), Arc::clone(&clock) as Arc<dyn Clock>, out);
        tokio::spawn(engine.run(inputs, stop.clone()));
        Self {
            played,
            clock,
            book,
            wishes,
            metrics,
            leadership,
            mirror,
            written,
            refused,
            apps,
            workloads,
            version: 1,
            _stop: stop.drop_guard(),
        }
    }

    pub(super) async fn list(&mut self) {
        self.apps.send(AppEvent::Listed).await.unwrap();
        self.workloads.send(Seen::Listed).await.unwrap();
        self.settle().await;
    }

    /// Lets everything happen that is going to happen now.
    pub(super) async fn settle(&self) {
        // Time only moves when no task can run.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }

    pub(super) async fn pass(&self, time: Duration) {
        tokio::time::sleep(time).await;
        self.settle().await;
    }

    /// An app `ns/<name>` with one function.
    pub(super) async fn app(&self, name: &str, binding: Value, extra: Value) {
        self.send_app(name, binding, extra).await;
        self.settle().await;
    }

    pub(super) async fn send_app(&self, name: &str, mut binding: Value, extra: Value) {
        binding["direction"] = "in".into();
        let mut spec = json!({
            "image": "i",
            "functions": [{"name": "f", "bindings": [binding]}],
        });
        for (field, value) in extra.as_object().unwrap() {
            spec[field] = value.clone();
        }
        let mut settings = ResolvedSettings::default();
        settings.set(
            "AzureWebJobsStorage",
            Secret::new("AccountName=a;AccountKey=a2V5"),
        );
        let key = AppKey::new("ns", name);
        let plan = translate(&key, 1, &serde_json::from_value(spec).unwrap(), &settings).unwrap();
        let event = apps::AppEvent::Planned(key, Arc::new(plan));
        self.apps.send(event).await.unwrap();
    }

    pub(super) async fn app_gone(&self, name: &str) {
        self.apps
            .send(AppEvent::Gone(AppKey::new("ns", name)))
            .await
            .unwrap();
        self.settle().await;
    }

    /// An app with a function for a queue of the app's name.
    pub(super) async fn queue_app(&self, name: &str, extra: Value) {
        let binding = json!({"type": "queueTrigger", "queueName": name});
        self.app(name, binding, extra).await;
    }

    /// The Deployment of the group of an app.
    pub(super) async fn deployment(&mut self, app: &str, replicas: u32, ready: u32) {
        self.driven(app, replicas, ready, "keda").await;
    }

    pub(super) async fn driven(&mut self, app: &str, replicas: u32, ready: u32, driver: &str) {
        self.send_deployment(app, replicas, ready, driver).await;
        self.settle().await;
    }

    pub(super) async fn send_deployment(
        &mut self,
        app: &str,
        replicas: u32,
        ready: u32,
        driver: &str,
    ) {
        self.version += 1;
        let deployment = json!({
            "metadata": {
                "namespace": "ns", "name": workload(app).name.as_ref(),
                "labels": {"maniple.dev/app": app}, "annotations": {"maniple.dev/driver": driver},
                "resourceVersion": self.version.to_string(),
            },
            "spec": {"replicas": replicas, "selector": {}, "template": {}},
            "status": {"readyReplicas": ready},
        });
        let deployment = serde_json::from_value(deployment).unwrap();
        self.workloads
            .send(Seen::Object(Box::new(deployment)))
            .await
            .unwrap();
    }

    /// Messages in a queue.
    pub(super) async fn messages(&self, queue: &str, backlog: u64) {
        let reading = QueueReading {
            backlog,
            approximate: backlog,
            note: None,
        };
        self.put_queue(queue, Ok(reading)).await;
    }

    pub(super) async fn queue_fails(&self, queue: &str, category: &'static str) {
        self.put_queue(queue, Err(category)).await;
    }

    async fn put_queue(&self, queue: &str, result: Result<QueueReading, &'static str>) {
        put(&self.played.queues.lock()[queue], result);
        self.settle().await;
    }

    /// The status blob of the timer `f`; `None`: there is none.
    pub(super) async fn status(&self, blob: Option<Value>) {
        let status = match blob {
            None => TimerStatus::Missing,
            Some(blob) => TimerStatus::Present {
                content: blob.to_string().into_bytes().into(),
                etag: "e".into(),
            },
        };
        put(&self.played.timers.lock()["f"], Ok(status));
        self.settle().await;
    }

    pub(super) async fn status_fails(&self) {
        put(&self.played.timers.lock()["f"], Err("unreachable"));
        self.settle().await;
    }

    pub(super) fn answer(&self, app: &str) -> Answer {
        self.book.answer(&GroupRef {
            namespace: "ns".into(),
            app: app.into(),
            group: GroupName::Function("f".into()),
        })
    }

    /// The number that is answered; `None` when there is none.
    pub(super) fn desired(&self, app: &str) -> Option<u32> {
        match self.answer(app) {
            Answer::Known { desired, .. } => Some(desired),
            _ => None,
        }
    }

    pub(super) fn report(&self, app: &str) -> GroupReport {
        let mut report = self.book.report(&AppKey::new("ns", app)).unwrap();
        report.groups.remove(0)
    }

    pub(super) fn clock_now(&self) -> Timestamp {
        self.clock.now().wall
    }

    pub(super) fn computations(&self) -> u64 {
        self.metrics.computations.get()
    }
}

pub(super) fn workload(app: &str) -> WorkloadKey {
    let group = GroupName::Function("f".into());
    WorkloadKey::new("ns", maniple_crds::names::group_object(app, &group))
}

pub(super) fn group(app: &str) -> GroupKey {
    GroupKey::from_text(AppKey::new("ns", app), "function:f")
}

/// A read as the poller makes it: a repeated equal outcome only moves its time.
fn put<R: Clone + PartialEq>(sender: &Channel<R>, result: Result<R, &'static str>) {
    let at = Instant::now().into_std();
    sender.send_if_modified(|present| {
        let outcome = match &result {
            Ok(reading) => Outcome::Read(reading.clone()),
            Err(category) => Outcome::Failed(SourceError {
                category,
                message: format!("queue of account a: {category}"),
                transient: true,
            }),
        };
        let changed = outcome != present.outcome;
        let last_ok = match result {
            Ok(reading) => Some(LastRead { reading, at }),
            Err(_) => present.last_ok.clone(),
        };
        *present = Arc::new(Observation {
            outcome,
            at,
            last_ok,
        });
        changed
    });
}
