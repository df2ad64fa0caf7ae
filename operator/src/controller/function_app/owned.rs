//! What the operator made, from watches: read at every run instead of asking the API server.
//!
//! A store may be behind. It decides only whether a write can be saved; before an object is created or a Deployment is
//! changed the API server is asked.

use super::build::scaled_object_resource;
use futures::{Stream, StreamExt};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Secret, Service};
use kube::api::DynamicObject;
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use maniple_crds::FunctionApp;
use maniple_crds::names::{APP_LABEL, MANAGED_BY, MANAGED_BY_LABEL};
use parking_lot::RwLock;
use serde::de::DeserializeOwned;
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Objects of ours that wait in the channel to the controller before a watch is held back.
const TRIGGERS: usize = 4096;

/// Stores of every kind that the operator makes.
#[derive(Clone)]
pub struct Owned {
    pub(super) deployments: Store<Deployment>,
    pub(super) services: Store<Service>,
    pub(super) secrets: Store<Secret>,
    scaled_objects: Arc<RwLock<Option<Watched>>>,
    client: Client,
    namespace: Option<String>,
    triggers: mpsc::Sender<ObjectRef<FunctionApp>>,
}

struct Watched {
    store: Store<DynamicObject>,
    task: JoinHandle<()>,
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Owned {
    /// Starts the watches. The stream names the app of every object that changed.
    pub fn start(
        client: Client,
        namespace: Option<String>,
    ) -> (
        Self,
        impl Stream<Item = ObjectRef<FunctionApp>> + Send + 'static,
    ) {
        let (triggers, changed) = mpsc::channel(TRIGGERS);
        let owned = Self {
            deployments: watch(
                api(&client, namespace.as_deref(), &()),
                (),
                triggers.clone(),
            )
            .0,
            services: watch(
                api(&client, namespace.as_deref(), &()),
                (),
                triggers.clone(),
            )
            .0,
            secrets: watch(
                api(&client, namespace.as_deref(), &()),
                (),
                triggers.clone(),
            )
            .0,
            scaled_objects: Arc::default(),
            client,
            namespace,
            triggers,
        };
        (owned, tokio_stream_of(changed))
    }

    /// Waits until every store holds its first list.
    pub async fn ready(&self) {
        // An error only says that the watch has ended, which happens when the process stops.
        let _ = self.deployments.wait_until_ready().await;
        let _ = self.services.wait_until_ready().await;
        let _ = self.secrets.wait_until_ready().await;
    }

    /// Starts or ends the watch of ScaledObjects, as KEDA comes and goes.
    pub fn follow_keda(&self, installed: bool) {
        let mut watched = self.scaled_objects.write();
        if installed && watched.is_none() {
            let resource = scaled_object_resource();
            let (store, task) = watch(
                api(&self.client, self.namespace.as_deref(), &resource),
                resource,
                self.triggers.clone(),
            );
            *watched = Some(Watched { store, task });
        } else if !installed {
            *watched = None;
        }
    }

    /// ScaledObjects of an app; empty where KEDA is not installed.
    pub(super) fn scaled_objects_of(&self, app: &FunctionApp) -> Vec<Arc<DynamicObject>> {
        match self.scaled_objects.read().as_ref() {
            Some(watched) => of(&watched.store, app),
            None => Vec::new(),
        }
    }

    /// Reconciles an app soon.
    pub async fn trigger(&self, app: ObjectRef<FunctionApp>) {
        // The receiver ends with the process.
        let _ = self.triggers.send(app).await;
    }
}

/// Objects that carry the app's label and have it as their owner.
pub(super) fn of<K>(store: &Store<K>, app: &FunctionApp) -> Vec<Arc<K>>
where
    K: Resource + Clone + 'static,
    K::DynamicType: Eq + Hash + Clone,
{
    let (name, namespace, uid) = (app.name_any(), app.namespace(), app.uid());
    store
        .state()
        .into_iter()
        .filter(|o| {
            o.meta().namespace == namespace
                && o.labels().get(APP_LABEL) == Some(&name)
                && owned_by(o.as_ref(), uid.as_deref())
        })
        .collect()
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

fn api<K>(client: &Client, namespace: Option<&str>, dynamic: &K::DynamicType) -> Api<K>
where
    K: Resource<Scope = <K as NamespacedKind>::Scope> + NamespacedKind,
{
    K::api(client, namespace, dynamic)
}

/// Kinds that live in namespaces, static or dynamic.
trait NamespacedKind: Resource + Sized {
    type Scope;
    fn api(client: &Client, namespace: Option<&str>, dynamic: &Self::DynamicType) -> Api<Self>;
}

macro_rules! namespaced {
    ($($kind:ty),*) => {$(
        impl NamespacedKind for $kind {
            type Scope = <$kind as Resource>::Scope;
            fn api(client: &Client, namespace: Option<&str>, _: &()) -> Api<Self> {
                namespace.map_or_else(|| Api::all(client.clone()), |n| Api::namespaced(client.clone(), n))
            }
        }
    )*};
}

namespaced!(Deployment, Service, Secret);

impl NamespacedKind for DynamicObject {
    type Scope = <DynamicObject as Resource>::Scope;
    fn api(client: &Client, namespace: Option<&str>, dynamic: &Self::DynamicType) -> Api<Self> {
        match namespace {
            Some(n) => Api::namespaced_with(client.clone(), n, dynamic),
            None => Api::all_with(client.clone(), dynamic),
        }
    }
}

fn watch<K>(
    api: Api<K>,
    dynamic: K::DynamicType,
    triggers: mpsc::Sender<ObjectRef<FunctionApp>>,
) -> (Store<K>, JoinHandle<()>)
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
    K::DynamicType: Eq + Hash + Clone + Send + Sync,
{
    let writer = reflector::store::Writer::new(dynamic);
    let store = writer.as_reader();
    let config = watcher::Config::default().labels(&format!("{MANAGED_BY_LABEL}={MANAGED_BY}"));
    let stream = watcher(api, config)
        .default_backoff()
        .modify(|object| object.managed_fields_mut().clear())
        .reflect(writer)
        .touched_objects();
    let task = tokio::spawn(async move {
        let mut stream = std::pin::pin!(stream);
        while let Some(event) = stream.next().await {
            match event {
                Ok(object) => {
                    let app = object
                        .labels()
                        .get(APP_LABEL)
                        .cloned()
                        .zip(object.namespace());
                    if let Some((name, namespace)) = app
                        && triggers
                            .send(ObjectRef::new(&name).within(&namespace))
                            .await
                            .is_err()
                    {
                        return;
                    }
                }
                Err(error) => tracing::warn!(%error, "a watch broke; it is started again"),
            }
        }
    });
    (store, task)
}

fn tokio_stream_of<T: Send + 'static>(
    mut receiver: mpsc::Receiver<T>,
) -> impl Stream<Item = T> + Send + 'static {
    futures::stream::poll_fn(move |context| receiver.poll_recv(context))
}
