//! How requests from outside reach the group `http`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Routing and limits of HTTP requests.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Http {
    /// Own host names; `<app>.<namespace>.<domain>` always works beside them. `*.` at the beginning is not supported.
    #[schemars(length(max = 32), inner(length(min = 1, max = 253)))]
    #[schemars(extend("x-kubernetes-list-type" = "set", "x-kubernetes-validations" = [{
        "rule": "self.all(h, h.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$'))",
        "message": "http.hosts must be lower-case DNS names without port or wildcard"
    }]))]
    pub hosts: Vec<String>,

    /// Path prefixes on those hosts; the longest match wins. All paths when empty.
    #[schemars(length(max = 32), inner(length(min = 1, max = 512)))]
    #[schemars(extend("x-kubernetes-list-type" = "set", "x-kubernetes-validations" = [{
        "rule": "self.all(p, p.startsWith('/'))",
        "message": "http.pathPrefixes must begin with '/'"
    }]))]
    pub path_prefixes: Vec<String>,

    /// Longest time from the request to the end of the response, in seconds. Azure's is 230.
    #[schemars(range(min = 1, max = 86400))]
    pub request_timeout_seconds: i32,

    /// Requests that wait for an instance.
    pub waiting_room: WaitingRoom,
}

impl Default for Http {
    fn default() -> Self {
        Self {
            hosts: Vec::new(),
            path_prefixes: Vec::new(),
            request_timeout_seconds: 230,
            waiting_room: WaitingRoom::default(),
        }
    }
}

/// Bounds of the requests that wait for an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct WaitingRoom {
    /// Most requests of the app that wait in one front end; more are answered with 429.
    #[schemars(range(min = 0, max = 100_000))]
    pub max_requests: i32,
    /// Longest wait of one request in seconds; then it is answered with 503.
    #[schemars(range(min = 0, max = 3600))]
    pub max_seconds: i32,
}

impl Default for WaitingRoom {
    fn default() -> Self {
        Self {
            max_requests: 1000,
            max_seconds: 120,
        }
    }
}
