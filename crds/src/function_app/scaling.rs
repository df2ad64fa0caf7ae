//! How the groups of an app scale.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Scaling of all groups of the app.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Scaling {
    /// Who writes the replica counts.
    pub driver: Driver,

    /// `Paused` leaves the instance counts as they are.
    pub mode: ScalingMode,

    /// Time without work after which the last instance of a group leaves, in seconds.
    #[schemars(range(min = 0, max = 3600))]
    pub idle_seconds: i32,

    /// Fastest growth of a group. No limit when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scale_out_rate: Option<ScaleOutRate>,

    /// Longest time that an instance may take to finish its work before it is removed, in minutes.
    #[schemars(range(min = 1, max = 60))]
    pub drain_minutes: i32,

    /// Smaller limits for single functions, for example to protect a database.
    #[schemars(length(max = 128))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub function_limits: Vec<FunctionLimit>,
}

impl Default for Scaling {
    fn default() -> Self {
        Self {
            driver: Driver::default(),
            mode: ScalingMode::default(),
            idle_seconds: 60,
            scale_out_rate: None,
            drain_minutes: 60,
            function_limits: Vec::new(),
        }
    }
}

/// Who writes the replica counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Driver {
    /// KEDA for event groups where it is installed, else the scaler itself.
    #[default]
    Auto,
    /// The scaler itself.
    Native,
    /// KEDA, which asks the scaler.
    Keda,
}

/// Whether the instance counts follow the decisions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ScalingMode {
    /// They do.
    #[default]
    Active,
    /// They stay as they are.
    Paused,
}

/// Fastest growth of a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScaleOutRate {
    /// Instances that may be added in one period.
    #[schemars(range(min = 1, max = 1000))]
    pub instances: i32,
    /// Length of the period in seconds.
    #[schemars(range(min = 1, max = 3600))]
    pub period_seconds: i32,
}

/// Limit of one function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FunctionLimit {
    /// Name of the function.
    #[schemars(length(min = 1, max = 128))]
    pub name: String,
    /// Most on-demand instances that this function may ask for.
    #[schemars(range(min = 1, max = 1000))]
    pub maximum_instance_count: i32,
}
