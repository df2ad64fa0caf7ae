//! Waits between failed runs of one app: 1 s, doubling, at most 5 minutes, with jitter.

use kube::runtime::reflector::ObjectRef;
use maniple_crds::FunctionApp;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::time::Duration;

const LONGEST: Duration = Duration::from_secs(300);

/// Failed runs in a row, by app.
#[derive(Debug, Default)]
pub(super) struct Attempts(Mutex<HashMap<ObjectRef<FunctionApp>, u32>>);

impl Attempts {
    /// A run succeeded.
    pub(super) fn clear(&self, app: &ObjectRef<FunctionApp>) {
        self.0.lock().remove(app);
    }

    /// A run failed: how long to wait.
    pub(super) fn next(&self, app: ObjectRef<FunctionApp>) -> Duration {
        let mut attempts = self.0.lock();
        let failed = attempts.entry(app).or_insert(0);
        *failed = failed.saturating_add(1);
        let wait = Duration::from_secs(1 << (*failed - 1).min(9)).min(LONGEST);
        // Apps that failed together do not come back together.
        wait.mul_f64(0.75 + 0.5 * fastrand::f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_limit_and_start_anew_after_success() {
        let attempts = Attempts::default();
        let app = ObjectRef::<FunctionApp>::new("a").within("n");
        let waits: Vec<_> = (0..12).map(|_| attempts.next(app.clone())).collect();
        assert!(waits[0] < Duration::from_millis(1_300));
        assert!(waits[11] <= LONGEST.mul_f64(1.25) && waits[11] >= LONGEST.mul_f64(0.75));
        attempts.clear(&app);
        assert!(attempts.next(app) < Duration::from_millis(1_300));
    }
}
