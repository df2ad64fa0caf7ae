//! What a suite looks at.

use super::Suite;
use anyhow::{Context as _, Result};
use futures::StreamExt as _;
use k8s_openapi::api::apps::v1::Deployment;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, ResourceExt as _};
use maniple_crds::names::group_object;
use maniple_crds::{FunctionApp, GroupName};
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Instant;

/// Instance counts of one group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// `spec.replicas`: what was asked for.
    pub asked: i32,
    /// `status.readyReplicas`.
    pub ready: i32,
}

/// One group of one app.
#[derive(Clone)]
pub struct Group {
    client: Client,
    namespace: String,
    /// Name of its Deployment.
    pub deployment: String,
}

impl Group {
    /// The group of that name.
    ///
    /// # Errors
    /// When the name is no group.
    pub fn of(suite: &Suite, namespace: &str, app: &str, group: &str) -> Result<Self> {
        let group: GroupName = group.parse()?;
        Ok(Self {
            client: suite.client.clone(),
            namespace: namespace.to_owned(),
            deployment: group_object(app, &group),
        })
    }

    /// The Deployment.
    ///
    /// # Errors
    /// When it does not exist or the API server does not answer.
    pub async fn get(&self) -> Result<Deployment> {
        let api: Api<Deployment> = Api::namespaced(self.client.clone(), &self.namespace);
        Ok(api.get(&self.deployment).await?)
    }

    /// The counts now.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn counts(&self) -> Result<Counts> {
        Ok(counts(&self.get().await?))
    }

    /// Records every change of the counts until the timeline is dropped.
    pub fn record(&self) -> Timeline {
        let api: Api<Deployment> = Api::namespaced(self.client.clone(), &self.namespace);
        let config =
            watcher::Config::default().fields(&format!("metadata.name={}", self.deployment));
        let changes = Arc::new(Mutex::new(Vec::new()));
        let sink = changes.clone();
        let started = Instant::now();
        let task = tokio::spawn(async move {
            let mut stream =
                std::pin::pin!(watcher(api, config).default_backoff().applied_objects());
            while let Some(event) = stream.next().await {
                let Ok(deployment) = event else { continue };
                let now = counts(&deployment);
                let mut changes = sink.lock();
                if changes.last().is_none_or(|c: &Change| c.counts != now) {
                    changes.push(Change {
                        at: Instant::now(),
                        counts: now,
                    });
                }
            }
        });
        Timeline {
            changes,
            task,
            started,
        }
    }
}

fn counts(deployment: &Deployment) -> Counts {
    Counts {
        asked: deployment
            .spec
            .as_ref()
            .and_then(|s| s.replicas)
            .unwrap_or(0),
        ready: deployment
            .status
            .as_ref()
            .and_then(|s| s.ready_replicas)
            .unwrap_or(0),
    }
}

/// One change of the counts.
#[derive(Clone, Copy, Debug)]
pub struct Change {
    /// When the suite saw it.
    pub at: Instant,
    /// The counts from then on.
    pub counts: Counts,
}

/// Counts of a group over time.
pub struct Timeline {
    changes: Arc<Mutex<Vec<Change>>>,
    task: tokio::task::JoinHandle<()>,
    /// When the recording began.
    pub started: Instant,
}

impl Drop for Timeline {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Timeline {
    /// Everything that was seen so far.
    pub fn changes(&self) -> Vec<Change> {
        self.changes.lock().clone()
    }

    /// One line for people: seconds and counts.
    pub fn summary(&self) -> String {
        let text: Vec<String> = self
            .changes()
            .iter()
            .map(|c| {
                let seconds = c.at.duration_since(self.started).as_secs_f64();
                format!("{seconds:.1}s {}/{}", c.counts.ready, c.counts.asked)
            })
            .collect();
        text.join("  ")
    }
}

/// The app as the API server has it.
///
/// # Errors
/// When it does not exist or the API server does not answer.
pub async fn app(suite: &Suite, namespace: &str, name: &str) -> Result<FunctionApp> {
    let api: Api<FunctionApp> = Api::namespaced(suite.client.clone(), namespace);
    Ok(api.get(name).await?)
}

/// Status and reason of one condition of the app, `None` while it has none.
///
/// # Errors
/// As [`app`].
pub async fn condition(
    suite: &Suite,
    namespace: &str,
    name: &str,
    kind: &str,
) -> Result<Option<(String, String, String)>> {
    let app = app(suite, namespace, name).await?;
    let generation = app.metadata.generation;
    let found = app
        .status
        .iter()
        .flat_map(|s| &s.conditions)
        .find(|c| c.type_ == kind && c.observed_generation == generation);
    Ok(found.map(|c| (c.status.clone(), c.reason.clone(), c.message.clone())))
}

/// Names of all objects of one kind that belong to an app.
///
/// # Errors
/// When kubectl fails.
pub fn objects_of(suite: &Suite, namespace: &str, app: &str, kinds: &str) -> Result<Vec<String>> {
    let selector = format!("{}={app}", maniple_crds::names::APP_LABEL);
    let text = suite
        .connection
        .kubectl()
        .run(&["get", kinds, "-n", namespace, "-l", &selector, "-o", "name"])
        .context("list the objects of an app")?;
    Ok(text.lines().map(ToOwned::to_owned).collect())
}

/// Full name of an object, for messages.
pub fn full_name(object: &impl kube::Resource) -> String {
    format!(
        "{}/{}",
        object.namespace().unwrap_or_default(),
        object.name_any()
    )
}
