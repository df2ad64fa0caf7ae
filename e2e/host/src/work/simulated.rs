//! Functions that do what their description says: wait, compute, answer, fail.

use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use futures::future::BoxFuture;
use futures::stream;
use serde_json::{Map, Value, json};

use super::{AnswerMode, FunctionWork, Input, Invocation, Reply, WorkDescription, WorkError};

/// Largest body that a request may ask for, in bytes.
const MAX_BODY_BYTES: usize = 256 << 20;

/// Runs functions by their [`WorkDescription`]. Requests and messages may ask for other values.
#[derive(Debug, Clone, Copy, Default)]
pub struct SimulatedWork;

impl FunctionWork for SimulatedWork {
    fn run(&self, invocation: Invocation) -> BoxFuture<'_, Result<Reply, WorkError>> {
        Box::pin(run(invocation))
    }
}

async fn run(invocation: Invocation) -> Result<Reply, WorkError> {
    let mut work = invocation.function.work.clone();
    let mut is_asked_to_fail = false;
    match &invocation.input {
        Input::Http(request) => {
            for (name, value) in query(request) {
                is_asked_to_fail |= apply(&mut work, &name, &value);
            }
        }
        Input::Queue(message) => {
            let text = String::from_utf8_lossy(&message.body);
            if work
                .fail_if_contains
                .as_ref()
                .is_some_and(|mark| text.contains(mark))
            {
                is_asked_to_fail = true;
            }
            if let Ok(Value::Object(members)) = serde_json::from_str(&text) {
                for (name, value) in &members {
                    let value = value
                        .as_str()
                        .map_or_else(|| value.to_string(), str::to_owned);
                    is_asked_to_fail |= apply(&mut work, name, &value);
                }
            }
        }
        Input::Timer(_) | Input::Manual(_) => {}
    }
    if work.mode != AnswerMode::Stream && work.sleep_ms > 0 {
        tokio::time::sleep(Duration::from_millis(work.sleep_ms)).await;
    }
    if work.cpu_ms > 0 {
        let cpu = Duration::from_millis(work.cpu_ms);
        tokio::task::spawn_blocking(move || use_processor(cpu))
            .await
            .map_err(|error| WorkError::Broken(error.to_string()))?;
    }
    if is_asked_to_fail || (work.fail_ratio > 0.0 && fastrand::f64() < work.fail_ratio) {
        return Err(WorkError::Asked);
    }
    Ok(answer(invocation, &work))
}

/// Takes one value that the input asks for. Unknown names belong to the app and are ignored.
/// Returns whether the invocation shall fail.
fn apply(work: &mut WorkDescription, name: &str, value: &str) -> bool {
    let number = value.parse::<u64>().ok();
    match (name, number) {
        ("ms", Some(number)) => work.sleep_ms = number,
        ("cpu", Some(number)) => work.cpu_ms = number,
        ("bytes", Some(number)) => {
            work.body_bytes = usize::try_from(number)
                .unwrap_or(MAX_BODY_BYTES)
                .min(MAX_BODY_BYTES);
        }
        ("chunks", Some(number)) => work.chunks = usize::try_from(number).unwrap_or(1),
        ("status", Some(number)) => work.status = u16::try_from(number).unwrap_or(0),
        ("mode", _) => {
            work.mode = match value {
                "echo" => AnswerMode::Echo,
                "headers" => AnswerMode::Headers,
                "stream" => AnswerMode::Stream,
                _ => AnswerMode::Plain,
            };
        }
        ("fail", _) => return matches!(value, "1" | "true"),
        _ => {}
    }
    false
}

fn query(request: &Request) -> Vec<(String, String)> {
    axum::extract::Query::try_from_uri(request.uri())
        .map(|axum::extract::Query(pairs)| pairs)
        .unwrap_or_default()
}

