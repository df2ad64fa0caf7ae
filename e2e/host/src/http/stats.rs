//! What the stand-in counted. These routes do not exist in the real host; they need no credential.

use std::sync::Arc;

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::host::Host;

/// The counters and what the instance is.
pub(super) async fn stats(State(host): State<Arc<Host>>) -> Response {
    super::json(&snapshot(&host))
}

/// Forgets the past; what runs now stays counted.
pub(super) async fn reset(State(host): State<Arc<Host>>) -> StatusCode {
    host.activity.reset();
    StatusCode::NO_CONTENT
}

/// Where the list of runs begins.
#[derive(Deserialize)]
pub(super) struct From {
    #[serde(default)]
    from: usize,
}

/// Names of the HTTP requests that ran here (header `x-standin-request`), in order. `process` tells two processes of one pod apart.
pub(super) async fn runs(State(host): State<Arc<Host>>, Query(from): Query<From>) -> Response {
    super::json(&json!({
        "process": host.process,
        "from": from.from,
        "names": host.activity.names(from.from),
    }))
}

/// The counters as JSON: the answer of `/standin/stats` and the last line of the log.
pub fn snapshot(host: &Host) -> Value {
    let listening: Vec<&str> = host
        .functions
        .iter()
        .filter(|function| function.is_listening)
        .map(|function| function.name.as_str())
        .collect();
    json!({
        "standin": true,
        "instance": host.instance,
        "hostId": host.host_id.text(),
        "state": host.status().state.name(),
        "draining": host.generation().is_draining(),
        "uptimeMs": u64::try_from(host.started.elapsed().as_millis()).unwrap_or(u64::MAX),
        "process": host.activity.process(),
        "functions": host.activity.functions(),
        "listening": listening,
        "listeners": host.reports.all(),
    })
}
