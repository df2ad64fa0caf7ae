//! Replicas with real streams over a cluster that is played.

use crate::grpc::{SlotsArgs, SlotsServer};
use crate::index::{AppKey, ResolvedSettings, Seen, translate};
use crate::slots::wire::{Heard, decode_from_data_role, encode_from_front_end};
use crate::slots::{
    Cluster, DemandEvent, GroupView, PlanEvent, PodError, PodName, PodStreams, Record, RecordStore,
    SlotsError, SlotsInputs, SlotsRole, SlotsService, StoreError, Wanted,
};
use k8s_openapi::api::core::v1::Pod;
use maniple_core::slots::data_role::Settings;
use maniple_core::slots::message::{
    DataRoleSays, Epoch, FrontEndId, FrontEndPod, FrontEndSays, GroupDemand, GroupId, Header,
    HeldSlots, Hello, InstanceUid, MemberRecord, Seq, Session, Sync, ToDataRole, ToFrontEnd,
};
use maniple_proto::slots::slots_client::SlotsClient;
use maniple_proto::slots::{FromDataRole, FromFrontEnd};
use maniple_runtime::LeaderState;
use parking_lot::Mutex;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::Streaming;
use tonic::service::Routes;

pub(super) const GROUP: &str = "ns/shop/http";

/// A slow machine needs this long; a healthy one milliseconds.
pub(super) async fn soon<T>(what: &str, work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), work)
        .await
        .unwrap_or_else(|_| panic!("waited for {what}"))
}

#[derive(Default)]
pub(super) struct Played {
    pub(super) record: Record,
    version: u64,
    /// Writes that somebody else overtakes.
    pub(super) conflicts: u32,
    pods: BTreeMap<PodName, Pod>,
    watchers: Vec<mpsc::Sender<Seen<Pod>>>,
    /// Never told anything, but open.
    front_ends: Vec<mpsc::Sender<Seen<Pod>>>,
    pub(super) claims: BTreeMap<String, u64>,
    pub(super) marked: BTreeSet<String>,
    pub(super) lowered: BTreeSet<String>,
}

/// A cluster that is played.
#[derive(Clone, Default)]
pub(super) struct Fake(pub(super) Arc<Mutex<Played>>);

impl RecordStore for Fake {
    type Version = u64;

    async fn read(&self) -> Result<(Record, u64), StoreError> {
        let played = self.0.lock();
        Ok((played.record.clone(), played.version))
    }

    async fn write(&self, record: &Record, version: &u64) -> Result<(), StoreError> {
        let mut played = self.0.lock();
        if played.conflicts > 0 {
            played.conflicts -= 1;
            played.version += 1;
        }
        if played.version != *version {
            return Err(StoreError::Conflict);
        }
        played.version += 1;
        played.record = record.clone();
        Ok(())
    }
}

impl Cluster for Fake {
    fn watch(&self, _stop: CancellationToken) -> PodStreams {
        let mut played = self.0.lock();
        let (sender, instances) = mpsc::channel(1024);
        for pod in played.pods.values() {
            let seen = Seen::Object(Box::new(pod.clone()));
            sender.try_send(seen).unwrap();
        }
        sender.try_send(Seen::Listed).unwrap();
        played.watchers.push(sender);
        let (sender, front_ends) = mpsc::channel(8);
        sender.try_send(Seen::Listed).unwrap();
        played.front_ends.push(sender);
        PodStreams {
            instances,
            front_ends,
        }
    }

    async fn claim(&self, pod: &PodName, epoch: Epoch) -> Result<Epoch, PodError> {
        let mut played = self.0.lock();
        Ok(Epoch(
            *played.claims.entry(pod.name.clone()).or_insert(epoch.0),
        ))
    }

    async fn mark_drain(&self, pod: &PodName, _epoch: Epoch) -> Result<(), PodError> {
        self.0.lock().marked.insert(pod.name.clone());
        Ok(())
    }

    async fn lower_cost(&self, pod: &PodName) -> Result<(), PodError> {
        self.0.lock().lowered.insert(pod.name.clone());
        Ok(())
    }

    async fn list(&self) -> Result<BTreeSet<InstanceUid>, PodError> {
        let played = self.0.lock();
        let uids = played.pods.values().filter_map(crate::slots::pods::uid_of);
        Ok(uids.map(InstanceUid).collect())
    }
}

