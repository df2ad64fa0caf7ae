//! What the process counts beside the requests.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use maniple_front::pool::Pool;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric},
    metrics::{
        MetricType,
        counter::Counter,
        family::Family,
        gauge::{ConstGauge, Gauge},
    },
    registry::Registry,
};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfCategory {
    category: &'static str,
}

/// Streams to the scaler.
#[derive(Clone, Debug, Default)]
pub(super) struct LinkMetrics {
    up: Gauge,
    failures: Family<OfCategory, Counter>,
}

impl LinkMetrics {
    /// Adds them to `registry`.
    pub(super) fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "front_streams",
            "Open streams to replicas of the scaler",
            metrics.up.clone(),
        );
        registry.register(
            "front_stream_failures",
            "Streams to replicas of the scaler that could not be opened or broke, by kind",
            metrics.failures.clone(),
        );
        metrics
    }

    /// A stream is open until the guard is dropped.
    pub(super) fn up(&self, state: &Arc<AtomicBool>) -> Up {
        self.up.inc();
        state.store(true, Ordering::Relaxed);
        Up {
            gauge: self.up.clone(),
            state: state.clone(),
        }
    }

    pub(super) fn failed(&self, category: &'static str) {
        self.failures.get_or_create(&OfCategory { category }).inc();
    }
}

/// An open stream.
#[derive(Debug)]
pub(super) struct Up {
    gauge: Gauge,
    state: Arc<AtomicBool>,
}

impl Drop for Up {
    fn drop(&mut self) {
        self.gauge.dec();
        self.state.store(false, Ordering::Relaxed);
    }
}

/// Slots and waiting requests of every group, read at each scrape.
#[derive(Debug)]
pub(super) struct PoolCollector(pub(super) Pool);

impl Collector for PoolCollector {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let mut groups = self.0.groups();
        groups.sort_unstable_by(|a, b| a.id().cmp(b.id()));
        let mut waiting = encoder.encode_descriptor(
            "front_waiting",
            "Requests that wait for a slot, by group",
            None,
            MetricType::Gauge,
        )?;
        for group in &groups {
            let labels = [("group", group.id().as_str())];
            let metric = waiting.encode_family(&labels)?;
            ConstGauge::new(i64::from(group.waiting())).encode(metric)?;
        }
        let mut slots = encoder.encode_descriptor(
            "front_slots",
            "Slots held by this front end, by group and state: free, busy, lingering",
            None,
            MetricType::Gauge,
        )?;
        for group in &groups {
            let (held, busy, lingering) = group.slots();
            let free = held.saturating_sub(busy + lingering);
            for (state, count) in [("free", free), ("busy", busy), ("lingering", lingering)] {
                let labels = [("group", group.id().as_str()), ("state", state)];
                let metric = slots.encode_family(&labels)?;
                ConstGauge::new(i64::from(count)).encode(metric)?;
            }
        }
        Ok(())
    }
}
