//! Engine, data role and writes together: an HTTP group that follows its requests over a played cluster.

use super::super::*;
use super::bench::{NOON, Played, leading};
use super::cluster::Simulated;
use crate::clock::SettableClock;
use crate::index::{ResolvedSettings, translate};
use crate::slots::wire::{Heard, decode_from_data_role};
use crate::slots::{ConnectionId, PlanEvent, SlotsInputs, SlotsRole, StreamEvent};
use maniple_core::slots::data_role::Settings;
use maniple_core::slots::message::{
    DataRoleSays, Epoch, FrontEndId, FrontEndPod, FrontEndSays, GroupDemand, GroupId, Handle,
    Header, Hello, InstanceUid, MemberRecord, Seq, Session, Sync, ToDataRole, ToFrontEnd,
};
use maniple_proto::slots::FromDataRole;
use parking_lot::Mutex;
use serde_json::json;
use std::collections::BTreeMap;
use tokio::time::{interval, sleep};

/// How often the front end looks at its requests.
const TURN: Duration = Duration::from_millis(10);

/// A front end in which as many requests run or wait as it is told.
struct Front {
    say: mpsc::UnboundedSender<StreamEvent>,
    hear: mpsc::UnboundedReceiver<FromDataRole>,
    requests: watch::Receiver<u32>,
    running: Arc<Mutex<BTreeMap<InstanceUid, u32>>>,
    epoch: Epoch,
    seq: u64,
    heard: Seq,
    names: HashMap<Handle, InstanceUid>,
    held: BTreeMap<Handle, u32>,
    draining: HashSet<Handle>,
    told: (u32, u32),
}

impl Front {
    async fn run(mut self) {
        let mut turn = interval(TURN);
        loop {
            tokio::select! {
                message = self.hear.recv() => match message {
                    Some(message) => self.hear(message),
                    None => return,
                },
                _ = turn.tick() => self.turn(),
            }
        }
    }

    fn say(&mut self, body: FrontEndSays) {
        self.seq += 1;
        let header = Header {
            epoch: self.epoch,
            session: Session(1),
            seq: Seq(self.seq),
            ack: self.heard,
        };
        let message = ToDataRole { header, body };
        let id = ConnectionId(1);
        let _ = self.say.send(StreamEvent::Said { id, message });
    }

    fn hear(&mut self, message: FromDataRole) {
        let Heard::Slots(ToFrontEnd { header, body }) = decode_from_data_role(message).unwrap()
        else {
            return;
        };
        self.heard = header.seq;
        match body {
            DataRoleSays::Lead { .. } => {
                self.epoch = header.epoch;
                let pod = FrontEndPod {
                    uid: 1,
                    restarts: 0,
                };
                let id = FrontEndId(1);
                self.say(FrontEndSays::Hello(Hello {
                    member: MemberRecord { id, pod },
                    features: 0,
                    slots: Vec::new(),
                    demand: Vec::new(),
                }));
            }
            DataRoleSays::Instance(info) => drop(self.names.insert(info.handle, info.uid)),
            DataRoleSays::Gone { uid } => {
                let gone: Vec<_> = self
                    .names
                    .iter()
                    .filter(|(_, known)| **known == uid)
                    .collect();
                let gone: Vec<_> = gone.into_iter().map(|(handle, _)| *handle).collect();
                for handle in gone {
                    self.names.remove(&handle);
                    self.held.remove(&handle);
                }
            }
            DataRoleSays::Grant(slots) => {
                for (handle, count) in slots {
                    *self.held.entry(handle).or_default() += u32::from(count);
                }
                self.turn();
            }
            DataRoleSays::Drain { handle } => drop(self.draining.insert(handle)),
            _ => {}
        }
    }

    /// Requests end and begin; what is not needed goes back.
    fn turn(&mut self) {
        if self.epoch == Epoch(0) {
            return;
        }
        let mut left = *self.requests.borrow();
        let mut released = Vec::new();
        for (handle, held) in &mut self.held {
            let used = if self.draining.contains(handle) {
                0
            } else {
                left.min(*held)
            };
            left -= used;
            if *held > used {
                released.push((*handle, (*held - used) as u16));
                *held = used;
            }
        }
        self.held.retain(|_, held| *held > 0);
        let busy: u32 = self.held.values().sum();
        *self.running.lock() = self
            .held
            .iter()
            .map(|(handle, held)| (self.names[handle], *held))
            .collect();
        if released.is_empty() && self.told == (left, busy) {
            return;
        }
        self.told = (left, busy);
        let demand = GroupDemand {
            group: GroupId::new("ns/shop/http"),
            waiting: left,
            busy,
            oldest_wait_ms: 0,
            samples: vec![left + busy],
        };
        self.say(FrontEndSays::Sync(Sync {
            released,
            demand: vec![demand],
            shed: Vec::new(),
        }));
    }
}

