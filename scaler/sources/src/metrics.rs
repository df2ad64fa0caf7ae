//! Counters of the sources, to be registered with the process's metrics.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::storage::Operation;

/// Upper bounds in seconds: a near account answers in milliseconds, the limit is 5 s.
const SECONDS: [f64; 10] = [0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RequestLabels {
    operation: &'static str,
    outcome: &'static str,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OperationLabels {
    operation: &'static str,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct PollLabels {
    source: &'static str,
    outcome: &'static str,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct SourceLabels {
    source: &'static str,
}

/// What the sources count. All labels come from closed sets (operation, outcome category, kind of source). Clones share the numbers.
#[derive(Debug, Clone)]
pub struct SourceMetrics {
    requests: Family<RequestLabels, Counter>,
    request_seconds: Family<OperationLabels, Histogram, fn() -> Histogram>,
    polls: Family<PollLabels, Counter>,
    pollers: Family<SourceLabels, Gauge>,
}

impl Default for SourceMetrics {
    fn default() -> Self {
        Self {
            requests: Family::default(),
            request_seconds: Family::new_with_constructor(|| Histogram::new(SECONDS)),
            polls: Family::default(),
            pollers: Family::default(),
        }
    }
}

impl SourceMetrics {
    /// Adds the metrics to a registry (give it the prefix of the process).
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "storage_requests",
            "Storage requests by operation and outcome (ok or error category)",
            self.requests.clone(),
        );
        registry.register_with_unit(
            "storage_request",
            "Time from signing a storage request to its complete answer",
            Unit::Seconds,
            self.request_seconds.clone(),
        );
        registry.register(
            "source_polls",
            "Polls of event sources by kind and outcome (ok or error category)",
            self.polls.clone(),
        );
        registry.register(
            "source_pollers",
            "Running poll tasks by kind; subscribers of the same source share one",
            self.pollers.clone(),
        );
    }

    /// Storage requests so far with this operation and outcome (`ok` or an error category).
    pub fn requests(&self, operation: Operation, outcome: &'static str) -> u64 {
        let labels = RequestLabels {
            operation: operation.as_str(),
            outcome,
        };
        self.requests
            .get(&labels)
            .map_or(0, |counter| counter.get())
    }

    /// Running poll tasks of a kind of source.
    pub fn pollers(&self, source: &'static str) -> i64 {
        self.pollers
            .get(&SourceLabels { source })
            .map_or(0, |gauge| gauge.get())
    }

    pub(crate) fn request(&self, operation: Operation, outcome: &'static str, took: Duration) {
        let operation = operation.as_str();
        self.requests
            .get_or_create(&RequestLabels { operation, outcome })
            .inc();
        self.request_seconds
            .get_or_create(&OperationLabels { operation })
            .observe(took.as_secs_f64());
    }

    pub(crate) fn poll(&self, source: &'static str, outcome: &'static str) {
        self.polls
            .get_or_create(&PollLabels { source, outcome })
            .inc();
    }

    pub(crate) fn poller_started(&self, source: &'static str) -> PollerGuard {
        let gauge = self.pollers.get_or_create(&SourceLabels { source }).clone();
        gauge.inc();
        PollerGuard(gauge)
    }
}

/// Counts one running poll task until it is dropped.
#[derive(Debug)]
pub(crate) struct PollerGuard(Gauge);

impl Drop for PollerGuard {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_labels() {
        let metrics = SourceMetrics::default();
        let mut registry = Registry::with_prefix("maniple");
        metrics.register(&mut registry);
        metrics.request(Operation::QueuePeek, "ok", Duration::from_millis(7));
        metrics.request(Operation::QueuePeek, "timeout", Duration::from_secs(5));
        metrics.poll("storage_queue", "ok");
        let guard = metrics.poller_started("storage_queue");
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).expect("encodes");
        for line in [
            r#"maniple_storage_requests_total{operation="queue_peek",outcome="ok"} 1"#,
            r#"maniple_storage_requests_total{operation="queue_peek",outcome="timeout"} 1"#,
            r#"maniple_storage_request_seconds_count{operation="queue_peek"} 2"#,
            r#"maniple_source_polls_total{source="storage_queue",outcome="ok"} 1"#,
            r#"maniple_source_pollers{source="storage_queue"} 1"#,
        ] {
            assert!(text.contains(line), "{line} is missing in\n{text}");
        }
        drop(guard);
        assert_eq!(metrics.pollers("storage_queue"), 0);
        assert_eq!(metrics.requests(Operation::QueuePeek, "ok"), 1);
    }
}
