//! The HTTP side of the host: routes, the header that marks the stand-in, the rules of availability.

mod admin;
mod functions;
pub mod route;
pub mod serve;
mod stats;

pub use stats::snapshot;
pub mod throttle;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{any, get, post};
use serde::Serialize;

use crate::STANDIN_HEADER;
use crate::auth::{Admission, Credentials};
use crate::host::{Host, HostState};

/// How long a request is held while a running host starts its app anew (HostTimeoutSeconds).
const HOLD_LIMIT: Duration = Duration::from_secs(30);

/// All routes of the host.
pub fn router(host: Arc<Host>) -> Router {
    let health = if host.faults.no_health {
        Router::new()
    } else {
        Router::new()
            .route("/runtime/health", get(health_ready))
            .route("/runtime/health/ready", get(health_ready))
            .route("/runtime/health/live", get(|| async { healthy() }))
    };
    let open = Router::new()
        .route("/admin/host/ping", get(ping).post(ping))
        .route("/standin/stats", get(stats::stats))
        .route("/standin/runs", get(stats::runs))
        .route("/standin/stats/reset", post(stats::reset));
    let guarded = Router::new()
        .route("/", get(home))
        .fallback(functions::serve)
        .layer(middleware::from_fn_with_state(Arc::clone(&host), available));
    Router::new()
        .merge(health)
        .merge(open)
        .merge(admin::routes())
        .route("/admin/{*rest}", any(not_found))
        .route("/runtime/{*rest}", any(not_found))
        .method_not_allowed_fallback(not_found)
        .fallback_service(guarded.with_state(Arc::clone(&host)))
        .layer(middleware::map_response(mark))
        .with_state(host)
}

async fn mark(mut response: Response) -> Response {
    response.headers_mut().insert(
        STANDIN_HEADER,
        HeaderValue::from_static(concat!("maniple/", env!("CARGO_PKG_VERSION"))),
    );
    response.headers_mut().insert(
        header::SERVER,
        HeaderValue::from_static("function-host-standin"),
    );
    response
}

/// Everything but the admin API: 503 in state Error, held while the app starts anew, limited by host.json.
async fn available(State(host): State<Arc<Host>>, request: Request, next: Next) -> Response {
    if !host.wait_loaded(HOLD_LIMIT).await {
        return not_running();
    }
    let Some(admitted) = host.throttle.admit().await else {
        return (
            StatusCode::TOO_MANY_REQUESTS,
            [("X-FUNCTION-SCALEOUT", "1")],
            Body::empty(),
        )
            .into_response();
    };
    next.run(request)
        .await
        .map(|body| throttle::hold(body, admitted))
}

fn not_running() -> Response {
    (
        StatusCode::SERVICE_UNAVAILABLE,
        "Function host is not running.",
    )
        .into_response()
}

async fn not_found() -> StatusCode {
    StatusCode::NOT_FOUND
}

async fn home(State(host): State<Arc<Host>>) -> Response {
    let is_off = host
        .settings
        .get("AzureWebJobsDisableHomepage")
        .is_some_and(|value| value.eq_ignore_ascii_case("true"));
    if is_off {
        return StatusCode::NO_CONTENT.into_response();
    }
    Html(
        "<!DOCTYPE html><title>Function host stand-in</title>\
         <p>This is a stand-in for the Azure Functions host, for tests. It is up and running.",
    )
    .into_response()
}

async fn ping() -> Response {
    (
        StatusCode::OK,
        [
            (header::CACHE_CONTROL, "no-store,no-cache"),
            (header::PRAGMA, "no-cache"),
        ],
        Body::empty(),
    )
        .into_response()
}

fn healthy() -> Response {
    json(&serde_json::json!({ "status": "Healthy" }))
}

async fn health_ready(State(host): State<Arc<Host>>) -> Response {
    let status = host.status();
    if status.state == HostState::Running && status.is_loaded {
        return healthy();
    }
    let mut response = json(&serde_json::json!({ "status": "Unhealthy" }));
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    response
}

/// A JSON answer with the content type that the host uses.
fn json(value: &impl Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(text) => (
            [(header::CONTENT_TYPE, "application/json; charset=utf-8")],
            text,
        )
            .into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// Seconds since 1970.
fn now() -> f64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0.0, |time| time.as_secs_f64())
}

/// The credentials of a request. The parameter `code` must outlive them, so it is given by the caller.
fn credentials<'a>(headers: &'a HeaderMap, code: Option<&'a str>) -> Credentials<'a> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    Credentials {
        key: text("x-functions-key").or(code),
        token: text("x-ms-site-token").or_else(|| {
            let (scheme, token) = text("authorization")?.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then_some(token)
        }),
        through_front_end: headers.contains_key("x-arr-log-id"),
    }
}

/// The query parameter `code`.
fn code(uri: &Uri) -> Option<String> {
    let axum::extract::Query(pairs) =
        axum::extract::Query::<Vec<(String, String)>>::try_from_uri(uri).ok()?;
    pairs
        .into_iter()
        .find_map(|(name, value)| (name == "code").then_some(value))
}

fn unauthorized() -> Response {
    (
        StatusCode::UNAUTHORIZED,
        [(header::WWW_AUTHENTICATE, "Bearer")],
    )
        .into_response()
}

/// Proof that the caller may use the admin API.
struct AdminRights;

impl FromRequestParts<Arc<Host>> for AdminRights {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, host: &Arc<Host>) -> Result<Self, Response> {
        let code = code(&parts.uri);
        let credentials = credentials(&parts.headers, code.as_deref());
        match host.authorizer.admin(credentials, now()) {
            Admission::Granted => Ok(Self),
            Admission::Forbidden => Err(StatusCode::FORBIDDEN.into_response()),
            Admission::Unauthorized => Err(unauthorized()),
        }
    }
}

/// Proof that the host serves: admin routes that need the app wait for it and answer 503 in state Error.
struct AppLoaded;

impl FromRequestParts<Arc<Host>> for AppLoaded {
    type Rejection = Response;

    async fn from_request_parts(_: &mut Parts, host: &Arc<Host>) -> Result<Self, Response> {
        if host.wait_loaded(HOLD_LIMIT).await {
            Ok(Self)
        } else {
            Err(not_running())
        }
    }
}
