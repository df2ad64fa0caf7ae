//! A histogram of times that no two cores wait for each other to write. The one of the metrics library takes a lock.

use std::{
    cell::Cell,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use prometheus_client::{
    encoding::{EncodeMetric, MetricEncoder, NoLabelSet},
    metrics::{MetricType, TypedMetric},
};

/// Upper ends of the buckets in microseconds: 1 ms to 230 s. One more bucket has no end.
const ENDS: [u64; 16] = [
    1_000,
    2_500,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    30_000_000,
    60_000_000,
    230_000_000,
];

/// Threads are spread over that many copies.
const SHARDS: usize = 4;

/// What some of the threads have seen, on cache lines of its own.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Shard {
    buckets: [AtomicU64; ENDS.len() + 1],
    nanoseconds: AtomicU64,
}

/// Times of one kind. Clones share the numbers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Latency(Arc<[Shard; SHARDS]>);

/// The copy that this thread writes to.
fn shard() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static OWN: Cell<Option<usize>> = const { Cell::new(None) };
    }
    OWN.with(|own| {
        let shard = own
            .get()
            .unwrap_or_else(|| NEXT.fetch_add(1, Ordering::Relaxed) % SHARDS);
        own.set(Some(shard));
        shard
    })
}

impl Latency {
    pub(crate) fn observe(&self, took: Duration) {
        let nanoseconds = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let bucket = ENDS.partition_point(|end| end * 1_000 < nanoseconds);
        let shard = &self.0[shard()];
        shard.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        shard.nanoseconds.fetch_add(nanoseconds, Ordering::Relaxed);
    }
}

impl EncodeMetric for Latency {
    fn encode(&self, mut encoder: MetricEncoder) -> Result<(), fmt::Error> {
        let sum = |of: &dyn Fn(&Shard) -> &AtomicU64| -> u64 {
            let all = self.0.iter().map(|shard| of(shard).load(Ordering::Relaxed));
            all.fold(0, u64::wrapping_add)
        };
        let mut buckets = [(0.0, 0); ENDS.len() + 1];
        for (place, (end, count)) in buckets.iter_mut().enumerate() {
            let micros = ENDS.get(place).copied();
            *end = micros.map_or(f64::INFINITY, |micros| micros as f64 / 1e6);
            *count = sum(&|shard| &shard.buckets[place]);
        }
        let count = buckets.iter().map(|(_, count)| count).sum();
        let seconds = sum(&|shard| &shard.nanoseconds) as f64 / 1e9;
        encoder.encode_histogram::<NoLabelSet>(seconds, count, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

impl TypedMetric for Latency {
    const TYPE: MetricType = MetricType::Histogram;
}

#[cfg(test)]
mod tests {
    use prometheus_client::{encoding::text::encode, registry::Registry};

    use super::*;

    #[test]
    fn times_of_all_threads_are_told_together() {
        let latency = Latency::default();
        let mut registry = Registry::default();
        registry.register("took_seconds", "Times", latency.clone());
        let threads: Vec<_> = (0..6)
            .map(|_| {
                let latency = latency.clone();
                std::thread::spawn(move || {
                    for micros in [0, 1_000, 1_001, 2_000_000, 300_000_000] {
                        latency.observe(Duration::from_micros(micros));
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().expect("it only counts");
        }
        let mut text = String::new();
        encode(&mut text, &registry).expect("writing to a String cannot fail");
        for line in [
            "took_seconds_bucket{le=\"0.001\"} 12\n",
            "took_seconds_bucket{le=\"0.0025\"} 18\n",
            "took_seconds_bucket{le=\"1.0\"} 18\n",
            "took_seconds_bucket{le=\"2.5\"} 24\n",
            "took_seconds_bucket{le=\"230.0\"} 24\n",
            "took_seconds_bucket{le=\"+Inf\"} 30\n",
            "took_seconds_count 30\n",
        ] {
            assert!(text.contains(line), "{line} is missing: {text}");
        }
        let sum = text
            .lines()
            .find_map(|line| line.strip_prefix("took_seconds_sum "));
        let sum: f64 = sum.expect("a sum").parse().expect("a number");
        assert!((sum - 6.0 * 302.002_001).abs() < 1e-6, "{sum}");
    }
}
