//! What the front end counts. Labels are groups, classes and categories: bounded by configuration, never by clients.
//!
//! Numbers of a group are made when its first request comes, so that idle groups cost nothing, and go with the group.

use std::{
    collections::BTreeSet,
    sync::{Arc, OnceLock},
    time::Duration,
};

use http::StatusCode;
use parking_lot::Mutex;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use crate::{
    cold::{PHASES, Phases},
    latency::Latency,
};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfGroup {
    group: Arc<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfClass {
    group: Arc<String>,
    code: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfPhase {
    group: Arc<String>,
    phase: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfCategory {
    category: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfGroupCategory {
    /// Empty for requests that belong to no group.
    group: Arc<String>,
    category: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfScheme {
    scheme: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfFolder {
    folder: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfResult {
    result: &'static str,
}

/// Classes of status codes.
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// Registered once per process. Clones share the numbers.
#[derive(Clone, Debug)]
pub struct Metrics {
    requests: Family<OfClass, Counter>,
    seconds: Family<OfGroup, Latency>,
    waited: Family<OfGroup, Latency>,
    cold_starts: Family<OfGroup, Counter>,
    phases: Family<OfPhase, Latency>,
    refused: Family<OfGroupCategory, Counter>,
    upstream: Family<OfGroupCategory, Counter>,
    /// Categories that were counted for any group.
    categories: Arc<Mutex<BTreeSet<&'static str>>>,
    connections: Family<OfScheme, Gauge>,
    handshakes: Family<OfCategory, Counter>,
    reloads: Family<OfResult, Counter>,
    ends: Family<OfFolder, Gauge>,
}

/// The numbers of one group, looked up once.
#[derive(Debug)]
pub struct GroupMetrics {
    group: Arc<String>,
    metrics: Metrics,
    requests: OnceLock<Requests>,
    waited: OnceLock<Latency>,
    cold: OnceLock<Cold>,
}

#[derive(Debug)]
struct Requests {
    codes: [Counter; CLASSES.len()],
    seconds: Latency,
}

#[derive(Debug)]
struct Cold {
    count: Counter,
    phases: [Latency; PHASES.len()],
}

impl Metrics {
    /// Adds the front end's metrics to `registry`.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            requests: Family::default(),
            seconds: Family::default(),
            waited: Family::default(),
            cold_starts: Family::default(),
            phases: Family::default(),
            refused: Family::default(),
            upstream: Family::default(),
            categories: Arc::default(),
            connections: Family::default(),
            handshakes: Family::default(),
            reloads: Family::default(),
            ends: Family::default(),
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
            "front_cold_start_seconds",
            "Wait of such requests by phase: decision, pod, address, answer, dispatch, in seconds",
            metrics.phases.clone(),
        );
        registry.register(
            "front_refused",
            "Requests answered by the front end itself, by group and reason",
            metrics.refused.clone(),
        );
        registry.register(
            "front_upstream_errors",
            "Failures towards instances, by group and kind",
            metrics.upstream.clone(),
        );
        registry.register(
            "front_connections",
            "Open client connections, by scheme",
            metrics.connections.clone(),
        );
        registry.register(
            "front_tls_handshake_failures",
            "TLS handshakes with clients that failed, by kind",
            metrics.handshakes.clone(),
        );
        registry.register(
            "front_tls_reloads",
            "Certificates towards clients that were read again, by result: ok or error",
            metrics.reloads.clone(),
        );
        registry.register(
            "front_tls_certificate_end_timestamp_seconds",
            "End of the certificate of a folder that clients get, in seconds since 1970; 0 when there is none",
            metrics.ends.clone(),
        );
        metrics
    }

    /// The numbers of one group.
    pub fn group(&self, group: &str) -> Arc<GroupMetrics> {
        Arc::new(GroupMetrics {
            group: Arc::new(group.to_owned()),
            metrics: self.clone(),
            requests: OnceLock::new(),
            waited: OnceLock::new(),
            cold: OnceLock::new(),
        })
    }

    /// Takes the numbers of a group out: it is gone.
    pub fn forget(&self, group: &str) {
        let group = Arc::new(group.to_owned());
        let of = OfGroup {
            group: group.clone(),
        };
        for code in CLASSES {
            let group = group.clone();
            self.requests.remove(&OfClass { group, code });
        }
        self.seconds.remove(&of);
        self.waited.remove(&of);
        self.cold_starts.remove(&of);
        for phase in PHASES {
            let group = group.clone();
            self.phases.remove(&OfPhase { group, phase });
        }
        for &category in self.categories.lock().iter() {
            let group = group.clone();
            let of = OfGroupCategory { group, category };
            self.refused.remove(&of);
            self.upstream.remove(&of);
        }
    }

    /// A request without a group that the front end answered itself.
    pub(crate) fn refused(&self, category: &'static str) {
        let group = Arc::default();
        self.refused
            .get_or_create(&OfGroupCategory { group, category })
            .inc();
    }

    /// A client connection is open until the guard is dropped.
    pub(crate) fn connection(&self, scheme: &'static str) -> OpenConnection {
        let gauge = self.connections.get_or_create_owned(&OfScheme { scheme });
        gauge.inc();
        OpenConnection(gauge)
    }

    pub(crate) fn handshake_failed(&self, category: &'static str) {
        self.handshakes
            .get_or_create(&OfCategory { category })
            .inc();
    }

    pub(crate) fn tls_end(&self, folder: String, end: i64) {
        self.ends.get_or_create(&OfFolder { folder }).set(end);
    }

    pub(crate) fn tls_reloads(&self, ok: usize, error: usize) {
        for (result, count) in [("ok", ok), ("error", error)] {
            if count > 0 {
                self.reloads
                    .get_or_create(&OfResult { result })
                    .inc_by(count as u64);
            }
        }
    }
}

/// An open client connection.
#[derive(Debug)]
pub(crate) struct OpenConnection(Gauge);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl GroupMetrics {
    fn of(&self) -> OfGroup {
        OfGroup {
            group: self.group.clone(),
        }
    }

    pub(crate) fn answered(&self, status: StatusCode, took: Duration) {
        let requests = self.requests.get_or_init(|| Requests {
            codes: CLASSES.map(|code| {
                let group = self.group.clone();
                self.metrics
                    .requests
                    .get_or_create_owned(&OfClass { group, code })
            }),
            seconds: self.metrics.seconds.get_or_create_owned(&self.of()),
        });
        let class = usize::from(status.as_u16() / 100).clamp(1, CLASSES.len()) - 1;
        requests.codes[class].inc();
        requests.seconds.observe(took);
    }

    pub(crate) fn waited(&self, took: Duration) {
        self.waited
            .get_or_init(|| self.metrics.waited.get_or_create_owned(&self.of()))
            .observe(took);
    }

    /// A request waits while no instance can serve.
    pub(crate) fn cold_start(&self) {
        self.cold().count.inc();
    }

    /// It was served.
    pub(crate) fn warmed(&self, phases: &Phases) {
        for (histogram, took) in self.cold().phases.iter().zip(phases.durations()) {
            histogram.observe(took);
        }
    }

    fn cold(&self) -> &Cold {
        self.cold.get_or_init(|| Cold {
            count: self.metrics.cold_starts.get_or_create_owned(&self.of()),
            phases: PHASES.map(|phase| {
                let group = self.group.clone();
                self.metrics
                    .phases
                    .get_or_create_owned(&OfPhase { group, phase })
            }),
        })
    }

    fn of_category(&self, category: &'static str) -> OfGroupCategory {
        self.metrics.categories.lock().insert(category);
        let group = self.group.clone();
        OfGroupCategory { group, category }
    }

    /// The front end answered a request itself.
    pub(crate) fn refused(&self, category: &'static str) {
        let of = self.of_category(category);
        self.metrics.refused.get_or_create(&of).inc();
    }

    /// An instance failed.
    pub(crate) fn upstream(&self, category: &'static str) {
        let of = self.of_category(category);
        self.metrics.upstream.get_or_create(&of).inc();
    }
}
