//! A cluster with one Deployment, its ReplicaSet and the watches on both, each as late as chance wants it.

use crate::index::{Seen, WorkloadKey};
use crate::native::{ScaleWriter, WriteError, WrittenScale};
use crate::slots::{Cluster, PodError, PodName, PodStreams, Record, RecordStore, StoreError};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use maniple_core::slots::message::{Epoch, InstanceUid};
use parking_lot::Mutex;
use serde_json::json;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

#[derive(Clone, Debug, Default)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is a fact of its own that Kubernetes shows"
)]
struct PlayedPod {
    number: u32,
    ready: bool,
    terminating: bool,
    claim: Option<u64>,
    marked: bool,
    lowered: bool,
}

#[derive(Default)]
struct State {
    record: Record,
    version: u64,
    replicas: u32,
    /// Pods above the count while a new version comes.
    surge: u32,
    made: u32,
    marks: u32,
    pods: BTreeMap<String, PlayedPod>,
    writes: Vec<(Instant, u32)>,
    /// When writes were asked for.
    asked: Vec<Instant>,
    /// Instances that the ReplicaSet took, and whether they had been emptied for it.
    taken: Vec<(InstanceUid, bool)>,
}

/// The cluster. Clones share it.
#[derive(Clone)]
pub(super) struct Simulated {
    state: Arc<Mutex<State>>,
    random: Arc<Mutex<fastrand::Rng>>,
    reconcile: Arc<Notify>,
    pods: mpsc::UnboundedSender<String>,
    watch: Arc<Mutex<Option<mpsc::UnboundedReceiver<String>>>>,
    deployments: mpsc::Sender<Seen<Deployment>>,
    pub(super) workload: WorkloadKey,
}

fn uid(number: u32) -> InstanceUid {
    InstanceUid(u128::from(number) << 96)
}

impl Simulated {
    /// Tells `deployments` of its Deployment.
    pub(super) fn start(
        seed: u64,
        workload: WorkloadKey,
        deployments: mpsc::Sender<Seen<Deployment>>,
    ) -> Self {
        let (pods, watch) = mpsc::unbounded_channel();
        let cluster = Self {
            state: Arc::default(),
            random: Arc::new(Mutex::new(fastrand::Rng::with_seed(seed))),
            reconcile: Arc::default(),
            pods,
            watch: Arc::new(Mutex::new(Some(watch))),
            deployments,
            workload,
        };
        tokio::spawn(cluster.clone().replica_set());
        cluster.tell_deployment();
        cluster
    }

    pub(super) fn replicas(&self) -> u32 {
        self.state.lock().replicas
    }

    /// Counts that were written, and when.
    pub(super) fn writes(&self) -> Vec<(Instant, u32)> {
        self.state.lock().writes.clone()
    }

    /// When the last write was asked for.
    pub(super) fn last_asked(&self) -> Option<Instant> {
        self.state.lock().asked.last().copied()
    }

    pub(super) fn taken(&self) -> Vec<(InstanceUid, bool)> {
        self.state.lock().taken.clone()
    }

    pub(super) fn live(&self) -> usize {
        let state = self.state.lock();
        state.pods.values().filter(|pod| !pod.terminating).count()
    }

    /// Instances that were told to get nothing new.
    pub(super) fn marks(&self) -> u32 {
        self.state.lock().marks
    }

    /// Replaces every pod by a new one, one above the count at a time.
    pub(super) async fn roll(&self) {
        let old: Vec<String> = {
            let mut state = self.state.lock();
            state.surge = 1;
            state.pods.keys().cloned().collect()
        };
        for name in old {
            self.reconcile.notify_one();
            let ready = |state: &State| {
                let ready = state.pods.values().filter(|p| p.ready && !p.terminating);
                ready.count() as u32 > state.replicas
            };
            while !ready(&self.state.lock()) {
                sleep(Duration::from_millis(10)).await;
            }
            sleep(self.chance(0..3_000)).await;
            if let Some(pod) = self.state.lock().pods.get_mut(&name) {
                pod.terminating = true;
            }
            self.changed(&name);
            sleep(self.chance(50..2_000)).await;
            self.state.lock().pods.remove(&name);
            self.changed(&name);
        }
        self.state.lock().surge = 0;
    }

