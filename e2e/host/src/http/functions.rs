//! Requests to HTTP functions.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};

use super::throttle;
use super::{code, credentials, now, unauthorized};
use crate::auth::Admission;
use crate::function::{Function, HttpTrigger, Trigger};
use crate::host::Host;
use crate::invoke::InvokeError;
use crate::work::{Input, Reply};

/// Answers a request to a function; unknown routes and wrong methods are 404.
pub(super) async fn serve(State(host): State<Arc<Host>>, request: Request) -> Response {
    let Some((function, trigger)) = find(&host, request.method(), request.uri().path()) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let code = code(request.uri());
    let credentials = credentials(request.headers(), code.as_deref());
    if host
        .authorizer
        .function(&trigger.auth_level, credentials, now())
        != Admission::Granted
    {
        return unauthorized();
    }
    if let Some(name) = request.headers().get("x-standin-request")
        && let Ok(name) = name.to_str()
    {
        host.activity.ran(name);
    }
    match host.invoke(function, Input::Http(request)).await {
        Ok((reply, running)) => {
            let in_flight = running.in_flight;
            let in_flight_of_function = running.in_flight_of_function;
            let response = match reply {
                Reply::Http(response) => response,
                Reply::Done => StatusCode::NO_CONTENT.into_response(),
            };
            let mut response = response.map(|body| throttle::hold(body, running));
            let headers = response.headers_mut();
            if let Ok(instance) = HeaderValue::from_str(&host.instance) {
                headers.insert("x-standin-instance", instance);
            }
            headers.insert("x-standin-in-flight", HeaderValue::from(in_flight));
            headers.insert(
                "x-standin-in-flight-of-function",
                HeaderValue::from(in_flight_of_function),
            );
            response
        }
        // A worker that was replaced never answers; the client waits until it gives up.
        Err(InvokeError::Lost) => std::future::pending().await,
        Err(error) => {
            tracing::error!(function = function.name, "{error}");
            (StatusCode::INTERNAL_SERVER_ERROR, Body::empty()).into_response()
        }
    }
}

fn find<'a>(
    host: &'a Host,
    method: &Method,
    path: &str,
) -> Option<(&'a Arc<Function>, &'a HttpTrigger)> {
    let path = below_prefix(path, &host.http.route_prefix)?;
    let path = percent_decoded(path);
    host.functions
        .iter()
        .filter(|function| function.is_routed())
        .filter_map(|function| match &function.trigger {
            Trigger::Http(trigger) => Some((function, trigger)),
            _ => None,
        })
        .filter(|(_, trigger)| {
            trigger.methods.is_empty()
                || trigger
                    .methods
                    .iter()
                    .any(|allowed| allowed == method.as_str())
        })
        .filter(|(_, trigger)| trigger.route.matches(&path))
        .max_by_key(|(_, trigger)| trigger.route.rank())
}

fn below_prefix<'a>(path: &'a str, prefix: &str) -> Option<&'a str> {
    let path = path.trim_start_matches('/');
    if prefix.is_empty() {
        return Some(path);
    }
    let (head, rest) = path.split_at_checked(prefix.len())?;
    (head.eq_ignore_ascii_case(prefix) && (rest.is_empty() || rest.starts_with('/')))
        .then_some(rest)
}

fn percent_decoded(path: &str) -> String {
    if !path.contains('%') {
        return path.to_owned();
    }
    let bytes = path.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escape = (bytes[at] == b'%')
            .then(|| path.get(at + 1..at + 3))
            .flatten()
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        if let Some(byte) = escape {
            decoded.push(byte);
            at += 3;
        } else {
            decoded.push(bytes[at]);
            at += 1;
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}
