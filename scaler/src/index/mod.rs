//! What there is to scale: the FunctionApps with their settings, and the Deployments of their groups.
//!
//! The API types end here: behind the index there are only keys, plans and the types of the decision core.

pub mod apps;
mod key;
mod plan;
mod references;
mod settings;
mod translate;
mod watch;
mod workload;

pub use key::{AppKey, GroupKey};
pub use plan::{
    AppPlan, GroupPlan, HttpPlan, InputPlan, Problem, QueuePlan, SnapshotPlan, TimerPlan,
    TimerStatusPlan,
};
pub use references::{ClusterReader, Kind, ReadError, Reader, References, Values};
pub use settings::{MissingSetting, ResolvedSettings};
pub use translate::{TranslateError, translate};
pub use watch::{Seen, watch};
pub use workload::{Driver, Workload, WorkloadKey};
