//! Request slots: the data role of the process that leads, and what front ends hear of it.
//!
//! * [`wire`]: the messages as they are sent.
//! * `record`, `cluster`, `pods`: what is kept in and seen of the cluster.
//! * `service`: the streams of front ends.
//! * `books`, `instances`, `front_ends`, `groups`, `role`: the rules of the protocol (in the core) joined with all of that.
//! * `starts`: how pods came to be, for those who wait for them.
//! * `view`: what the decisions are made from.

mod books;
mod cluster;
mod first_lists;
mod front_ends;
mod groups;
mod instances;
mod metrics;
mod outside;
mod pods;
mod record;
mod role;
mod routes;
mod service;
mod starts;
mod view;
pub mod wire;

pub use cluster::{Cluster, ClusterApi, PodError, PodStreams, RECORD_ANNOTATION};
pub use metrics::SlotsMetrics;
pub use pods::{
    CLAIM_ANNOTATION, DELETION_COST_ANNOTATION, DRAIN_ANNOTATION, LOWEST_COST, PodName, group_id,
};
pub use record::{Member, Record, RecordStore, StoreError, TermOver};
pub use role::{Aim, PlanEvent, SlotsError, SlotsInputs, SlotsRole, Wanted};
pub use service::{ConnectionId, SlotsService, StreamEvent};
pub use view::{DemandEvent, GroupView, PodCounts, RoleView};

#[cfg(test)]
mod tests;
