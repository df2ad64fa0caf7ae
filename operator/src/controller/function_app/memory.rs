//! What is remembered of an app between two runs. It may be lost at any time: a new process begins without it.

use super::observe::Probe;
use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;
use maniple_crds::{FunctionApp, GroupName};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Longest wait between two runs of an app that fails.
const LONGEST: Duration = Duration::from_secs(300);

/// Memory of all apps.
#[derive(Debug, Default)]
pub(super) struct Memory(Mutex<HashMap<ObjectRef<FunctionApp>, AppMemory>>);

/// Memory of one app.
#[derive(Debug, Default)]
pub(super) struct AppMemory {
    uid: Option<String>,
    failed_runs: u32,
    /// When the status was last written.
    pub status_written: Option<Instant>,
    /// Last answers of the hosts.
    pub probes: HashMap<GroupName, Probe>,
    /// Objects that are as intended although they look different, by kind and name.
    pub settled: HashMap<(&'static str, String), Settled>,
}

/// A state of an object in which a write changes nothing: somebody behind the API server, such as a mutating webhook, puts
/// everything back at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Settled {
    /// What was to be written.
    pub intent: String,
    /// What was stored before and after.
    pub stored: u64,
}

impl Memory {
    /// Works with the memory of an app. An app that was deleted and made anew has none.
    pub(super) fn of<T>(&self, app: &FunctionApp, work: impl FnOnce(&mut AppMemory) -> T) -> T {
        let mut all = self.0.lock();
        let memory = all.entry(ObjectRef::from_obj(app)).or_default();
        if memory.uid != app.uid() {
            *memory = AppMemory {
                uid: app.uid(),
                ..AppMemory::default()
            };
        }
        work(memory)
    }

    /// The app is gone.
    pub(super) fn forget(&self, app: &ObjectRef<FunctionApp>) {
        self.0.lock().remove(app);
    }

    /// A run succeeded.
    pub(super) fn succeeded(&self, app: &FunctionApp) {
        self.of(app, |memory| memory.failed_runs = 0);
    }

    /// A run failed: how long to wait. 1 s, doubling, at most 5 minutes, with jitter.
    pub(super) fn failed(&self, app: &FunctionApp) -> Duration {
        let failed = self.of(app, |memory| {
            memory.failed_runs = memory.failed_runs.saturating_add(1);
            memory.failed_runs
        });
        jitter(Duration::from_secs(1 << (failed - 1).min(9)).min(LONGEST))
    }
}

/// Apps that wait for the same reason do not come back together: up to a quarter less or more.
pub(super) fn jitter(wait: Duration) -> Duration {
    wait.mul_f64(0.75 + 0.5 * fastrand::f64())
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::app;
    use super::*;
    use serde_json::json;

    #[test]
    fn waits_grow_to_a_limit_and_start_anew_after_success() {
        let memory = Memory::default();
        let app = app("a", json!({}));
        let waits: Vec<_> = (0..12).map(|_| memory.failed(&app)).collect();
        assert!(waits[0] < Duration::from_millis(1_300));
        assert!(waits[11] <= LONGEST.mul_f64(1.25) && waits[11] >= LONGEST.mul_f64(0.75));
        memory.succeeded(&app);
        assert!(memory.failed(&app) < Duration::from_millis(1_300));
    }

    #[test]
    fn nothing_is_left_of_an_app_that_is_gone_or_made_anew() {
        let memory = Memory::default();
        let mut app = app("a", json!({}));
        let written = |m: &mut AppMemory| m.status_written.is_some();
        memory.of(&app, |m| m.status_written = Some(Instant::now()));
        assert!(memory.of(&app, written));
        app.metadata.uid = Some("another".into());
        assert!(!memory.of(&app, written));
        memory.forget(&ObjectRef::from_obj(&app));
        assert!(memory.0.lock().is_empty());
    }
}
