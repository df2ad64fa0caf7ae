//! Requests as spans, sent by OTLP in batches. Nobody waits for it: what finds no place is dropped and counted.

use std::{path::Path, sync::Arc, time::Duration};

use maniple_front::{
    cold::PHASES,
    observe::{End, Record, Spans},
};
use opentelemetry::{
    InstrumentationScope, KeyValue,
    trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState},
};
use opentelemetry_otlp::{SpanExporter as OtlpExporter, WithExportConfig, WithTonicConfig};
use opentelemetry_sdk::{
    Resource,
    trace::{SpanData, SpanEvents, SpanExporter as _, SpanLinks},
};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};
use tokio::{sync::mpsc, time::timeout};
use tokio_util::sync::CancellationToken;
use tonic::transport::{Certificate, ClientTlsConfig};

use super::FrontError;

/// Spans that wait to be sent.
const QUEUE: usize = 8192;
/// Most spans in one message.
const BATCH: usize = 512;
/// How long the first span of a batch waits for others.
const PAUSE: Duration = Duration::from_secs(1);
/// Limit for one message, attempts included.
const SEND: Duration = Duration::from_secs(10);
/// The same for each message at the end of the process.
const LAST: Duration = Duration::from_secs(1);

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfResult {
    result: &'static str,
}

/// What became of spans.
#[derive(Clone, Debug, Default)]
pub(super) struct SpanMetrics(Family<OfResult, Counter>);

impl SpanMetrics {
    /// Adds them to `registry`.
    pub(super) fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "front_spans",
            "Spans of requests, by result: sent, failed or dropped",
            metrics.0.clone(),
        );
        metrics
    }

    fn add(&self, result: &'static str, count: usize) {
        self.0
            .get_or_create(&OfResult { result })
            .inc_by(count as u64);
    }
}

/// Where requests leave their spans.
#[derive(Debug)]
pub(super) struct Queue {
    to: mpsc::Sender<SpanData>,
    scope: InstrumentationScope,
    metrics: SpanMetrics,
}

/// Sends them.
#[derive(Debug)]
pub(super) struct Sender {
    spans: mpsc::Receiver<SpanData>,
    exporter: OtlpExporter,
    metrics: SpanMetrics,
}

/// Both ends of the way to the collector at `endpoint`, whose certificate is of `ca` when that is an `https` one. Nothing is connected yet: a
/// collector that is away is no reason not to serve.
pub(super) async fn open(
    endpoint: &str,
    ca: Option<&Path>,
    metrics: SpanMetrics,
) -> Result<(Arc<Queue>, Sender), FrontError> {
    let mut builder = OtlpExporter::builder()
        .with_tonic()
        .with_endpoint(endpoint)
        .with_timeout(SEND);
    if let Some(path) = ca {
        let pem = tokio::fs::read(path).await;
        let pem = pem.map_err(|source| FrontError::TlsFile {
            path: path.to_owned(),
            source,
        })?;
        let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem));
        builder = builder.with_tls_config(tls);
    }
    let mut exporter = builder
        .build()
        .map_err(|error| FrontError::Spans(error.to_string()))?;
    let version = env!("CARGO_PKG_VERSION");
    exporter.set_resource(
        &Resource::builder_empty()
            .with_attributes([
                KeyValue::new("service.name", "maniple-front"),
                KeyValue::new("service.version", version),
            ])
            .build(),
    );
    let (to, spans) = mpsc::channel(QUEUE);
    let queue = Queue {
        to,
        scope: InstrumentationScope::builder("maniple-front")
            .with_version(version)
            .build(),
        metrics: metrics.clone(),
    };
    let sender = Sender {
        spans,
        exporter,
        metrics,
    };
    Ok((Arc::new(queue), sender))
}

impl Spans for Queue {
    fn take(&self, record: &Record) {
        match self.to.try_reserve() {
            Ok(place) => {
                if let Some(span) = span(record, &self.scope) {
                    place.send(span);
                }
            }
            Err(_) => self.metrics.add("dropped", 1),
        }
    }
}

