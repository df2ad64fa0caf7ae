//! What the engine counts. All labels come from closed sets; no names of apps.

use maniple_core::decision::Reason;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

/// Upper bounds in seconds for how long before a run an instance was ready: from just in time to a minute.
const LEAD: [f64; 8] = [0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 40.0, 80.0];
/// Upper bounds in seconds for how late a run was recorded.
const LATE: [f64; 10] = [0.01, 0.05, 0.1, 0.5, 1.0, 2.0, 5.0, 15.0, 60.0, 300.0];
/// Upper bounds in seconds for starts.
const START: [f64; 8] = [0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 60.0, 300.0];

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct CategoryLabel {
    category: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

/// The numbers. Clones share them.
#[derive(Clone, Debug)]
pub struct EngineMetrics {
    decisions: Family<ReasonLabel, Counter>,
    unknown_sources: Family<CategoryLabel, Gauge>,
    scale_writes: Family<OutcomeLabel, Counter>,
    /// Decisions that were computed, also those that changed nothing.
    pub computations: Counter,
    pub(super) groups: Gauge,
    pub(super) timer_lead: Histogram,
    pub(super) timer_lateness: Histogram,
    pub(super) starts: Histogram,
}

impl Default for EngineMetrics {
    fn default() -> Self {
        Self {
            decisions: Family::default(),
            unknown_sources: Family::default(),
            scale_writes: Family::default(),
            computations: Counter::default(),
            groups: Gauge::default(),
            timer_lead: Histogram::new(LEAD),
            timer_lateness: Histogram::new(LATE),
            starts: Histogram::new(START),
        }
    }
}

impl EngineMetrics {
    /// Adds the metrics to a registry (give it the prefix of the process).
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "decisions",
            "Decisions that changed something, by reason",
            self.decisions.clone(),
        );
        registry.register(
            "decision_computations",
            "Decisions that were computed, also those that changed nothing",
            self.computations.clone(),
        );
        registry.register("groups", "Groups that are known", self.groups.clone());
        registry.register(
            "unknown_sources",
            "Sources that cannot be read now, by category of the error",
            self.unknown_sources.clone(),
        );
        registry.register(
            "scale_writes",
            "Writes of replica counts by outcome (ok or error category)",
            self.scale_writes.clone(),
        );
        registry.register_with_unit(
            "timer_wake_lead",
            "How long before a timer run an instance was ready; 0 when it was not",
            Unit::Seconds,
            self.timer_lead.clone(),
        );
        registry.register_with_unit(
            "timer_lateness",
            "How long after its due time a timer run began, as the host recorded it",
            Unit::Seconds,
            self.timer_lateness.clone(),
        );
        registry.register_with_unit(
            "group_start",
            "Time from the decision to leave zero until an instance was ready",
            Unit::Seconds,
            self.starts.clone(),
        );
    }

    pub(super) fn decided(&self, reason: Reason) {
        let reason = reason.as_str();
        self.decisions.get_or_create(&ReasonLabel { reason }).inc();
    }

    pub(super) fn wrote(&self, outcome: &'static str) {
        self.scale_writes
            .get_or_create(&OutcomeLabel { outcome })
            .inc();
    }

    /// Counts a source as unknown until the guard is dropped.
    pub(super) fn unknown(&self, category: &'static str) -> UnknownGuard {
        let gauge = self
            .unknown_sources
            .get_or_create(&CategoryLabel { category })
            .clone();
        gauge.inc();
        UnknownGuard(gauge)
    }

    /// Sources that cannot be read now for a reason of this category.
    pub fn unknown_sources(&self, category: &'static str) -> i64 {
        self.unknown_sources
            .get(&CategoryLabel { category })
            .map_or(0, |gauge| gauge.get())
    }
}

/// Counts one unknown source until it is dropped.
#[derive(Debug)]
pub(super) struct UnknownGuard(Gauge);

impl Drop for UnknownGuard {
    fn drop(&mut self) {
        self.0.dec();
    }
}
