//! Metrics of the operator. Labels are bounded: categories and kinds, never names of objects.

use maniple_runtime::Metrics;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use std::time::Duration;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Category {
    category: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kind {
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Certificate {
    certificate: &'static str,
}

/// Counters of the operator.
#[derive(Clone, Debug)]
pub struct OperatorMetrics {
    runs: Counter,
    failures: Family<Category, Counter>,
    duration: Histogram,
    writes: Family<Kind, Counter>,
    leading: Gauge,
    watch_errors: Family<Kind, Counter>,
    last_success: Gauge,
    certificate_ends: Family<Certificate, Gauge>,
    certificate_writes: Family<Certificate, Counter>,
    certificate_failures: Family<Category, Counter>,
}

impl OperatorMetrics {
    /// Registers everything.
    pub fn register(metrics: &Metrics) -> Self {
        let own = Self {
            runs: Counter::default(),
            failures: Family::default(),
            // 1 ms to 16 s.
            duration: Histogram::new(exponential_buckets(0.001, 2.0, 15)),
            writes: Family::default(),
            leading: Gauge::default(),
            watch_errors: Family::default(),
            last_success: Gauge::default(),
            certificate_ends: Family::default(),
            certificate_writes: Family::default(),
            certificate_failures: Family::default(),
        };
        metrics.register(|registry| {
            registry.register("operator_reconciles", "Reconcile runs", own.runs.clone());
            registry.register(
                "operator_reconcile_failures",
                "Failed reconcile runs",
                own.failures.clone(),
            );
            registry.register(
                "operator_reconcile_seconds",
                "Duration of reconcile runs in seconds",
                own.duration.clone(),
            );
            registry.register(
                "operator_writes",
                "Writes to the API server by kind",
                own.writes.clone(),
            );
            registry.register(
                "operator_leading",
                "1 while this replica reconciles",
                own.leading.clone(),
            );
            registry.register(
                "operator_watch_errors",
                "Broken watches by kind; each is started again",
                own.watch_errors.clone(),
            );
            registry.register(
                "operator_last_success_timestamp_seconds",
                "When a reconcile run last succeeded, seconds since 1970; 0 when none did",
                own.last_success.clone(),
            );
            registry.register(
                "operator_certificate_end_timestamp_seconds",
                "When a certificate between front ends and scaler ends, seconds since 1970",
                own.certificate_ends.clone(),
            );
            registry.register(
                "operator_certificate_writes",
                "Writes of Secrets with certificates",
                own.certificate_writes.clone(),
            );
            registry.register(
                "operator_certificate_failures",
                "Failed looks at the certificates",
                own.certificate_failures.clone(),
            );
        });
        own
    }

    /// One finished run.
    pub fn run(&self, took: Duration, failure: Option<&'static str>) {
        self.runs.inc();
        self.duration.observe(took.as_secs_f64());
        match failure {
            Some(category) => {
                self.failures.get_or_create(&Category { category }).inc();
            }
            None => {
                self.last_success.set(jiff::Timestamp::now().as_second());
            }
        }
    }

    /// A watch of a kind broke.
    pub fn watch_error(&self, kind: &'static str) {
        self.watch_errors.get_or_create(&Kind { kind }).inc();
    }

    /// One write.
    pub fn writes(&self, kind: &'static str) {
        self.writes.get_or_create(&Kind { kind }).inc();
    }

    /// Whether this replica reconciles.
    pub fn leading(&self, leading: bool) {
        self.leading.set(i64::from(leading));
    }

    /// A certificate ends at this time, in seconds since 1970.
    pub fn certificate_ends(&self, certificate: &'static str, end: i64) {
        self.certificate_ends
            .get_or_create(&Certificate { certificate })
            .set(end);
    }

    /// A Secret with a certificate was written.
    pub fn certificate_written(&self, certificate: &'static str) {
        self.certificate_writes
            .get_or_create(&Certificate { certificate })
            .inc();
    }

    /// The certificates could not be looked after.
    pub fn certificate_failed(&self, category: &'static str) {
        self.certificate_failures
            .get_or_create(&Category { category })
            .inc();
    }
}
