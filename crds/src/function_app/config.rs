//! `functionAppConfig`, with the names, shapes and defaults of a Flex Consumption app
//! (ARM API `Microsoft.Web/sites`, 2023-12-01 and later).

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Largest `maximumInstanceCount` of the Flex Consumption plan.
pub const MAX_INSTANCE_COUNT: i32 = 1000;

/// The configuration block of a Flex Consumption app.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct FunctionAppConfig {
    /// Where Azure would take the code package from. Kept for pasting; here the code comes in `spec.image`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deployment: Option<Deployment>,

    /// Language runtime; decides the default HTTP concurrency.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runtime: Option<Runtime>,

    /// Instance size, limits, floors and concurrency.
    pub scale_and_concurrency: ScaleAndConcurrency,

    /// How a new version replaces the running one.
    pub site_update_strategy: SiteUpdateStrategy,
}

/// Code package of a Flex Consumption app; not used here.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Deployment {
    /// Storage of the package.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage: Option<DeploymentStorage>,
}

/// Storage of the code package.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct DeploymentStorage {
    /// `blobContainer`, in any letter case.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub kind: Option<String>,
    /// URL of the container.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub value: Option<String>,
    /// How the container is opened.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authentication: Option<DeploymentAuthentication>,
}

/// Credential for the code package.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct DeploymentAuthentication {
    /// Kind of credential.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<DeploymentAuthenticationType>,
    /// Resource id of a user-assigned identity.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub user_assigned_identity_resource_id: Option<String>,
    /// Name of the application setting that holds a connection string.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub storage_account_connection_string_name: Option<String>,
}

/// Kind of credential for the code package.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs, reason = "the names are Azure's")]
pub enum DeploymentAuthenticationType {
    SystemAssignedIdentity,
    UserAssignedIdentity,
    StorageAccountConnectionString,
}

/// Language runtime of the app.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Runtime {
    /// Name of the runtime.
    pub name: RuntimeName,
    /// Version, for example `8.0`, `20` or `3.11`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub version: Option<String>,
}

/// Runtimes of the Flex Consumption plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "the names are Azure's")]
pub enum RuntimeName {
    DotnetIsolated,
    Node,
    Python,
    Java,
    Powershell,
    Custom,
}

impl RuntimeName {
    /// Value of `FUNCTIONS_WORKER_RUNTIME`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::DotnetIsolated => "dotnet-isolated",
            Self::Node => "node",
            Self::Python => "python",
            Self::Java => "java",
            Self::Powershell => "powershell",
            Self::Custom => "custom",
        }
    }
}

/// Instance size, limits, floors and concurrency.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ScaleAndConcurrency {
    /// Most on-demand instances of each group. Always-ready instances come on top.
    #[schemars(range(min = 1, max = 1000))]
    pub maximum_instance_count: i32,

    /// Memory size of an instance in MB; it also sets its CPU share (0.25, 1 or 2 cores).
    #[serde(rename = "instanceMemoryMB")]
    #[schemars(extend("x-kubernetes-validations" = [
        {"rule": "self in [512, 2048, 4096]", "message": "instanceMemoryMB must be 512, 2048 or 4096"}
    ]))]
    pub instance_memory_mb: i32,

    /// Groups with instances that always run.
    #[schemars(length(max = 130))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub always_ready: Vec<AlwaysReady>,

    /// Concurrency by trigger; only HTTP can be set here, the others take theirs from `host.json`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub triggers: Option<Triggers>,
}

impl Default for ScaleAndConcurrency {
    fn default() -> Self {
        Self {
            maximum_instance_count: 100,
            instance_memory_mb: 2048,
            always_ready: Vec::new(),
            triggers: None,
        }
    }
}

/// Instances of one group that always run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct AlwaysReady {
    /// Group: `http`, `durable`, `blob` or `function:<name>`, in any letter case.
    #[schemars(length(min = 1, max = 137))]
    #[x_kube(validation = Rule::new("self.matches('^(?i)(http|durable|blob|function:.+)$')").message(
        "alwaysReady[].name must be http, durable, blob or function:<function name>"
    ))]
    pub name: String,
    /// Number of instances.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1000))]
    pub instance_count: i32,
}

/// Concurrency by trigger.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Triggers {
    /// HTTP triggers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpTrigger>,
}

/// HTTP concurrency.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct HttpTrigger {
    /// Requests that one instance gets at a time. Without it: 1 for Python, else 4, 16 or 32 by instance size.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub per_instance_concurrency: Option<i32>,
}

/// How a new version replaces the running one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct SiteUpdateStrategy {
    /// Kind of update.
    #[serde(rename = "type")]
    pub kind: SiteUpdateStrategyType,
}

/// Kind of update.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SiteUpdateStrategyType {
    /// All instances are stopped, then new ones start.
    #[default]
    Recreate,
    /// New instances start beside the old ones, which go when they have finished.
    RollingUpdate,
}

impl FunctionAppConfig {
    /// Requests that one instance of the group `http` gets at a time, with the plan's defaults
    /// (Azure docs, "Flex Consumption plan", instance sizes; Python is 1 at every size).
    pub fn http_concurrency(&self) -> i32 {
        let set = self
            .scale_and_concurrency
            .triggers
            .as_ref()
            .and_then(|t| t.http.as_ref())
            .and_then(|h| h.per_instance_concurrency);
        if let Some(set) = set {
            return set;
        }
        if self
            .runtime
            .as_ref()
            .is_some_and(|r| r.name == RuntimeName::Python)
        {
            return 1;
        }
        match self.scale_and_concurrency.instance_memory_mb {
            512 => 4,
            4096 => 32,
            _ => 16,
        }
    }

    /// CPU of one instance in thousandths of a core, by instance size.
    pub fn milli_cpu(&self) -> i32 {
        match self.scale_and_concurrency.instance_memory_mb {
            512 => 250,
            4096 => 2000,
            _ => 1000,
        }
    }

    /// Cores that a process in the instance sees: the CPU limit rounded up, as .NET does.
    pub fn visible_cores(&self) -> u32 {
        u32::try_from(self.milli_cpu())
            .unwrap_or(1000)
            .div_ceil(1000)
    }
}