/// Everything around one HTTP app whose instances get one request at a time.
struct Together {
    cluster: Simulated,
    requests: watch::Sender<u32>,
    running: Arc<Mutex<BTreeMap<InstanceUid, u32>>>,
    _stop: tokio_util::sync::DropGuard,
    _keep: Vec<Box<dyn std::any::Any>>,
}

impl Together {
    async fn start(seed: u64) -> Self {
        let spec = json!({
            "image": "i",
            "functions": [{"name": "f", "bindings": [{"type": "httpTrigger", "direction": "in"}]}],
            "functionAppConfig": {"scaleAndConcurrency": {
                "maximumInstanceCount": 40, "triggers": {"http": {"perInstanceConcurrency": 1}},
            }},
        });
        let app = AppKey::new("ns", "shop");
        let settings = ResolvedSettings::default();
        let spec = serde_json::from_value(spec).unwrap();
        let plan = Arc::new(translate(&app, 1, &spec, &settings).unwrap());
        let workload = plan.groups[0].workload.clone();

        let stop = CancellationToken::new();
        let (apps, apps_receiver) = mpsc::channel(8);
        let (workloads, workloads_receiver) = mpsc::channel(1024);
        let (leadership, leadership_receiver) = watch::channel(leading());
        let (mirror, mirror_receiver) = mpsc::channel(1);
        let (written, written_receiver) = mpsc::unbounded_channel();
        let cluster = Simulated::start(seed, workload, workloads.clone());
        let wishes = Wishes::default();
        let tell = move |outcome| drop(written.send(outcome));
        tokio::spawn(
            wishes
                .clone()
                .run(cluster.clone(), || true, tell, stop.clone()),
        );

        let (demand_sender, demand) = mpsc::unbounded_channel();
        let (wanted, wanted_receiver) = mpsc::unbounded_channel();
        let (plans, plans_receiver) = mpsc::unbounded_channel();
        let (streams, streams_receiver) = mpsc::unbounded_channel();
        let role = SlotsRole::new(
            cluster.clone(),
            Settings::default(),
            "apps.test",
            demand_sender,
        );
        let inputs = SlotsInputs {
            streams: streams_receiver,
            plans: plans_receiver,
            wanted: wanted_receiver,
            leadership: leadership_receiver.clone(),
        };
        tokio::spawn(role.run(inputs, stop.clone()));
        plans
            .send(PlanEvent::Planned(app.clone(), Arc::clone(&plan)))
            .unwrap();
        plans.send(PlanEvent::Listed).unwrap();

        let out = EngineOutputs {
            book: Arc::new(Book::new("starting")),
            wishes,
            refused: mpsc::channel(1).0,
            ready: None,
            metrics: EngineMetrics::default(),
        };
        let clock = Arc::new(SettableClock::new(NOON.parse().unwrap()));
        let engine =
            Engine::new(Played::default(), clock, out).with_slots(SlotsLink { demand, wanted });
        let inputs = EngineInputs {
            apps: apps_receiver,
            workloads: workloads_receiver,
            leadership: leadership_receiver,
            mirror: mirror_receiver,
            written: written_receiver,
        };
        tokio::spawn(engine.run(inputs, stop.clone()));
        apps.send(AppEvent::Planned(app, plan)).await.unwrap();
        apps.send(AppEvent::Listed).await.unwrap();
        workloads.send(Seen::Listed).await.unwrap();

        let (to, hear) = mpsc::unbounded_channel();
        let id = ConnectionId(1);
        streams.send(StreamEvent::Opened { id, to }).unwrap();
        let (requests, requests_receiver) = watch::channel(0);
        let running = Arc::default();
        let front = Front {
            say: streams,
            hear,
            requests: requests_receiver,
            running: Arc::clone(&running),
            epoch: Epoch(0),
            seq: 0,
            heard: Seq(0),
            names: HashMap::new(),
            held: BTreeMap::new(),
            draining: HashSet::new(),
            told: (0, 0),
        };
        tokio::spawn(front.run());
        Self {
            cluster,
            requests,
            running,
            _stop: stop.drop_guard(),
            _keep: vec![Box::new((apps, mirror, leadership, plans))],
        }
    }

