//! What the pods of an app are made from.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// When an image is pulled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs, reason = "the names are Kubernetes'")]
pub enum ImagePullPolicy {
    Always,
    #[default]
    IfNotPresent,
    Never,
}

/// What runs in the image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Host {
    /// The Azure Functions host: gets the environment that makes it load only the functions of its group, and an admin key.
    #[default]
    AzureFunctions,
    /// Any HTTP server: no admin API, no variables but the app's own and `PORT`.
    Plain,
}

/// Name of an object in the app's namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LocalName {
    /// Name of the object.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// One application setting.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.value) != has(self.valueFrom)")
        .message("appSettings[]: set exactly one of value and valueFrom"),
    validation = Rule::new("!self.name.matches('^(?i)(POD_NAMESPACE)$')")
        .message("appSettings[].name: POD_NAMESPACE makes the host take its locks from a leader service that does not exist; use another name"),
    validation = Rule::new("!self.name.matches('^(?i)(WEBSITE_INSTANCE_ID)$')")
        .message("appSettings[].name: WEBSITE_INSTANCE_ID opens the admin API of the host to every pod and hides the app from the host; remove it"),
    validation = Rule::new("!self.name.matches('^(?i)(FUNCTIONS_ADMIN_ISOLATION_ENABLED)$')")
        .message("appSettings[].name: FUNCTIONS_ADMIN_ISOLATION_ENABLED locks the operator out of the admin API; remove it"),
    validation = Rule::new("!self.name.matches('^(?i)(WEBSITE_AUTH_ENCRYPTION_KEY)$')")
        .message("appSettings[].name: WEBSITE_AUTH_ENCRYPTION_KEY makes the host send its keys to a trigger service; remove it"),
    validation = Rule::new("!self.name.matches('^(?i)(WEBSITE_SKU|CONTAINER_NAME|FUNCTIONS_TARGET_GROUP|MANAGED_ENVIRONMENT|WEBSITE_PLACEHOLDER_MODE|LEGION_SERVICE_HOST)$')")
        .message("appSettings[].name: this name puts the host into another mode, in which groups do not work; remove it"),
    validation = Rule::new("!self.name.matches('^(?i)(WEBSITE_SITE_NAME|CONTAINER_ENCRYPTION_KEY|ASPNETCORE_SHUTDOWNTIMEOUTSECONDS|AzureFunctionsWebHost(__|:)hostid|AzureFunctionsJobHost(__|:)functions(__|:).*)$')")
        .message("appSettings[].name: the operator sets this name for every group; remove it")
)]
pub struct AppSetting {
    /// Name of the environment variable.
    #[schemars(length(min = 1, max = 256))]
    #[x_kube(validation = Rule::new("self.matches('^[-._:a-zA-Z][-._:a-zA-Z0-9]*$')").message(
        "appSettings[].name must hold only letters, digits, '_', '-', '.' and ':' and not begin with a digit"
    ))]
    pub name: String,

    /// Value in clear text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32768))]
    pub value: Option<String>,

    /// Value from another object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value_from: Option<AppSettingSource>,
}

/// Where the value of a setting comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.secretKeyRef) != has(self.configMapKeyRef)")
    .message("appSettings[].valueFrom: set exactly one of secretKeyRef and configMapKeyRef"))]
pub struct AppSettingSource {
    /// Key of a Secret in the app's namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_key_ref: Option<KeyRef>,
    /// Key of a ConfigMap in the app's namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map_key_ref: Option<KeyRef>,
}

/// A key of a Secret or ConfigMap.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KeyRef {
    /// Name of the object.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Key in it.
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}
