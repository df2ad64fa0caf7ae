//! The process's one metrics registry.

use std::{fmt, sync::Arc, time::SystemTime};

use parking_lot::Mutex;
use prometheus_client::{
    encoding::text::encode,
    metrics::{gauge::Gauge, info::Info},
    registry::Registry,
};

use crate::{Component, process::ProcessCollector};

/// Before every name of ours.
const PREFIX: &str = "maniple";

/// Content type of [`Metrics::encode`].
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A handle to the registry; clones share it. Every registered name gets the prefix `maniple_`.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Mutex<Registry>>,
}

impl Metrics {
    /// A registry that already holds `maniple_build_info` and the usual `process_` metrics.
    pub fn new(component: Component) -> Self {
        let mut registry = Registry::default();
        let start = Gauge::<i64>::default();
        start.set(unix_seconds());
        registry.register(
            "process_start_time_seconds",
            "Start of this process in seconds since 1970",
            start,
        );
        registry.register_collector(Box::new(ProcessCollector));
        registry.sub_registry_with_prefix(PREFIX).register(
            "build",
            "Component and version of this process",
            Info::new(vec![
                ("component", component.name),
                ("version", component.version),
            ]),
        );
        Self {
            registry: Arc::new(Mutex::new(registry)),
        }
    }

    /// Runs `add` on the registry and returns what it returns, usually a struct of the registered metrics.
    pub fn register<T>(&self, add: impl FnOnce(&mut Registry) -> T) -> T {
        add(self.registry.lock().sub_registry_with_prefix(PREFIX))
    }

    /// The registry in the OpenMetrics text format.
    pub fn encode(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.registry.lock()).expect("writing to a String cannot fail");
        text
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

fn unix_seconds() -> i64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .ok()
        .and_then(|since| i64::try_from(since.as_secs()).ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use prometheus_client::metrics::counter::Counter;

    use super::*;

    #[test]
    fn names_have_the_prefix_and_values_are_shared() {
        let metrics = Metrics::new(Component::new("scaler", "1.2.3"));
        let polls = metrics.register(|registry| {
            let polls = Counter::<u64>::default();
            registry.register("polls", "Polls", polls.clone());
            polls
        });
        polls.inc_by(3);
        let text = metrics.clone().encode();
        assert!(text.contains("maniple_polls_total 3\n"), "{text}");
        assert!(
            text.contains("maniple_build_info{component=\"scaler\",version=\"1.2.3\"} 1\n"),
            "{text}"
        );
        assert!(text.ends_with("# EOF\n"), "{text}");
    }

    #[test]
    fn the_process_is_measured() {
        let text = Metrics::new(Component::new("scaler", "1.2.3")).encode();
        let value = |name: &str| -> f64 {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap_or_else(|| panic!("{name} is missing: {text}"))
                .trim()
                .parse()
                .unwrap()
        };
        assert!(value("process_resident_memory_bytes ") > 100_000.0);
        assert!(value("process_cpu_seconds_total ") >= 0.0);
        assert!(value("process_open_fds ") >= 3.0);
        assert!(value("process_start_time_seconds ") > 1.6e9);
    }
}