    async fn until_served(&self, requests: u32) {
        let served = async {
            while self.running.lock().values().sum::<u32>() != requests {
                sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), served)
            .await
            .unwrap_or_else(|_| panic!("{requests} requests run: {:?}", self.cluster.writes()));
    }

    /// Waits until nothing has been written for as long as anything is held; the counts written meanwhile.
    async fn rest(&self) -> Vec<u32> {
        let before = self.cluster.writes().len();
        loop {
            let count = self.cluster.writes().len();
            sleep(Duration::from_secs(90)).await;
            let writes = self.cluster.writes();
            if writes.len() == count {
                return writes[before..].iter().map(|(_, count)| *count).collect();
            }
            assert!(writes.len() < before + 200, "it never rests: {writes:?}");
        }
    }

    fn assert_only_empty_ones_were_taken(&self) {
        for (uid, emptied) in self.cluster.taken() {
            assert!(emptied, "{uid:?} was taken although nobody emptied it");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn scale_in_goes_down_and_takes_what_was_emptied() {
    for seed in 0..6 {
        let together = Together::start(seed).await;
        together.requests.send_replace(9);
        together.until_served(9).await;
        together.rest().await;
        together.requests.send_replace(2);
        let writes = together.rest().await;
        assert_eq!(together.cluster.replicas(), 2, "seed {seed}");
        assert_eq!(together.cluster.live(), 2, "seed {seed}");
        let falling = writes
            .iter()
            .zip([9].iter().chain(&writes))
            .all(|(now, before)| now < before);
        assert!(falling, "seed {seed}: {writes:?}");
        assert_eq!(together.cluster.taken().len(), 7, "seed {seed}");
        together.assert_only_empty_ones_were_taken();
        together.until_served(2).await;
    }
}

#[tokio::test(start_paused = true)]
async fn whatever_the_requests_do_the_count_follows_and_nobody_is_cut_off() {
    for seed in 0..6 {
        let mut random = fastrand::Rng::with_seed(seed);
        let together = Together::start(seed).await;
        let mut last = 0;
        for _ in 0..12 {
            last = random.u32(0..25);
            together.requests.send_replace(last);
            if random.bool() {
                together.until_served(last).await;
            }
            sleep(Duration::from_millis(random.u64(1..50_000))).await;
        }
        together.until_served(last).await;
        let turns = together
            .rest()
            .await
            .windows(2)
            .fold((0, false), |(turns, falling), pair| {
                let falls = pair[1] < pair[0];
                (turns + u32::from(falling && !falls), falls)
            });
        assert!(turns.0 <= 1, "seed {seed}: {:?}", together.cluster.writes());
        assert_eq!(together.cluster.replicas(), last, "seed {seed}");
        assert_eq!(together.cluster.live() as u32, last, "seed {seed}");
        together.assert_only_empty_ones_were_taken();
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_on_the_way_from_the_first_request_to_the_write_waits_for_a_clock() {
    for seed in 0..6 {
        let together = Together::start(seed).await;
        together.rest().await;
        assert_eq!(together.cluster.replicas(), 0, "seed {seed}");
        // Time stands still while anything runs, so that only what waits for it takes any.
        let came = tokio::time::Instant::now();
        together.requests.send_replace(1);
        together.until_served(1).await;
        let took = together.cluster.last_asked().map(|asked| asked - came);
        assert!(
            took.is_some_and(|took| took <= TURN),
            "seed {seed}: {took:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_version_comes_without_anything_being_taken_away() {
    for seed in 0..4 {
        let together = Together::start(seed).await;
        together.requests.send_replace(5);
        together.until_served(5).await;
        together.rest().await;
        let before = together.cluster.writes();
        together.cluster.roll().await;
        together.until_served(5).await;
        assert_eq!(together.cluster.marks(), 0, "seed {seed}");
        assert_eq!(together.cluster.writes(), before, "seed {seed}");
        together.requests.send_replace(0);
        together.rest().await;
        assert_eq!(together.cluster.replicas(), 0, "seed {seed}");
    }
}
