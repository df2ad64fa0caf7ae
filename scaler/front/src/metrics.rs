//! What the front end counts. Labels are groups, classes and categories: bounded by configuration, never by clients.

use std::{sync::Arc, time::Duration};

use http::StatusCode;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::Registry,
};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfGroup {
    group: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfClass {
    group: String,
    code: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfCategory {
    category: &'static str,
}

/// Registered once per process. Clones share the numbers.
#[derive(Clone, Debug)]
pub struct Metrics {
    requests: Family<OfClass, Counter>,
    seconds: Family<OfGroup, Histogram>,
    waited: Family<OfGroup, Histogram>,
    cold_starts: Family<OfGroup, Counter>,
    refused: Family<OfCategory, Counter>,
    upstream: Family<OfCategory, Counter>,
}

/// The numbers of one group, looked up once.
#[derive(Clone, Debug)]
pub struct GroupMetrics {
    codes: [Counter; 5],
    seconds: Histogram,
    waited: Histogram,
    cold_starts: Counter,
}

fn latency() -> Histogram {
    Histogram::new([
        0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
        230.0,
    ])
}

impl Metrics {
    /// Adds the front end's metrics to `registry`.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            requests: Family::default(),
            seconds: Family::new_with_constructor(latency),
            waited: Family::new_with_constructor(latency),
            cold_starts: Family::default(),
            refused: Family::default(),
            upstream: Family::default(),
        };
        registry.register(
            "front_requests",
            "Requests answered, by group and class of the status code",
            metrics.requests.clone(),
        );
        registry.register(
            "front_response_head_seconds",
            "From the head of a request to the head of its response, in seconds",
            metrics.seconds.clone(),
        );
        registry.register(
            "front_wait_seconds",
            "Time of waiting requests until they had a slot, in seconds",
            metrics.waited.clone(),
        );
        registry.register(
            "front_cold_starts",
            "Requests that waited while no instance of their group could serve",
            metrics.cold_starts.clone(),
        );
        registry.register(
            "front_refused",
            "Requests answered by the front end itself, by reason",
            metrics.refused.clone(),
        );
        registry.register(
            "front_upstream_errors",
            "Failures towards instances, by kind",
            metrics.upstream.clone(),
        );
        metrics
    }

    /// The numbers of one group.
    pub fn group(&self, group: &str) -> Arc<GroupMetrics> {
        let of = OfGroup {
            group: group.to_owned(),
        };
        let code = |code| {
            self.requests.get_or_create_owned(&OfClass {
                group: group.to_owned(),
                code,
            })
        };
        Arc::new(GroupMetrics {
            codes: [
                code("1xx"),
                code("2xx"),
                code("3xx"),
                code("4xx"),
                code("5xx"),
            ],
            seconds: self.seconds.get_or_create_owned(&of),
            waited: self.waited.get_or_create_owned(&of),
            cold_starts: self.cold_starts.get_or_create_owned(&of),
        })
    }

    pub(crate) fn refused(&self, category: &'static str) {
        self.refused.get_or_create(&OfCategory { category }).inc();
    }

    pub(crate) fn upstream(&self, category: &'static str) {
        self.upstream.get_or_create(&OfCategory { category }).inc();
    }
}

impl GroupMetrics {
    pub(crate) fn answered(&self, status: StatusCode, took: Duration) {
        let class = usize::from(status.as_u16() / 100).clamp(1, 5) - 1;
        self.codes[class].inc();
        self.seconds.observe(took.as_secs_f64());
    }

    pub(crate) fn waited(&self, took: Duration) {
        self.waited.observe(took.as_secs_f64());
    }

    pub(crate) fn cold_start(&self) {
        self.cold_starts.inc();
    }
}