    fn chance(&self, milliseconds: Range<u64>) -> Duration {
        Duration::from_millis(self.random.lock().u64(milliseconds))
    }

    fn tell_deployment(&self) {
        let (this, late) = (self.clone(), self.chance(1..60));
        tokio::spawn(async move {
            sleep(late).await;
            let deployment = {
                let state = this.state.lock();
                let ready = state.pods.values().filter(|pod| pod.ready).count();
                json!({
                    "metadata": {
                        "namespace": "ns", "name": this.workload.name.as_ref(),
                        "labels": {"maniple.dev/app": "shop"}, "annotations": {"maniple.dev/driver": "native"},
                        "resourceVersion": state.version.to_string(),
                    },
                    "spec": {"replicas": state.replicas, "selector": {}, "template": {}},
                    "status": {"readyReplicas": ready},
                })
            };
            let deployment = serde_json::from_value(deployment).unwrap();
            let _ = this
                .deployments
                .send(Seen::Object(Box::new(deployment)))
                .await;
        });
    }

    fn changed(&self, name: &str) {
        let _ = self.pods.send(name.to_owned());
    }

    /// Brings the pods to the count, one after the other, as a ReplicaSet does.
    async fn replica_set(self) {
        loop {
            self.reconcile.notified().await;
            sleep(self.chance(5..300)).await;
            let (missing, surplus) = {
                let state = self.state.lock();
                let mut active: Vec<_> =
                    state.pods.iter().filter(|(_, p)| !p.terminating).collect();
                active.sort_by_key(|(_, p)| (p.ready, !p.lowered, Reverse(p.number)));
                let over = active
                    .len()
                    .saturating_sub((state.replicas + state.surge) as usize);
                let surplus: Vec<_> = active
                    .iter()
                    .take(over)
                    .map(|(n, _)| (*n).clone())
                    .collect();
                let wanted = state.replicas + state.surge;
                (wanted.saturating_sub(active.len() as u32), surplus)
            };
            for _ in 0..missing {
                self.make();
                sleep(self.chance(1..20)).await;
            }
            for name in surplus {
                {
                    let mut state = self.state.lock();
                    let pod = state.pods.get_mut(&name).unwrap();
                    pod.terminating = true;
                    let taken = (uid(pod.number), pod.lowered || !pod.ready);
                    state.taken.push(taken);
                }
                self.changed(&name);
                let this = self.clone();
                tokio::spawn(async move {
                    sleep(this.chance(50..2_000)).await;
                    this.state.lock().pods.remove(&name);
                    this.changed(&name);
                });
                sleep(self.chance(1..40)).await;
            }
            self.tell_deployment();
        }
    }

    fn make(&self) {
        let name = {
            let mut state = self.state.lock();
            state.made += 1;
            let (number, name) = (state.made, format!("shop-http-{}", state.made));
            let pod = PlayedPod {
                number,
                ..PlayedPod::default()
            };
            state.pods.insert(name.clone(), pod);
            name
        };
        self.changed(&name);
        let this = self.clone();
        tokio::spawn(async move {
            sleep(this.chance(100..900)).await;
            if let Some(pod) = this.state.lock().pods.get_mut(&name) {
                pod.ready = !pod.terminating;
            }
            this.changed(&name);
            this.tell_deployment();
        });
    }

