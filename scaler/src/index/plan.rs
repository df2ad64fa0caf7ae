//! What is to be done for an app: its groups in the terms of the decision core, and where each source is read.

use super::key::GroupKey;
use super::workload::WorkloadKey;
use maniple_core::concurrency::ConcurrencyOptions;
use maniple_core::decision::GroupSpec;
use maniple_core::timer::Timer;
use maniple_crds::function_app::AppProtocol;
use maniple_sources::storage::Account;
use maniple_sources::storage_queue::QueueTarget;
use std::sync::Arc;
use std::time::Duration;

/// The groups of one app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppPlan {
    /// Generation of the FunctionApp that this was made from.
    pub generation: i64,
    /// The groups, in the order of their names.
    pub groups: Vec<Arc<GroupPlan>>,
    /// How requests are to reach an app whose functions are not known yet.
    pub awaited: Option<HttpPlan>,
}

/// One group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupPlan {
    /// Which group this is.
    pub key: GroupKey,
    /// Its name as declared, for people.
    pub name: String,
    /// Its Deployment.
    pub workload: WorkloadKey,
    /// What decisions are made from.
    pub spec: GroupSpec,
    /// How each source of `spec` is read; same order, same length.
    pub inputs: Vec<InputPlan>,
    /// How requests reach it, for the group of HTTP functions.
    pub http: Option<HttpPlan>,
}

/// How requests reach a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpPlan {
    /// Requests that one instance gets at a time.
    pub concurrency: u16,
    /// Port on which an instance listens.
    pub port: u16,
    /// Own host names, in lower case; the default one comes beside them.
    pub hosts: Vec<String>,
    /// Path prefixes on the own hosts; all paths when empty.
    pub path_prefixes: Vec<String>,
    /// Longest time from the request to the end of its response.
    pub request_timeout: Duration,
    /// Longest time that an instance works on a request that nobody waits for any more; none when unbounded.
    pub function_timeout: Option<Duration>,
    /// Longest time that an instance may take to finish its requests before it is removed.
    pub drain_limit: Duration,
    /// Requests that may wait at one front end.
    pub room: u32,
    /// How long one may wait.
    pub patience: Duration,
    /// HTTP that an instance speaks.
    pub protocol: AppProtocol,
    /// Whether the host has an administration that must not be reached from outside.
    pub administered: bool,
}

/// How one source is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InputPlan {
    /// Nothing is to be read: the decision does not depend on it.
    Nothing,
    /// The messages of a queue.
    Queue(QueuePlan),
    /// The status of a timer.
    Timer(TimerPlan),
    /// It cannot be read until somebody changes something. Its backlog is unknown, not zero.
    Broken(Problem),
}

/// A queue and the target that instances have learned for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueuePlan {
    /// The queue.
    pub target: QueueTarget,
    /// Where to find the learned concurrency. `None`: the target of the spec counts.
    pub learned: Option<SnapshotPlan>,
}

/// The snapshot of dynamic concurrency of an app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotPlan {
    /// Blob service of the storage account of the host.
    pub account: Account,
    /// Host id of the app.
    pub host_id: String,
    /// Id under which the snapshot has the function.
    pub function_id: String,
    /// What host.json says about it.
    pub options: ConcurrencyOptions,
}

/// A timer and where its status is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimerPlan {
    /// When it runs.
    pub timer: Timer,
    /// Where the host keeps its status.
    pub status: TimerStatusPlan,
}

/// Where the host keeps the status of a timer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TimerStatusPlan {
    /// In a blob.
    Blob {
        /// Blob service of the storage account of the host.
        account: Account,
        /// Host id of the app.
        host_id: String,
        /// Name of the function.
        function: String,
    },
    /// The host keeps none, or nobody needs it.
    None,
    /// In a blob that cannot be reached until somebody changes something.
    Broken(Problem),
}

/// Why a source cannot be read until somebody changes something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Stable word for metrics.
    pub category: &'static str,
    /// What is wrong, where, and what to do. Without secrets.
    pub message: String,
}
