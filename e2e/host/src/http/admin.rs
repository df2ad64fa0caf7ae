//! The admin API, as recorded from the real host.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::{Map, Value, json};

use super::{AdminRights, AppLoaded, json};
use crate::PLAYED_VERSION;
use crate::host::Host;
use crate::sync;
use crate::work::Input;

pub(super) fn routes() -> Router<Arc<Host>> {
    Router::new()
        .route("/admin/host/status", get(status))
        .route("/admin/host/config", get(config))
        .route("/admin/host/processes", get(processes))
        .route("/admin/host/keys", get(keys))
        .route("/admin/host/functionkeys", get(keys))
        .route("/admin/host/systemkeys", get(system_keys))
        .route("/admin/host/drain", post(drain))
        .route("/admin/host/drain/status", get(drain_status))
        .route("/admin/host/resume", post(resume))
        .route("/admin/host/restart", post(restart))
        .route("/admin/host/scale/status", post(scale_status))
        .route("/admin/host/synctriggers", post(sync_triggers))
        .route("/admin/functions", get(functions))
        .route("/admin/functions/{name}", get(function).post(run))
        .route("/admin/functions/{name}/status", get(function_status))
        .route("/admin/instance/info", get(instance_info))
        .route(
            "/admin/instance/http-health",
            get(|_: AdminRights| async {}),
        )
}

async fn status(_: AdminRights, State(host): State<Arc<Host>>) -> Response {
    let status = host.status();
    let mut answer = json!({
        "id": host.host_id.text(),
        "state": status.state.name(),
        "version": format!("{PLAYED_VERSION}.0"),
        "versionDetails": format!("{PLAYED_VERSION} (played by a stand-in)"),
        "platformVersion": "",
        "instanceId": host.environment.get("WEBSITE_INSTANCE_ID")
            .or_else(|| host.environment.get("WEBSITE_POD_NAME")).unwrap_or_default(),
        "computerName": "",
        "processUptime": u64::try_from(host.started.elapsed().as_millis()).unwrap_or(u64::MAX),
        "functionAppContentEditingState": "Unknown",
    });
    if !status.errors.is_empty() {
        answer["errors"] = json!(status.errors);
    }
    json(&answer)
}

