//! What is seen of an app. Nothing here changes every second.

use crate::schema;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Observed state of a FunctionApp.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct FunctionAppStatus {
    /// `Ready`, `WorkloadAvailable`, `FunctionsLoaded`, `ScalingConfigured`, `TriggersResolved`, `Paused`.
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,

    /// Generation of the spec that this status was made from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// Number of groups.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group_count: Option<i32>,

    /// Ready instances of all groups.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instances: Option<i32>,

    /// Address of the group `http` inside the cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub url: Option<String>,

    /// One entry for each group.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 130))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub groups: Vec<GroupStatus>,
}

/// Observed state of one group.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct GroupStatus {
    /// `http`, `durable`, `blob` or `function:<name>`.
    #[schemars(length(max = 137))]
    pub name: String,
    /// Deployment of the group.
    #[schemars(length(max = 253))]
    pub deployment: String,
    /// Its functions.
    #[schemars(length(max = 128), inner(length(max = 128)))]
    pub functions: Vec<String>,
    /// Instances that the last decision asks for; absent while a source of a new group has not been read yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub desired: Option<i32>,
    /// Instances that are ready.
    pub ready: i32,
    /// Instances that are leaving.
    pub draining: i32,
    /// Instances that always run.
    pub always_ready: i32,
    /// Version of the instances: a digest of everything that they are made from. `FunctionsLoaded` is about this version.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub template: Option<String>,
    /// Reason of the last decision, one word.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub reason: Option<String>,
    /// Reason of the last decision in words and numbers.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub message: Option<String>,
    /// What the decision was made from.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 128))]
    pub sources: Vec<SourceStatus>,
}

/// Observed state of one event source.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct SourceStatus {
    /// Function that the source belongs to.
    #[schemars(length(max = 128))]
    pub function: String,
    /// Type of the trigger.
    #[serde(rename = "type")]
    #[schemars(length(max = 64))]
    pub kind: String,
    /// Work that waits; absent when it is unknown or the source has none (a timer).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backlog: Option<i64>,
    /// Work for one instance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<i64>,
    /// Why the source could not be read, and what to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub error: Option<String>,
}
