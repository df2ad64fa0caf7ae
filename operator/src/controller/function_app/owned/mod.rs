//! What the operator made, from watches: read at every run instead of asking the API server.
//!
//! A store may be behind. It decides only whether a write can be saved; before an object is created or a Deployment is
//! changed the API server is asked.

mod changes;

use super::build::scaled_object_resource;
use super::watching::WatchErrors;
use crate::metrics::OperatorMetrics;
use changes::Changes;
use futures::{Stream, StreamExt};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Secret, Service};
use kube::api::DynamicObject;
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use maniple_crds::FunctionApp;
use maniple_crds::names::{MANAGED_BY, MANAGED_BY_LABEL};
use parking_lot::RwLock;
use serde::de::DeserializeOwned;
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Names of changed apps that wait for the controller before a watch is held back.
const TRIGGERS: usize = 4096;
/// How long the first list of ScaledObjects is waited for. Without it the apps are reconciled all the same: nothing but the
/// word of KEDA about them is missing.
const KEDA_PATIENCE: Duration = Duration::from_secs(10);

/// Stores of every kind that the operator makes.
#[derive(Clone)]
pub(crate) struct Owned {
    pub(super) deployments: Arc<Watched<Deployment>>,
    pub(super) services: Arc<Watched<Service>>,
    pub(super) secrets: Arc<Watched<Secret>>,
    scaled_objects: Arc<RwLock<Option<Arc<Watched<DynamicObject>>>>>,
    start_scaled_objects: Arc<dyn Fn() -> Watched<DynamicObject> + Send + Sync>,
}

/// The objects of one kind.
pub(crate) struct Watched<K>
where
    K: Resource + 'static,
    K::DynamicType: Hash + Eq,
{
    store: Store<K>,
    changes: Arc<RwLock<Changes>>,
    dynamic: K::DynamicType,
    task: JoinHandle<()>,
}

