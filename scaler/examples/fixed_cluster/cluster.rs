//! A cluster in memory whose pods never change.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use k8s_openapi::api::core::v1::Pod;
use maniple_core::slots::message::{Epoch, InstanceUid};
use maniple_crds::names;
use maniple_scaler::{
    index::Seen,
    slots::{Cluster, PodError, PodName, PodStreams, Record, RecordStore, StoreError},
};
use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

#[derive(Default)]
struct State {
    record: Record,
    version: u64,
    pods: Vec<Pod>,
    claims: BTreeMap<PodName, Epoch>,
    /// Open for as long as the process runs.
    watchers: Vec<mpsc::Sender<Seen<Pod>>>,
}

/// The cluster.
#[derive(Clone, Default)]
pub(crate) struct FixedCluster(Arc<Mutex<State>>);

impl FixedCluster {
    pub(crate) fn new(pods: Vec<Pod>) -> Self {
        Self(Arc::new(Mutex::new(State {
            pods,
            ..State::default()
        })))
    }
}

/// The ready instance `number` of the HTTP group of an app.
pub(crate) fn pod(
    namespace: &str,
    app: &str,
    number: usize,
    ip: IpAddr,
) -> serde_json::Result<Pod> {
    serde_json::from_value(json!({
        "metadata": {
            "namespace": namespace,
            "name": format!("{app}-http-{number}"),
            "uid": format!("{number:08x}-0000-0000-0000-000000000000"),
            "labels": {names::APP_LABEL: app, names::GROUP_LABEL: "http"},
            "creationTimestamp": "2026-01-01T00:00:00Z",
        },
        "status": {
            "phase": "Running",
            "podIP": ip.to_string(),
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }))
}

impl RecordStore for FixedCluster {
    type Version = u64;

    async fn read(&self) -> Result<(Record, u64), StoreError> {
        let state = self.0.lock();
        Ok((state.record.clone(), state.version))
    }

    async fn write(&self, record: &Record, version: &u64) -> Result<(), StoreError> {
        let mut state = self.0.lock();
        if state.version != *version {
            return Err(StoreError::Conflict);
        }
        state.version += 1;
        state.record = record.clone();
        Ok(())
    }
}

impl Cluster for FixedCluster {
    fn watch(&self, _stop: CancellationToken) -> PodStreams {
        let mut state = self.0.lock();
        let (sender, instances) = mpsc::channel(state.pods.len() + 1);
        for pod in &state.pods {
            let seen = Seen::Object(Box::new(pod.clone()));
            sender.try_send(seen).expect("there is room for every pod");
        }
        sender
            .try_send(Seen::Listed)
            .expect("there is room after every pod");
        // Front ends are no pods here.
        let (none, front_ends) = mpsc::channel(1);
        none.try_send(Seen::Listed).expect("the channel is empty");
        state.watchers.extend([sender, none]);
        PodStreams {
            instances,
            front_ends,
        }
    }

    async fn claim(&self, pod: &PodName, epoch: Epoch) -> Result<Epoch, PodError> {
        Ok(*self.0.lock().claims.entry(pod.clone()).or_insert(epoch))
    }

    async fn mark_drain(&self, _pod: &PodName, _epoch: Epoch) -> Result<(), PodError> {
        Ok(())
    }

    async fn lower_cost(&self, _pod: &PodName) -> Result<(), PodError> {
        Ok(())
    }

    async fn list(&self) -> Result<BTreeSet<InstanceUid>, PodError> {
        let state = self.0.lock();
        let uids = state.pods.iter().filter_map(|pod| {
            let digits = pod.metadata.uid.as_deref()?.replace('-', "");
            u128::from_str_radix(&digits, 16).ok()
        });
        Ok(uids.map(InstanceUid).collect())
    }
}
