//! What the data role does to the cluster, and what it sees of it.

use super::pods::{
    CLAIM_ANNOTATION, DELETION_COST_ANNOTATION, DRAIN_ANNOTATION, InstancePod, LOWEST_COST, PodName,
};
use super::record::{Record, RecordStore, StoreError};
use crate::index::{Seen, watch};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use maniple_core::slots::message::{Epoch, InstanceUid};
use maniple_crds::names;
use serde_json::json;
use std::collections::BTreeSet;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Annotation of the Lease that holds the record.
pub const RECORD_ANNOTATION: &str = "maniple.dev/data-role";
/// Name under which the scaler owns what it writes on pods.
const FIELD_MANAGER: &str = "maniple-scaler";
/// Events that wait.
const QUEUE: usize = 1024;
/// Pods in one page of a list.
const PAGE: u32 = 500;

/// Why a pod could not be written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PodError {
    /// There is no such pod any more.
    #[error("the pod is gone")]
    Gone,
    /// Everything else; it is tried again.
    #[error("the pod could not be read or written: {0}; it is tried again")]
    Failed(String),
}

/// The watched pods.
#[derive(Debug)]
pub struct PodStreams {
    /// Those of instances of HTTP groups.
    pub instances: mpsc::Receiver<Seen<Pod>>,
    /// Those of front ends.
    pub front_ends: mpsc::Receiver<Seen<Pod>>,
}

/// The cluster as the data role needs it.
pub trait Cluster: RecordStore {
    /// Watches pods from lists made after this call, until `stop` is cancelled.
    fn watch(&self, stop: CancellationToken) -> PodStreams;

    /// Writes the claim on a pod that has none; what stands there then.
    fn claim(
        &self,
        pod: &PodName,
        epoch: Epoch,
    ) -> impl Future<Output = Result<Epoch, PodError>> + Send;

    /// Writes the drain mark.
    fn mark_drain(
        &self,
        pod: &PodName,
        epoch: Epoch,
    ) -> impl Future<Output = Result<(), PodError>> + Send;

    /// Makes the pod the first one to go when the count is lowered.
    fn lower_cost(&self, pod: &PodName) -> impl Future<Output = Result<(), PodError>> + Send;

    /// Every instance that there is now.
    fn list(&self) -> impl Future<Output = Result<BTreeSet<InstanceUid>, PodError>> + Send;
}

/// The cluster by its API.
#[derive(Clone)]
pub struct ClusterApi {
    client: Client,
    /// Namespace of the apps; all when absent.
    namespace: Option<String>,
    lease_namespace: String,
    lease_name: String,
    front_end_labels: String,
    on_error: fn(&kube::runtime::watcher::Error),
}

impl ClusterApi {
    /// The record is on the Lease `lease_namespace/lease_name`; front ends run beside it, in pods with `front_end_labels`.
    pub fn new(
        client: Client,
        namespace: Option<String>,
        lease_namespace: &str,
        lease_name: &str,
        front_end_labels: &str,
    ) -> Self {
        Self {
            client,
            namespace,
            lease_namespace: lease_namespace.to_owned(),
            lease_name: lease_name.to_owned(),
            front_end_labels: front_end_labels.to_owned(),
            on_error: |_| {},
        }
    }

    fn leases(&self) -> Api<Lease> {
        Api::namespaced(self.client.clone(), &self.lease_namespace)
    }

    fn pod(&self, name: &PodName) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &name.namespace)
    }

    fn instance_labels() -> String {
        format!("{},{}=http", names::APP_LABEL, names::GROUP_LABEL)
    }

    async fn annotate(
        &self,
        pod: &PodName,
        version: Option<String>,
        annotation: &str,
        value: &str,
    ) -> Result<(), kube::Error> {
        let params = PatchParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let mut patch = json!({"metadata": {"annotations": {annotation: value}}});
        if let Some(version) = version {
            // Makes the write a compare-and-swap.
            patch["metadata"]["resourceVersion"] = version.into();
        }
        self.pod(pod)
            .patch_metadata(&pod.name, &params, &Patch::Merge(patch))
            .await
            .map(drop)
    }
}

impl RecordStore for ClusterApi {
    type Version = Box<Lease>;