impl Sender {
    /// Sends until `stop`, then what is left.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut told = false;
        loop {
            let mut batch = Vec::with_capacity(BATCH);
            let some = self.spans.recv_many(&mut batch, BATCH);
            if !matches!(stop.run_until_cancelled(some).await, Some(1..)) {
                break;
            }
            // Others that end soon go along.
            let more = async {
                while batch.len() < BATCH {
                    let room = BATCH - batch.len();
                    if self.spans.recv_many(&mut batch, room).await == 0 {
                        return;
                    }
                }
            };
            timeout(PAUSE, stop.run_until_cancelled(more)).await.ok();
            self.send(batch, SEND, &mut told).await;
        }
        self.spans.close();
        let mut rest = Vec::new();
        while self.spans.recv_many(&mut rest, BATCH).await > 0 {
            self.send(std::mem::take(&mut rest), LAST, &mut told).await;
        }
    }

    async fn send(&self, batch: Vec<SpanData>, limit: Duration, told: &mut bool) {
        let count = batch.len();
        let error = match timeout(limit, self.exporter.export(batch)).await {
            Ok(Ok(())) => {
                *told = false;
                return self.metrics.add("sent", count);
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {limit:?}"),
        };
        self.metrics.add("failed", count);
        // A collector that is away is told of once.
        if !std::mem::replace(told, true) {
            tracing::warn!(error, count, "spans cannot be sent and are lost");
        }
    }
}

/// Methods that a span may be named by; others are of the client's making.
const METHODS: [&str; 9] = [
    "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH",
];

/// By the semantic conventions of HTTP server spans.
fn span(record: &Record, scope: &InstrumentationScope) -> Option<SpanData> {
    let trace = record.trace?;
    let context = SpanContext::new(
        TraceId::from(trace.trace),
        SpanId::from(trace.span),
        TraceFlags::SAMPLED,
        false,
        TraceState::default(),
    );
    let method = METHODS
        .iter()
        .find(|known| **known == record.method.as_str());
    let version = format!("{:?}", record.version);
    let mut attributes = vec![
        KeyValue::new("http.request.method", *method.unwrap_or(&"_OTHER")),
        KeyValue::new("url.scheme", record.scheme.as_str()),
        KeyValue::new("url.path", record.path.clone()),
        KeyValue::new("server.address", record.host.clone()),
        KeyValue::new("client.address", record.peer.to_string()),
        KeyValue::new(
            "network.protocol.version",
            version
                .trim_start_matches("HTTP/")
                .trim_end_matches(".0")
                .to_owned(),
        ),
        KeyValue::new("http.response.body.size", number(record.bytes)),
        KeyValue::new("maniple.group", record.group.clone()),
        KeyValue::new("maniple.wait_ms", milliseconds(record.waited)),
    ];
    if let Some(status) = record.status {
        let status = i64::from(status.as_u16());
        attributes.push(KeyValue::new("http.response.status_code", status));
    }
    if let Some(uid) = record.instance {
        let uid = format!("{:032x}", uid.0);
        attributes.push(KeyValue::new("maniple.instance", uid));
    }
    if let Some(phases) = &record.cold {
        for (phase, took) in PHASES.iter().zip(phases.durations()) {
            let name = format!("maniple.cold_start.{phase}_ms");
            attributes.push(KeyValue::new(name, milliseconds(took)));
        }
    }
    let failed = record.status.is_some_and(|status| status.is_server_error());
    let error = match (record.category, record.end) {
        (_, End::ByClient) => Some("client-left"),
        (_, End::ByInstance) => Some("response-broken"),
        (Some(category), End::Complete) if failed => Some(category),
        (_, End::Complete) if failed => Some("instance-error"),
        (_, End::Complete) => None,
    };
    if let Some(error) = error {
        attributes.push(KeyValue::new("error.type", error));
    }
    Some(SpanData {
        span_context: context,
        parent_span_id: trace.parent.map_or(SpanId::INVALID, SpanId::from),
        parent_span_is_remote: trace.parent.is_some(),
        span_kind: SpanKind::Server,
        name: method.copied().unwrap_or("HTTP").into(),
        start_time: record.began,
        end_time: record.began + record.took(),
        attributes,
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        // A client that leaves is no error of the server.
        status: match error {
            Some(error) if record.end != End::ByClient => Status::error(error),
            _ => Status::Unset,
        },
        instrumentation_scope: scope.clone(),
    })
}

fn number(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn milliseconds(time: Duration) -> f64 {
    time.as_micros() as f64 / 1e3
}