async fn config(_: AdminRights, _: AppLoaded, State(host): State<Arc<Host>>) -> Response {
    match host.config() {
        Ok(config) => (
            [(header::CONTENT_TYPE, "text/plain; charset=utf-8")],
            config.to_string(),
        )
            .into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn processes(_: AdminRights) -> Response {
    json(&json!({ "processes": [{
        "processId": std::process::id(),
        "processName": "function-host-standin",
        "debugEngine": "",
        "isEligibleForOpenInBrowser": false,
    }]}))
}

async fn keys(_: AdminRights, State(host): State<Arc<Host>>) -> Response {
    let keys: Vec<Value> = host
        .authorizer
        .function_key()
        .iter()
        .map(|key| json!({ "name": "default", "value": key }))
        .collect();
    json(&json!({ "keys": keys, "links": [] }))
}

async fn system_keys(_: AdminRights) -> Response {
    json(&json!({ "keys": [], "links": [] }))
}

async fn drain(_: AdminRights, _: AppLoaded, State(host): State<Arc<Host>>) -> StatusCode {
    host.drain().await;
    StatusCode::ACCEPTED
}

async fn drain_status(_: AdminRights, State(host): State<Arc<Host>>) -> Response {
    if !host.status().is_loaded {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let outstanding = host.activity.in_flight();
    let state = match (host.generation().is_draining(), outstanding) {
        (false, _) => "Disabled",
        (true, 0) => "Completed",
        (true, _) => "InProgress",
    };
    json(&json!({
        "state": state,
        "outstandingInvocations": outstanding,
        "outstandingRetries": 0,
    }))
}

async fn resume(_: AdminRights, State(host): State<Arc<Host>>) -> Response {
    if host.resume().await {
        json(&json!({ "state": host.status().state.name() }))
    } else {
        StatusCode::CONFLICT.into_response()
    }
}

async fn restart(_: AdminRights, State(host): State<Arc<Host>>) -> Response {
    let answer = json(&json!({
        "isSelfHost": false,
        "scriptPath": host.script_root,
        "logPath": "",
        "isDefaultHostConfig": false,
        "isFileSystemReadOnly": true,
    }));
    tokio::spawn(async move { host.restart().await });
    answer
}

async fn scale_status(
    _: AdminRights,
    State(host): State<Arc<Host>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let no_store = [
        (header::CACHE_CONTROL, "no-store,no-cache"),
        (header::PRAGMA, "no-cache"),
    ];
    if !is_json(&headers) && !body.is_empty() {
        return StatusCode::UNSUPPORTED_MEDIA_TYPE.into_response();
    }
    let text = if host.environment.is_runtime_scale_monitoring() {
        "The stand-in has no scale monitoring."
    } else {
        "Runtime scale monitoring is not enabled."
    };
    (StatusCode::BAD_REQUEST, no_store, text).into_response()
}

fn is_json(headers: &HeaderMap) -> bool {
    headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|kind| kind.to_ascii_lowercase().contains("json"))
}

async fn sync_triggers(_: AdminRights, _: AppLoaded, State(host): State<Arc<Host>>) -> Response {
    match sync::send(&host).await {
        Ok(()) => json(&json!({ "status": "success" })),
        Err(error) => {
            let mut response = json(&json!({ "status": error.answer() }));
            *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            tracing::warn!(category = error.category(), "{error}");
            response
        }
    }
}

async fn functions(
    _: AdminRights,
    _: AppLoaded,
    State(host): State<Arc<Host>>,
    headers: HeaderMap,
) -> Response {
    let base = sync::site_url(&host).unwrap_or_else(|| base_url(&headers));
    let list: Vec<Value> = host
        .functions
        .iter()
        .map(|function| host.metadata(function, &base))
        .collect();
    json(&list)
}

async fn function(
    _: AdminRights,
    _: AppLoaded,
    State(host): State<Arc<Host>>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Response {
    match host.function(&name) {
        Some(function) => json(&host.metadata(function, &base_url(&headers))),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

fn base_url(headers: &HeaderMap) -> String {
    let authority = headers
        .get(header::HOST)
        .and_then(|value| value.to_str().ok());
    format!("http://{}", authority.unwrap_or("localhost"))
}

async fn function_status(
    _: AdminRights,
    _: AppLoaded,
    State(host): State<Arc<Host>>,
    Path(name): Path<String>,
) -> Response {
    match host.function(&name) {
        Some(function) if !function.errors.is_empty() => {
            json(&json!({ "errors": function.errors }))
        }
        Some(function) if function.is_loaded => json(&Map::new()),
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn run(
    _: AdminRights,
    _: AppLoaded,
    State(host): State<Arc<Host>>,
    Path(name): Path<String>,
    body: Bytes,
) -> StatusCode {
    let Some(function) = host.function(&name).filter(|function| function.is_loaded) else {
        return StatusCode::NOT_FOUND;
    };
    let input = serde_json::from_slice::<Value>(&body)
        .ok()
        .and_then(|body| Some(body.get("input")?.as_str()?.to_owned()));
    let function = Arc::clone(function);
    tokio::spawn({
        let host = Arc::clone(&host);
        async move {
            if !function.errors.is_empty() {
                tracing::error!(
                    function = function.name,
                    "a function with indexing errors cannot run"
                );
            } else if let Err(error) = host.invoke(&function, Input::Manual(input)).await {
                tracing::error!(function = function.name, "{error}");
            }
        }
    });
    StatusCode::ACCEPTED
}

async fn instance_info(_: AdminRights) -> Response {
    json(&json!({ "FUNCTIONS_EXTENSION_VERSION": format!("{PLAYED_VERSION}.0") }))
}