    fn seen(&self, name: &str) -> Seen<Pod> {
        let state = self.state.lock();
        let Some(pod) = state.pods.get(name) else {
            return Seen::Gone {
                namespace: "ns".into(),
                name: name.into(),
            };
        };
        let mut annotations = serde_json::Map::new();
        if let Some(claim) = pod.claim {
            annotations.insert("maniple.dev/slots-claim".into(), claim.to_string().into());
        }
        if pod.marked {
            annotations.insert("maniple.dev/slots-drain".into(), "1".into());
        }
        let second = pod.number % 60;
        let mut json = json!({
            "metadata": {
                "namespace": "ns", "name": name, "uid": format!("{:08x}-0000-0000-0000-000000000000", pod.number),
                "labels": {"maniple.dev/app": "shop", "maniple.dev/group": "http"},
                "annotations": annotations,
                "creationTimestamp": format!("2026-01-01T00:{:02}:{second:02}Z", pod.number / 60),
            },
            "status": {"phase": "Running", "conditions": [
                {"type": "Ready", "status": if pod.ready { "True" } else { "False" }}
            ]},
        });
        if pod.ready {
            json["status"]["podIP"] =
                format!("10.0.{}.{}", pod.number / 250, pod.number % 250).into();
        }
        if pod.terminating {
            json["metadata"]["deletionTimestamp"] = "2026-01-01T01:00:00Z".into();
        }
        Seen::Object(Box::new(serde_json::from_value(json).unwrap()))
    }

    async fn annotate<T>(
        &self,
        pod: &PodName,
        change: impl FnOnce(&mut PlayedPod) -> T,
    ) -> Result<T, PodError> {
        sleep(self.chance(2..40)).await;
        let done = match self.state.lock().pods.get_mut(&pod.name) {
            Some(pod) => change(pod),
            None => return Err(PodError::Gone),
        };
        self.changed(&pod.name);
        sleep(self.chance(1..20)).await;
        Ok(done)
    }
}

impl ScaleWriter for Simulated {
    async fn write(&self, _: &WorkloadKey, replicas: u32) -> Result<WrittenScale, WriteError> {
        self.state.lock().asked.push(Instant::now());
        sleep(self.chance(2..40)).await;
        let version = {
            let mut state = self.state.lock();
            state.version += 1;
            state.replicas = replicas;
            state.writes.push((Instant::now(), replicas));
            state.version
        };
        self.reconcile.notify_one();
        self.tell_deployment();
        sleep(self.chance(1..200)).await;
        Ok(WrittenScale {
            replicas,
            version: Some(version),
        })
    }
}

impl RecordStore for Simulated {
    type Version = Record;

    async fn read(&self) -> Result<(Record, Record), StoreError> {
        sleep(self.chance(1..10)).await;
        let record = self.state.lock().record.clone();
        Ok((record.clone(), record))
    }

    async fn write(&self, record: &Record, version: &Record) -> Result<(), StoreError> {
        sleep(self.chance(1..20)).await;
        let mut state = self.state.lock();
        if state.record != *version {
            return Err(StoreError::Conflict);
        }
        state.record = record.clone();
        Ok(())
    }
}

impl Cluster for Simulated {
    fn watch(&self, _stop: CancellationToken) -> PodStreams {
        let (instances_sender, instances) = mpsc::channel(1024);
        let (front_ends_sender, front_ends) = mpsc::channel(8);
        let mut changes = self.watch.lock().take().expect("watched once");
        let this = self.clone();
        tokio::spawn(async move {
            instances_sender.send(Seen::Listed).await.unwrap();
            front_ends_sender.send(Seen::Listed).await.unwrap();
            while let Some(name) = changes.recv().await {
                sleep(this.chance(1..25)).await;
                if instances_sender.send(this.seen(&name)).await.is_err() {
                    return;
                }
            }
            drop(front_ends_sender);
        });
        PodStreams {
            instances,
            front_ends,
        }
    }

    async fn claim(&self, pod: &PodName, epoch: Epoch) -> Result<Epoch, PodError> {
        self.annotate(pod, |pod| Epoch(*pod.claim.get_or_insert(epoch.0)))
            .await
    }

    async fn mark_drain(&self, pod: &PodName, _: Epoch) -> Result<(), PodError> {
        self.state.lock().marks += 1;
        self.annotate(pod, |pod| pod.marked = true).await
    }

    async fn lower_cost(&self, pod: &PodName) -> Result<(), PodError> {
        self.annotate(pod, |pod| pod.lowered = true).await
    }

    async fn list(&self) -> Result<BTreeSet<InstanceUid>, PodError> {
        let state = self.state.lock();
        Ok(state.pods.values().map(|pod| uid(pod.number)).collect())
    }
}
