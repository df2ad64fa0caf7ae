//! What is counted about the connections of a port.

use maniple_runtime::Metrics;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabels {
    result: &'static str,
}

/// The metrics of a port; clones share them. Those of [`PortMetrics::default`] nobody sees.
#[derive(Debug, Clone, Default)]
pub(super) struct PortMetrics {
    connections: Counter,
    tls_failures: Counter,
    tls_reloads: Family<ResultLabels, Counter>,
    certificate_end: Gauge,
}

impl PortMetrics {
    /// Those of KEDA's port.
    pub(super) fn of_external_scaler(metrics: &Metrics) -> Self {
        let own = Self::default();
        metrics.register(|registry| {
            let registry = registry.sub_registry_with_prefix("external_scaler");
            registry.register("connections", CONNECTIONS, own.connections.clone());
            registry.register("tls_failures", TLS_FAILURES, own.tls_failures.clone());
            registry.register("tls_reloads", TLS_RELOADS, own.tls_reloads.clone());
            registry.register(
                "certificate_end_timestamp_seconds",
                CERTIFICATE_END,
                own.certificate_end.clone(),
            );
        });
        own
    }

    /// Those of the front ends' port.
    pub(super) fn of_slots(metrics: &Metrics) -> Self {
        let own = Self::default();
        metrics.register(|registry| {
            let registry = registry.sub_registry_with_prefix("slots_server");
            registry.register("connections", CONNECTIONS, own.connections.clone());
            registry.register("tls_failures", TLS_FAILURES, own.tls_failures.clone());
            registry.register("tls_reloads", TLS_RELOADS, own.tls_reloads.clone());
            registry.register(
                "certificate_end_timestamp_seconds",
                CERTIFICATE_END,
                own.certificate_end.clone(),
            );
        });
        own
    }

    pub(super) fn connected(&self) {
        self.connections.inc();
    }

    pub(super) fn refused(&self) {
        self.tls_failures.inc();
    }

    /// Refused connections so far.
    #[cfg(test)]
    pub(super) fn refusals(&self) -> u64 {
        self.tls_failures.get()
    }

    pub(super) fn reloaded(&self, ok: bool) {
        let result = if ok { "ok" } else { "error" };
        self.tls_reloads
            .get_or_create(&ResultLabels { result })
            .inc();
    }

    /// The certificate in use ends at this time, in seconds since 1970.
    pub(super) fn certificate_ends(&self, end: i64) {
        self.certificate_end.set(end);
    }
}

const CONNECTIONS: &str = "Accepted connections";
const TLS_FAILURES: &str = "Connections that were closed because the TLS handshake failed, took too long, or came in too large a crowd";
const TLS_RELOADS: &str = "Changed certificate files by result: ok, error";
const CERTIFICATE_END: &str = "When the certificate in use ends, seconds since 1970; 0 without TLS";