impl Fake {
    /// The pod of the front ends 7 and 8, with this status.
    pub(super) fn front_end(&self, status: serde_json::Value) {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"namespace": "maniple", "name": "front", "uid": format!("{:08x}-0000-0000-0000-000000000000", 9)},
            "status": status,
        }))
        .unwrap();
        for watcher in &self.0.lock().front_ends {
            let _ = watcher.try_send(Seen::Object(Box::new(pod.clone())));
        }
    }

    /// The instance `number`, ready, with what was written on it.
    pub(super) fn instance(&self, number: u8) {
        let mut played = self.0.lock();
        let name = format!("shop-http-{number}");
        let mut annotations = serde_json::Map::new();
        if let Some(claim) = played.claims.get(&name) {
            annotations.insert("maniple.dev/slots-claim".into(), claim.to_string().into());
        }
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {
                "namespace": "ns", "name": name, "uid": format!("{number:08x}-0000-0000-0000-000000000000"),
                "labels": {"maniple.dev/app": "shop", "maniple.dev/group": "http"},
                "annotations": annotations,
                "creationTimestamp": format!("2026-01-01T00:00:{number:02}Z"),
            },
            "status": {"phase": "Running", "podIP": format!("10.0.0.{number}"),
                "conditions": [{"type": "Ready", "status": "True"}]},
        }))
        .unwrap();
        let key = PodName {
            namespace: "ns".into(),
            name,
        };
        played.pods.insert(key, pod.clone());
        for watcher in &played.watchers {
            let _ = watcher.try_send(Seen::Object(Box::new(pod.clone())));
        }
    }
}

pub(super) fn uid(number: u8) -> InstanceUid {
    InstanceUid(u128::from(number) << 96)
}

/// One scaler, as far as slots go.
pub(super) struct Replica {
    pub(super) leadership: watch::Sender<LeaderState>,
    pub(super) wanted: mpsc::UnboundedSender<Wanted>,
    pub(super) demand: mpsc::UnboundedReceiver<DemandEvent>,
    pub(super) run: JoinHandle<Result<(), SlotsError>>,
    address: SocketAddr,
    _plans: mpsc::UnboundedSender<PlanEvent>,
    _stop: DropGuard,
}

impl Replica {
    /// A standby that knows the app `ns/shop`, of which an instance gets one request at a time.
    pub(super) async fn start(cluster: &Fake) -> Self {
        let (leadership, leadership_receiver) =
            watch::channel(LeaderState::Following { holder: None });
        let (wanted, wanted_receiver) = mpsc::unbounded_channel();
        let (demand_sender, demand) = mpsc::unbounded_channel();
        let (plans, plans_receiver) = mpsc::unbounded_channel();
        let (streams_sender, streams) = mpsc::unbounded_channel();
        let spec = json!({
            "image": "i",
            "functions": [{"name": "f", "bindings": [{"type": "httpTrigger", "direction": "in"}]}],
            "functionAppConfig": {"scaleAndConcurrency": {"triggers": {"http": {"perInstanceConcurrency": 1}}}},
        });
        let app = AppKey::new("ns", "shop");
        let settings = ResolvedSettings::default();
        let spec = serde_json::from_value(spec).unwrap();
        let plan = translate(&app, 1, &spec, &settings).unwrap();
        plans.send(PlanEvent::Planned(app, Arc::new(plan))).unwrap();
        plans.send(PlanEvent::Listed).unwrap();
        let stop = CancellationToken::new();
        let role = SlotsRole::new(
            cluster.clone(),
            Settings::default(),
            "apps.test",
            demand_sender,
        );
        let inputs = SlotsInputs {
            streams,
            plans: plans_receiver,
            wanted: wanted_receiver,
            leadership: leadership_receiver,
        };
        let run = tokio::spawn(role.run(inputs, stop.clone()));
        let args = SlotsArgs {
            slots_address: Some("127.0.0.1:0".parse().unwrap()),
            slots_insecure: true,
            ..SlotsArgs::default()
        };
        let server = SlotsServer::bind(&args).await.unwrap().unwrap();
        let address = server.local_address().unwrap();
        let service = SlotsService::new(streams_sender, stop.clone());
        tokio::spawn(server.serve(Routes::new(service.into_server()), stop.clone()));
        Self {
            leadership,
            wanted,
            demand,
            run,
            address,
            _plans: plans,
            _stop: stop.drop_guard(),
        }
    }

