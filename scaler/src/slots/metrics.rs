//! What the data role counts. Groups are named; everything else has labels from closed sets.

use super::record::StoreError;
use maniple_core::slots::SlotCounts;
use maniple_core::slots::message::GroupId;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct PhaseLabel {
    phase: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ProofLabel {
    proof: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct SlotsLabel {
    group: String,
    state: &'static str,
}

/// The numbers. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct SlotsMetrics {
    pub(super) front_ends: Gauge,
    pub(super) members: Gauge,
    pub(super) epoch: Gauge,
    pub(super) takeovers: Counter,
    pub(super) hellos: Counter,
    pub(super) granted: Counter,
    pub(super) recalls: Counter,
    record_writes: Family<OutcomeLabel, Counter>,
    removals: Family<PhaseLabel, Counter>,
    deaths: Family<ProofLabel, Counter>,
    slots: Family<SlotsLabel, Gauge>,
}

impl SlotsMetrics {
    /// Adds the metrics to a registry (give it the prefix of the process).
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "slots_front_ends",
            "Front ends whose stream is up; 0 while this process does not lead",
            self.front_ends.clone(),
        );
        registry.register(
            "slots_members",
            "Front ends that may hold slots; 0 while this process does not lead",
            self.members.clone(),
        );
        registry.register(
            "slots_epoch",
            "Term of the data role that this process led last",
            self.epoch.clone(),
        );
        registry.register(
            "slots_takeovers",
            "Terms that this process began",
            self.takeovers.clone(),
        );
        registry.register(
            "slots_hellos",
            "Front ends that reported all that they hold",
            self.hellos.clone(),
        );
        registry.register("slots_granted", "Slots lent", self.granted.clone());
        registry.register(
            "slots_recalls",
            "Requests to front ends to give slots back",
            self.recalls.clone(),
        );
        registry.register(
            "slots_record_writes",
            "Writes of the record of members by outcome (ok or error category)",
            self.record_writes.clone(),
        );
        registry.register(
            "slots_removals",
            "Instances that reached a phase of their removal",
            self.removals.clone(),
        );
        registry.register(
            "slots_deaths",
            "Front ends that went without a farewell, by what proved it",
            self.deaths.clone(),
        );
        registry.register(
            "slots",
            "Slots of a group by state; none while this process does not lead",
            self.slots.clone(),
        );
    }

    pub(super) fn wrote<T>(&self, result: &Result<T, StoreError>) {
        let outcome = result.as_ref().err().map_or("ok", StoreError::category);
        let label = OutcomeLabel { outcome };
        self.record_writes.get_or_create(&label).inc();
    }

    pub(super) fn removal(&self, phase: &'static str) {
        self.removals.get_or_create(&PhaseLabel { phase }).inc();
    }

    pub(super) fn death(&self, proof: &'static str) {
        self.deaths.get_or_create(&ProofLabel { proof }).inc();
    }

    pub(super) fn group(&self, group: &GroupId, slots: SlotCounts) {
        for (state, count) in [
            ("lent", slots.lent),
            ("free", slots.free),
            ("quarantined", slots.quarantined),
        ] {
            let group = group.as_str().to_owned();
            let gauge = self.slots.get_or_create_owned(&SlotsLabel { group, state });
            gauge.set(count.into());
        }
    }

    pub(super) fn forget(&self, group: &GroupId) {
        for state in ["lent", "free", "quarantined"] {
            let group = group.as_str().to_owned();
            self.slots.remove(&SlotsLabel { group, state });
        }
    }

    /// A term is over: what only a leader knows is gone.
    pub(super) fn end_term(&self) {
        self.front_ends.set(0);
        self.members.set(0);
        self.slots.clear();
    }
}