    async fn read(&self) -> Result<(Record, Self::Version), StoreError> {
        let lease = self.leases().get(&self.lease_name).await;
        let lease = lease.map_err(|error| StoreError::Failed(error.to_string()))?;
        let annotations = lease.metadata.annotations.as_ref();
        let record = match annotations.and_then(|all| all.get(RECORD_ANNOTATION)) {
            Some(text) => Record::parse(text)?,
            None => Record::default(),
        };
        Ok((record, Box::new(lease)))
    }

    async fn write(&self, record: &Record, version: &Self::Version) -> Result<(), StoreError> {
        let mut lease = version.clone();
        let annotations = lease.metadata.annotations.get_or_insert_default();
        annotations.insert(RECORD_ANNOTATION.to_owned(), record.text());
        let params = PostParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PostParams::default()
        };
        let written = self
            .leases()
            .replace(&self.lease_name, &params, &lease)
            .await;
        match written {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 409 => Err(StoreError::Conflict),
            Err(error) => Err(StoreError::Failed(error.to_string())),
        }
    }
}

impl Cluster for ClusterApi {
    fn watch(&self, stop: CancellationToken) -> PodStreams {
        let (instances_sender, instances) = mpsc::channel(QUEUE);
        let (front_ends_sender, front_ends) = mpsc::channel(QUEUE);
        let client = self.client.clone();
        let api = match &self.namespace {
            Some(namespace) => Api::namespaced(client, namespace),
            None => Api::all(client),
        };
        tokio::spawn(watch(
            "instance pods",
            api,
            Some(Self::instance_labels()),
            instances_sender,
            self.on_error,
            stop.clone(),
        ));
        let api = Api::namespaced(self.client.clone(), &self.lease_namespace);
        tokio::spawn(watch(
            "front end pods",
            api,
            Some(self.front_end_labels.clone()),
            front_ends_sender,
            self.on_error,
            stop,
        ));
        PodStreams {
            instances,
            front_ends,
        }
    }

    async fn claim(&self, pod: &PodName, epoch: Epoch) -> Result<Epoch, PodError> {
        loop {
            let present = self
                .pod(pod)
                .get_metadata(&pod.name)
                .await
                .map_err(failed)?;
            let annotations = present.metadata.annotations.as_ref();
            let claim = annotations.and_then(|all| all.get(CLAIM_ANNOTATION));
            if let Some(claim) = claim.and_then(|text| text.parse().ok()) {
                return Ok(Epoch(claim));
            }
            let version = present.metadata.resource_version;
            match self
                .annotate(pod, version, CLAIM_ANNOTATION, &epoch.0.to_string())
                .await
            {
                Ok(()) => return Ok(epoch),
                // Pods change often while they start.
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                Err(error) => return Err(failed(error)),
            }
        }
    }

    async fn mark_drain(&self, pod: &PodName, epoch: Epoch) -> Result<(), PodError> {
        self.annotate(pod, None, DRAIN_ANNOTATION, &epoch.0.to_string())
            .await
            .map_err(failed)
    }

    async fn lower_cost(&self, pod: &PodName) -> Result<(), PodError> {
        self.annotate(pod, None, DELETION_COST_ANNOTATION, LOWEST_COST)
            .await
            .map_err(failed)
    }

    async fn list(&self) -> Result<BTreeSet<InstanceUid>, PodError> {
        let client = self.client.clone();
        let api: Api<Pod> = match &self.namespace {
            Some(namespace) => Api::namespaced(client, namespace),
            None => Api::all(client),
        };
        let mut params = ListParams::default()
            .labels(&Self::instance_labels())
            .limit(PAGE);
        let mut uids = BTreeSet::new();
        loop {
            let page = api.list(&params).await.map_err(failed)?;
            let present = page.items.iter().filter_map(InstancePod::read);
            uids.extend(present.filter(|pod| !pod.ended).map(|pod| pod.uid));
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params = params.continue_token(&token),
                None => return Ok(uids),
            }
        }
    }
}

fn failed(error: kube::Error) -> PodError {
    match error {
        kube::Error::Api(status) if status.code == 404 => PodError::Gone,
        error => PodError::Failed(error.to_string()),
    }
}