    pub(super) fn lead(&self) {
        let since = tokio::time::Instant::now();
        self.leadership.send_replace(LeaderState::Leading { since });
    }

    /// Waits for a view of the group.
    pub(super) async fn until(&mut self, what: &str, is: impl Fn(&GroupView) -> bool) -> GroupView {
        let found = async {
            loop {
                match self.demand.recv().await {
                    Some(DemandEvent::Group(_, view)) if is(&view) => return view,
                    Some(_) => {}
                    None => panic!("the data role ended before: {what}"),
                }
            }
        };
        soon(what, found).await
    }
}

/// A front end that follows a script.
pub(super) struct Scripted {
    id: u128,
    pub(super) epoch: Epoch,
    session: u64,
    seq: u64,
    heard: Seq,
    say: mpsc::UnboundedSender<FromFrontEnd>,
    hear: Streaming<FromDataRole>,
}

impl Scripted {
    /// Opens a stream. `session` is that of the Hello that follows.
    pub(super) async fn open(replica: &Replica, id: u128, session: u64) -> Self {
        let url = format!("http://{}", replica.address);
        let mut client = SlotsClient::connect(url).await.unwrap();
        let (say, said) = mpsc::unbounded_channel();
        let said = UnboundedReceiverStream::new(said);
        let hear = soon("the stream", client.join(said)).await.unwrap();
        Self {
            id,
            epoch: Epoch(0),
            session,
            seq: 0,
            heard: Seq(0),
            say,
            hear: hear.into_inner(),
        }
    }

    pub(super) async fn next(&mut self) -> Option<Heard> {
        let message = soon("a message of the data role", self.hear.message()).await;
        let heard = message.ok()??;
        let heard = decode_from_data_role(heard).unwrap();
        if let Heard::Slots(ToFrontEnd { header, .. }) = &heard {
            self.epoch = header.epoch;
            self.heard = header.seq;
        }
        Some(heard)
    }

    /// Skips messages until this one.
    pub(super) async fn until(&mut self, is: impl Fn(&DataRoleSays) -> bool) -> DataRoleSays {
        loop {
            match self.next().await.expect("the stream goes on") {
                Heard::Slots(message) if is(&message.body) => return message.body,
                _ => {}
            }
        }
    }

    fn send(&mut self, body: FrontEndSays) {
        self.seq += 1;
        let header = Header {
            epoch: self.epoch,
            session: Session(self.session),
            seq: Seq(self.seq),
            ack: self.heard,
        };
        let message = encode_from_front_end(&ToDataRole { header, body });
        self.say.send(message).unwrap();
    }

    /// Waits for the Lead and answers it.
    pub(super) async fn hello(&mut self, held: &[(InstanceUid, u16)], waiting: u32) {
        self.until(|said| matches!(said, DataRoleSays::Lead { .. }))
            .await;
        self.heard = Seq(0);
        let slots = held.iter().map(|(uid, held)| HeldSlots {
            uid: *uid,
            held: *held,
            busy: *held,
        });
        let busy: u32 = held.iter().map(|(_, held)| u32::from(*held)).sum();
        let hello = Hello {
            member: MemberRecord {
                id: FrontEndId(self.id),
                pod: FrontEndPod {
                    uid: self.id,
                    restarts: 0,
                },
            },
            features: 0,
            slots: slots.collect(),
            demand: demand(waiting, busy),
        };
        self.send(FrontEndSays::Hello(hello));
    }

    pub(super) fn sync(
        &mut self,
        waiting: u32,
        busy: u32,
        released: Vec<(maniple_core::slots::message::Handle, u16)>,
    ) {
        self.send(FrontEndSays::Sync(Sync {
            released,
            demand: demand(waiting, busy),
            shed: Vec::new(),
        }));
    }
}

fn demand(waiting: u32, busy: u32) -> Vec<GroupDemand> {
    vec![GroupDemand {
        group: GroupId::new(GROUP),
        waiting,
        busy,
        oldest_wait_ms: 0,
        samples: vec![waiting + busy],
    }]
}