fn answer(invocation: Invocation, work: &WorkDescription) -> Reply {
    let Input::Http(request) = invocation.input else {
        return Reply::Done;
    };
    let mut response = match work.mode {
        AnswerMode::Echo => {
            let kind = request.headers().get(header::CONTENT_TYPE).cloned();
            let mut response = Response::new(request.into_body());
            if let Some(kind) = kind {
                response.headers_mut().insert(header::CONTENT_TYPE, kind);
            }
            response
        }
        AnswerMode::Headers => json_response(&described(&request)),
        AnswerMode::Stream => Response::new(streamed(work)),
        AnswerMode::Plain if work.body_bytes > 0 => {
            Response::new(Body::from(vec![b'x'; work.body_bytes]))
        }
        AnswerMode::Plain => json_response(&json!({
            "function": invocation.function.name,
            "instance": invocation.instance,
            "invocationId": invocation.id,
            "inFlight": invocation.in_flight,
        })),
    };
    if let Ok(status) = StatusCode::from_u16(work.status)
        && work.status != 0
    {
        *response.status_mut() = status;
    }
    Reply::Http(response)
}

fn described(request: &Request) -> Value {
    let mut headers = Map::new();
    for name in request.headers().keys() {
        let values: Vec<String> = request
            .headers()
            .get_all(name)
            .iter()
            .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
            .collect();
        // Duplicate request headers reach a function joined with a comma.
        headers.insert(name.to_string(), Value::String(values.join(",")));
    }
    json!({
        "method": request.method().as_str(),
        "path": request.uri().path(),
        "query": request.uri().query().unwrap_or_default(),
        "headers": headers,
    })
}

fn json_response(value: &Value) -> Response<Body> {
    let mut response = Response::new(Body::from(value.to_string()));
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json; charset=utf-8"),
    );
    response
}

fn streamed(work: &WorkDescription) -> Body {
    let piece = Bytes::from(vec![b'x'; work.body_bytes.max(1)]);
    let pause = Duration::from_millis(work.sleep_ms);
    let pieces = work.chunks.max(1);
    Body::from_stream(stream::unfold(0, move |sent| {
        let piece = piece.clone();
        async move {
            if sent == pieces {
                return None;
            }
            if sent > 0 {
                tokio::time::sleep(pause).await;
            }
            Some((Ok::<_, std::convert::Infallible>(piece), sent + 1))
        }
    }))
}

/// Computes until this thread has used so much processor time, so that a small CPU limit makes it slow.
fn use_processor(time: Duration) {
    let begun = Instant::now();
    let used_before = thread_time();
    let mut value = 0_u64;
    loop {
        for _ in 0..20_000 {
            value = std::hint::black_box(
                value
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1),
            );
        }
        let used = match (used_before, thread_time()) {
            (Some(before), Some(now)) => now.saturating_sub(before),
            _ => begun.elapsed(),
        };
        if used >= time {
            return;
        }
    }
}

/// Processor time of this thread as the kernel keeps it. `None` where the kernel does not tell.
fn thread_time() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    Some(Duration::from_nanos(
        text.split_whitespace().next()?.parse().ok()?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_used() {
        let before = thread_time();
        use_processor(Duration::from_millis(20));
        if let (Some(before), Some(after)) = (before, thread_time()) {
            assert!(after.saturating_sub(before) >= Duration::from_millis(20));
        }
    }

    #[test]
    fn input_overrides_the_description() {
        let mut work = WorkDescription::default();
        for (name, value) in [
            ("ms", "50"),
            ("bytes", "1024"),
            ("status", "418"),
            ("mode", "echo"),
        ] {
            assert!(!apply(&mut work, name, value));
        }
        assert!(apply(&mut work, "fail", "1"));
        assert!(!apply(&mut work, "order", "17"));
        assert_eq!(
            (work.sleep_ms, work.body_bytes, work.status),
            (50, 1024, 418)
        );
        assert_eq!(work.mode, AnswerMode::Echo);
    }
}
