//! What is counted about the calls.

use std::time::{Instant, SystemTime};

use maniple_runtime::Metrics;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
};
use tonic::{Code, Status};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    method: &'static str,
    code: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct MethodLabels {
    method: &'static str,
}

/// The metrics of the server; clones share them.
#[derive(Debug, Clone)]
pub(super) struct CallMetrics {
    calls: Family<CallLabels, Counter>,
    seconds: Family<MethodLabels, Histogram, fn() -> Histogram>,
    open_streams: Family<MethodLabels, Gauge>,
    pushes: Counter,
    last_poll: Gauge,
}

impl CallMetrics {
    pub(super) fn register(metrics: &Metrics) -> Self {
        // 10 µs to 2.6 s: answers come from memory, so the low end is the one that matters.
        let own = Self {
            calls: Family::default(),
            seconds: Family::new_with_constructor(|| {
                Histogram::new(exponential_buckets(1e-5, 4.0, 10))
            }),
            open_streams: Family::default(),
            pushes: Counter::default(),
            last_poll: Gauge::default(),
        };
        metrics.register(|registry| {
            let registry = registry.sub_registry_with_prefix("external_scaler");
            registry.register(
                "calls",
                "Finished calls by method and gRPC code",
                own.calls.clone(),
            );
            registry.register(
                "call_duration_seconds",
                "Time to answer a unary call",
                own.seconds.clone(),
            );
            registry.register(
                "open_streams",
                "Open streams by method",
                own.open_streams.clone(),
            );
            registry.register(
                "pushes",
                "Wake-ups sent to KEDA, repetitions included",
                own.pushes.clone(),
            );
            registry.register(
                "last_poll_timestamp_seconds",
                "When KEDA last asked for metrics, in seconds since 1970; 0 when it never did",
                own.last_poll.clone(),
            );
        });
        own
    }

    /// A unary call that began at `start` was answered.
    pub(super) fn answered<T>(
        &self,
        method: &'static str,
        start: Instant,
        answer: &Result<T, Status>,
    ) {
        self.seconds
            .get_or_create(&MethodLabels { method })
            .observe(start.elapsed().as_secs_f64());
        self.count(
            method,
            answer.as_ref().map_or_else(Status::code, |_| Code::Ok),
        );
    }

    /// KEDA asked for a value.
    pub(super) fn polled(&self) {
        let now = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        self.last_poll
            .set(i64::try_from(now.as_secs()).unwrap_or(i64::MAX));
    }

    pub(super) fn pushed(&self) {
        self.pushes.inc();
    }

    /// A call that was refused before a stream was opened.
    pub(super) fn refused(&self, method: &'static str, status: &Status) {
        self.count(method, status.code());
    }

    /// A stream was opened; it is counted as open until the guard is dropped.
    pub(super) fn opened(&self, method: &'static str) -> OpenStream {
        self.open_streams
            .get_or_create(&MethodLabels { method })
            .inc();
        OpenStream {
            metrics: self.clone(),
            method,
            ended: false,
        }
    }

    fn count(&self, method: &'static str, code: Code) {
        self.calls
            .get_or_create(&CallLabels {
                method,
                code: code_name(code),
            })
            .inc();
    }
}

/// An open stream.
#[derive(Debug)]
pub(super) struct OpenStream {
    metrics: CallMetrics,
    method: &'static str,
    ended: bool,
}

impl OpenStream {
    /// We ended it; otherwise the client did.
    pub(super) fn end(&mut self) {
        self.ended = true;
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.metrics
            .open_streams
            .get_or_create(&MethodLabels {
                method: self.method,
            })
            .dec();
        self.metrics.count(
            self.method,
            if self.ended {
                Code::Ok
            } else {
                Code::Cancelled
            },
        );
    }
}

/// The spelling of the gRPC specification.
fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::NotFound => "NOT_FOUND",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Unavailable => "UNAVAILABLE",
        Code::Unimplemented => "UNIMPLEMENTED",
        _ => "OTHER",
    }
}
