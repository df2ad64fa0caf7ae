//! What goes wrong while objects are watched is said and counted, but not at every try.

use crate::metrics::OperatorMetrics;
use kube::runtime::watcher;
use parking_lot::Mutex;
use std::time::{Duration, Instant};

/// Time between two warnings about one watch, which is tried again every second to minute.
const SAY_AGAIN: Duration = Duration::from_secs(30);

/// Errors of the watch of one kind.
#[derive(Debug)]
pub(super) struct WatchErrors {
    kind: &'static str,
    metrics: OperatorMetrics,
    said: Mutex<Option<Instant>>,
}

impl WatchErrors {
    /// No error so far.
    pub(super) fn new(kind: &'static str, metrics: OperatorMetrics) -> Self {
        Self {
            kind,
            metrics,
            said: Mutex::new(None),
        }
    }

    /// The watch broke; it is started again by itself.
    pub(super) fn saw(&self, error: &watcher::Error) {
        self.metrics.watch_error(self.kind);
        let mut said = self.said.lock();
        if said.is_some_and(|at| at.elapsed() < SAY_AGAIN) {
            return;
        }
        *said = Some(Instant::now());
        tracing::warn!(
            kind = self.kind,
            "{} cannot be watched, what was seen stays in force: {error}; {}",
            self.kind,
            advice(self.kind, error)
        );
    }
}

fn advice(kind: &str, error: &watcher::Error) -> String {
    let code = match error {
        watcher::Error::InitialListFailed(kube::Error::Api(answer))
        | watcher::Error::WatchStartFailed(kube::Error::Api(answer)) => answer.code,
        _ => 0,
    };
    match code {
        404 => format!("install the CustomResourceDefinition of {kind}"),
        401 | 403 => format!("grant this operator list and watch on {kind}"),
        _ => "it is tried again".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_advice_follows_the_answer() {
        let refused = |code: u16| {
            let mut status = kube::core::Status::failure("no", "Reason");
            status.code = code;
            watcher::Error::InitialListFailed(kube::Error::Api(status.boxed()))
        };
        assert!(advice("FunctionApp", &refused(404)).contains("install"));
        assert!(advice("FunctionApp", &refused(403)).contains("grant"));
        assert_eq!(
            advice("Secret", &watcher::Error::NoResourceVersion),
            "it is tried again"
        );
    }
}
