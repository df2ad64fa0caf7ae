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

    /// Longest time from the arrival of a request at an instance to the head of its response, and longest silence within the response after that, in seconds.
    /// Azure's is 230.
    #[schemars(range(min = 1, max = 86400))]
    pub request_timeout_seconds: i32,

    /// HTTP that instances speak on `port`. gRPC needs `H2c`.
    pub app_protocol: AppProtocol,

    /// Requests that wait for an instance.
    pub waiting_room: WaitingRoom,
}

impl Default for Http {
    fn default() -> Self {
        Self {
            hosts: Vec::new(),
            path_prefixes: Vec::new(),
            request_timeout_seconds: 230,
            app_protocol: AppProtocol::default(),
            waiting_room: WaitingRoom::default(),
        }
    }
}

/// HTTP between the front end and an instance. Clients may speak either, whatever this is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AppProtocol {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2 without TLS, with prior knowledge: what `appProtocol: kubernetes.io/h2c` means for the port of a Service (KEP-3726).
    H2c,
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