impl<K> Drop for Watched<K>
where
    K: Resource + 'static,
    K::DynamicType: Hash + Eq,
{
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl<K> Watched<K>
where
    K: Resource + Clone + 'static,
    K::DynamicType: Hash + Eq + Clone,
{
    /// The object of this name, if the app has it.
    pub(super) fn get(&self, app: &FunctionApp, name: &str) -> Option<Arc<K>> {
        let key = ObjectRef::new_with(name, self.dynamic.clone()).within(app.namespace()?.as_str());
        self.store
            .get(&key)
            .filter(|object| owned_by(object.as_ref(), app.uid().as_deref()))
    }

    /// Every object that carries the app's label and has it as its owner.
    pub(super) fn of(&self, app: &FunctionApp) -> Vec<Arc<K>> {
        let names = self.changes.read().names_of(&ObjectRef::from_obj(app));
        names.iter().filter_map(|n| self.get(app, n)).collect()
    }

    /// Every object of all apps.
    pub(crate) fn all(&self) -> Vec<Arc<K>> {
        self.store.state()
    }

    async fn ready(&self) {
        // An error only says that the watch has ended, which happens when the process stops.
        let _ = self.store.wait_until_ready().await;
    }
}

impl Owned {
    /// Starts the watches. The stream names the app of every object that changed.
    pub(super) fn start(
        client: Client,
        namespace: Option<String>,
        metrics: OperatorMetrics,
    ) -> (
        Self,
        impl Stream<Item = ObjectRef<FunctionApp>> + Send + 'static,
    ) {
        let (triggers, mut changed) = mpsc::channel(TRIGGERS);
        let start = Start {
            triggers,
            metrics,
            client,
            namespace,
        };
        let owned = Self {
            deployments: Arc::new(start.of("Deployment", changes::of_deployment)),
            services: Arc::new(start.of("Service", changes::of_any)),
            secrets: Arc::new(start.of("Secret", changes::of_any)),
            scaled_objects: Arc::default(),
            start_scaled_objects: Arc::new(move || start.scaled_objects()),
        };
        let stream = futures::stream::poll_fn(move |context| changed.poll_recv(context));
        (owned, stream)
    }

    /// Waits until every store holds its first list.
    pub(super) async fn ready(&self) {
        self.deployments.ready().await;
        self.services.ready().await;
        self.secrets.ready().await;
        self.scaled_objects_ready().await;
    }

    /// Starts or ends the watch of ScaledObjects, as KEDA comes and goes.
    pub(super) fn follow_keda(&self, installed: bool) {
        let mut watched = self.scaled_objects.write();
        if installed && watched.is_none() {
            *watched = Some(Arc::new((self.start_scaled_objects)()));
        } else if !installed {
            *watched = None;
        }
    }

    /// Waits for the first list of ScaledObjects, but not for ever.
    pub(super) async fn scaled_objects_ready(&self) {
        let watched = self.scaled_objects();
        if let Some(watched) = watched
            && tokio::time::timeout(KEDA_PATIENCE, watched.ready())
                .await
                .is_err()
        {
            tracing::warn!("ScaledObjects could not be listed yet; going on without them");
        }
    }

    /// ScaledObjects; `None` where KEDA is not installed.
    pub(crate) fn scaled_objects(&self) -> Option<Arc<Watched<DynamicObject>>> {
        self.scaled_objects.read().clone()
    }

    /// The ScaledObject of this name, if the app has it.
    pub(super) fn scaled_object(
        &self,
        app: &FunctionApp,
        name: &str,
    ) -> Option<Arc<DynamicObject>> {
        self.scaled_objects()?.get(app, name)
    }
}

/// True when the object's controller is the app with this uid.
pub(super) fn owned_by<K: Resource>(object: &K, uid: Option<&str>) -> bool {
    object
        .meta()
        .owner_references
        .iter()
        .flatten()
        .any(|o| o.controller == Some(true) && Some(o.uid.as_str()) == uid)
}

/// The condition `Ready` of a ScaledObject.
pub(super) fn ready_condition(object: &DynamicObject) -> Option<&serde_json::Value> {
    let conditions = object.data.pointer("/status/conditions")?.as_array()?;
    conditions.iter().find(|c| c["type"] == "Ready")
}

/// What a watch is started with.
struct Start {
    triggers: mpsc::Sender<ObjectRef<FunctionApp>>,
    metrics: OperatorMetrics,
    client: Client,
    namespace: Option<String>,
}

impl Start {
    fn of<K>(&self, kind: &'static str, digest: fn(&K) -> u64) -> Watched<K>
    where
        K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>,
        K: Clone + DeserializeOwned + Debug + Send + Sync + 'static,
    {
        let client = self.client.clone();
        let api = match self.namespace.as_deref() {
            Some(namespace) => Api::namespaced(client, namespace),
            None => Api::all(client),
        };
        self.watch(kind, api, (), digest)
    }

    fn scaled_objects(&self) -> Watched<DynamicObject> {
        let (client, resource) = (self.client.clone(), scaled_object_resource());
        let api = match self.namespace.as_deref() {
            Some(namespace) => Api::namespaced_with(client, namespace, &resource),
            None => Api::all_with(client, &resource),
        };
        self.watch("ScaledObject", api, resource, changes::of_scaled_object)
    }

    fn watch<K>(
        &self,
        kind: &'static str,
        api: Api<K>,
        dynamic: K::DynamicType,
        digest: fn(&K) -> u64,
    ) -> Watched<K>
    where
        K: Resource + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
        K::DynamicType: Eq + Hash + Clone + Send + Sync,
    {
        let writer = reflector::store::Writer::new(dynamic.clone());
        let store = writer.as_reader();
        let config = watcher::Config::default().labels(&format!("{MANAGED_BY_LABEL}={MANAGED_BY}"));
        let stream = watcher(api, config)
            .default_backoff()
            .modify(|object: &mut K| object.managed_fields_mut().clear())
            .reflect(writer);
        let errors = WatchErrors::new(kind, self.metrics.clone());
        let changes = Arc::new(RwLock::new(Changes::default()));
        let (triggers, seen) = (self.triggers.clone(), Arc::clone(&changes));
        let task = tokio::spawn(async move {
            let mut stream = std::pin::pin!(stream);
            while let Some(event) = stream.next().await {
                let apps = match event {
                    Ok(event) => seen.write().step(&event, digest),
                    Err(error) => {
                        errors.saw(&error);
                        continue;
                    }
                };
                for app in apps {
                    if triggers.send(app).await.is_err() {
                        return;
                    }
                }
            }
        });
        Watched {
            store,
            changes,
            dynamic,
            task,
        }
    }
}
