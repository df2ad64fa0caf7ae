//! What an invocation does. Everything that a language worker would do stands behind [`FunctionWork`].

pub mod simulated;

use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use futures::future::BoxFuture;
use serde::Deserialize;
use serde_json::Value;

use crate::function::Function;

/// One call of a function.
#[derive(Debug)]
pub struct Invocation {
    /// Differs for every invocation.
    pub id: String,
    /// The function.
    pub function: Arc<Function>,
    /// The name of this instance.
    pub instance: String,
    /// Invocations of the process that ran when this one began, this one included.
    pub in_flight: u64,
    /// What started it.
    pub input: Input,
}

/// What started an invocation.
#[derive(Debug)]
pub enum Input {
    /// An HTTP request; its body has not been read.
    Http(Request),
    /// A message of a storage queue.
    Queue(QueueInput),
    /// A timer.
    Timer(Value),
    /// `POST /admin/functions/{name}`.
    Manual(Option<String>),
}

/// A message of a storage queue.
#[derive(Debug, Clone)]
pub struct QueueInput {
    /// The id that the queue gave to the message.
    pub message_id: String,
    /// The decoded text.
    pub body: Vec<u8>,
    /// How often it was fetched, this time included.
    pub dequeue_count: u32,
}

/// What an invocation gives back.
#[derive(Debug)]
pub enum Reply {
    /// The response to an HTTP request; the invocation runs until its body has ended.
    Http(Response<Body>),
    /// Nothing.
    Done,
}

/// The function failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WorkError {
    /// As its description asks for.
    #[error("the function failed as its definition or its input asks for")]
    Asked,
    /// It could not be run.
    #[error("the function could not be run: {0}")]
    Broken(String),
}

impl WorkError {
    /// A stable name of the kind of error.
    pub fn category(&self) -> &'static str {
        match self {
            Self::Asked => "function-failed",
            Self::Broken(_) => "function-broken",
        }
    }
}

/// Runs functions. The stand-in simulates them; a real language worker can take this place.
///
/// A call is dropped when the work is cut (restart, resume, end of the process).
pub trait FunctionWork: Send + Sync + 'static {
    /// Runs one invocation to its end.
    fn run(&self, invocation: Invocation) -> BoxFuture<'_, Result<Reply, WorkError>>;
}

/// What an HTTP function answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum AnswerMode {
    /// A small JSON object about the invocation, or `bodyBytes` bytes.
    #[default]
    Plain,
    /// The body of the request, streamed.
    Echo,
    /// Method, path, query and headers of the request as JSON.
    Headers,
    /// `chunks` pieces of `bodyBytes` bytes, `sleepMs` between them; the first at once.
    Stream,
}

/// What an invocation of a function does; part of the app definition.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct WorkDescription {
    /// Waits this long, in milliseconds, without using a core.
    pub sleep_ms: u64,
    /// Uses a core for this long, in milliseconds of processor time.
    pub cpu_ms: u64,
    /// HTTP status of the answer; 0 means 200.
    pub status: u16,
    /// Bytes of the answer; 0 means a small JSON object.
    pub body_bytes: usize,
    /// Share of the invocations that fail, 0 to 1.
    pub fail_ratio: f64,
    /// Queue messages that contain this text fail always.
    pub fail_if_contains: Option<String>,
    /// What an HTTP function answers.
    pub mode: AnswerMode,
    /// Pieces of a streamed answer; 0 means 1.
    pub chunks: usize,
}
