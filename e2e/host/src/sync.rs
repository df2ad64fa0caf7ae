//! The request with which the host tells the platform its triggers.

use serde_json::{Value, json};

use crate::auth;
use crate::group;
use crate::host::Host;

/// The service that receives the request on Kubernetes when nothing else is said.
const DEFAULT_SERVER: &str = "http://k8se-build-service.k8se-system.svc.cluster.local:8181";

/// Life of the token of the request, in seconds.
const TOKEN_LIFE_S: u64 = 300;

/// Triggers were not sent.
#[derive(Debug, thiserror::Error)]
pub enum SyncError {
    /// The host may not send in this environment.
    #[error("triggers are not sent in this environment; it needs WEBSITE_AUTH_ENCRYPTION_KEY")]
    Environment,
    /// The receiver cannot be reached or did not accept.
    #[error("triggers were not accepted by {url}: {reason}; check the receiver")]
    Receiver {
        /// Where they were sent.
        url: String,
        /// What happened.
        reason: String,
    },
}

impl SyncError {
    /// A stable name of the kind of error.
    pub fn category(&self) -> &'static str {
        match self {
            Self::Environment => "sync-environment",
            Self::Receiver { .. } => "sync-receiver",
        }
    }

    /// The text that `/admin/host/synctriggers` answers.
    pub fn answer(&self) -> &'static str {
        match self {
            Self::Environment => "Invalid environment for SyncTriggers operation.",
            Self::Receiver { .. } => "SyncTriggers operation failed.",
        }
    }
}

/// The address of the app in Azure, `https://<site>.azurewebsites.net`.
pub fn site_url(host: &Host) -> Option<String> {
    let site = host.environment.site_name()?.to_lowercase();
    Some(format!("https://{site}.azurewebsites.net"))
}

/// What is sent: triggers with their texts unresolved, host id, effective configuration, functions.
///
/// The real host adds its keys in clear text when they are kept in blobs or files; the stand-in never does.
pub fn payload(host: &Host) -> Value {
    let is_flex = host.environment.is_flex_consumption();
    let base_url = site_url(host).unwrap_or_default();
    let loaded = || host.functions.iter().filter(|function| function.is_loaded);
    let triggers: Vec<Value> = loaded()
        .filter_map(|function| {
            let mut trigger = group::sync_trigger(&function.bindings)?.clone();
            trigger["functionName"] = json!(function.name);
            if is_flex {
                trigger["functionGroup"] = json!(function.group);
            }
            Some(trigger)
        })
        .collect();
    let functions: Vec<Value> = loaded()
        .map(|function| host.metadata(function, &base_url))
        .collect();
    json!({
        "triggers": triggers,
        "hostId": host.host_id.text(),
        "hostConfig": host.config().unwrap_or_default(),
        "functions": functions,
    })
}

/// Where the request goes.
pub fn url(host: &Host) -> String {
    let environment = &host.environment;
    if environment.is_managed_app_environment() || environment.is_kubernetes_managed() {
        let server = environment
            .get("FUNCTIONS_API_SERVER")
            .or_else(|| environment.get("BUILD_SERVICE_HOSTNAME"))
            .unwrap_or(DEFAULT_SERVER);
        return format!(
            "{}/api/operations/settriggers",
            server.trim_end_matches('/')
        );
    }
    let scheme = if environment.get("SCM_SKIP_SSL_VALIDATION") == Some("1") {
        "http"
    } else {
        "https"
    };
    let name = environment.get("WEBSITE_HOSTNAME").unwrap_or("localhost");
    format!("{scheme}://{name}/operations/settriggers")
}

/// Sends the triggers, unchanged or not.
pub async fn send(host: &Host) -> Result<(), SyncError> {
    let environment = &host.environment;
    let key = environment.get("WEBSITE_AUTH_ENCRYPTION_KEY");
    let (Some(key), true) = (key, environment.is_sync_triggers_allowed()) else {
        return Err(SyncError::Environment);
    };
    let url = url(host);
    let failed = |reason: String| SyncError::Receiver {
        url: url.clone(),
        reason,
    };
    let key = auth::key_bytes(key).map_err(|error| failed(error.to_string()))?;
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |time| time.as_secs());
    let token = auth::sign(
        &key,
        &json!({
            "iss": site_url(host),
            "aud": auth::CORE_ISSUER,
            "nbf": now,
            "iat": now,
            "exp": now + TOKEN_LIFE_S,
        }),
    );
    let client = reqwest::Client::builder()
        .no_proxy()
        .build()
        .map_err(|error| failed(error.to_string()))?;
    let mut request = client
        .post(&url)
        .header("X-ARR-LOG-ID", format!("{:032x}", fastrand::u128(..)))
        .header("User-Agent", "AzureFunctionsRuntime")
        .header("x-ms-site-token", token)
        .header("Content-Type", "application/json; charset=utf-8")
        .body(payload(host).to_string());
    let names: &[(&str, &str)] = if environment.is_managed_app_environment() {
        &[
            ("K8SE-APP-NAME", "CONTAINER_APP_NAME"),
            ("K8SE-APP-NAMESPACE", "CONTAINER_APP_NAMESPACE"),
            ("K8SE-APP-REVISION", "CONTAINER_APP_REVISION"),
        ]
    } else if environment.is_kubernetes_managed() {
        &[
            ("K8SE-APP-NAME", "WEBSITE_SITE_NAME"),
            ("K8SE-APP-NAMESPACE", "POD_NAMESPACE"),
        ]
    } else {
        &[]
    };
    for (header, variable) in names {
        request = request.header(*header, environment.get(variable).unwrap_or_default());
    }
    let answer = request
        .send()
        .await
        .map_err(|error| failed(error.to_string()))?;
    if answer.status().is_success() {
        Ok(())
    } else {
        Err(failed(format!("HTTP {}", answer.status().as_u16())))
    }
}
