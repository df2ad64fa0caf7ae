//! Counts of running invocations, per function and for the process: the proof of how many ran at once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use serde::Serialize;

/// Names of HTTP requests that are remembered.
const MOST_NAMES: usize = 200_000;

#[derive(Debug, Default)]
struct Counter {
    in_flight: AtomicU64,
    max_in_flight: AtomicU64,
    started: AtomicU64,
    succeeded: AtomicU64,
    failed: AtomicU64,
    lost: AtomicU64,
}

impl Counter {
    fn start(&self) -> u64 {
        self.started.fetch_add(1, Ordering::SeqCst);
        let in_flight = self.in_flight.fetch_add(1, Ordering::SeqCst) + 1;
        self.max_in_flight.fetch_max(in_flight, Ordering::SeqCst);
        in_flight
    }

    fn end(&self, outcome: Outcome) {
        let counter = match outcome {
            Outcome::Succeeded => &self.succeeded,
            Outcome::Failed => &self.failed,
            Outcome::Lost => &self.lost,
        };
        counter.fetch_add(1, Ordering::SeqCst);
        self.in_flight.fetch_sub(1, Ordering::SeqCst);
    }

    fn reset(&self) {
        for counter in [&self.started, &self.succeeded, &self.failed, &self.lost] {
            counter.store(0, Ordering::SeqCst);
        }
        self.max_in_flight
            .store(self.in_flight.load(Ordering::SeqCst), Ordering::SeqCst);
    }

    fn counts(&self) -> Counts {
        Counts {
            in_flight: self.in_flight.load(Ordering::SeqCst),
            max_in_flight: self.max_in_flight.load(Ordering::SeqCst),
            started: self.started.load(Ordering::SeqCst),
            succeeded: self.succeeded.load(Ordering::SeqCst),
            failed: self.failed.load(Ordering::SeqCst),
            lost: self.lost.load(Ordering::SeqCst),
        }
    }
}

/// Counts at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Counts {
    /// Running now. An HTTP invocation runs until the last byte of its response has been handed over.
    pub in_flight: u64,
    /// Most that ever ran at once since the start or the last reset.
    pub max_in_flight: u64,
    /// Begun since the start or the last reset.
    pub started: u64,
    /// Ended well.
    pub succeeded: u64,
    /// Ended with an error.
    pub failed: u64,
    /// Cut: by the end of the process, a restart or a resume.
    pub lost: u64,
}

/// How an invocation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Without error.
    Succeeded,
    /// With an error of the function, or after its time-out.
    Failed,
    /// Cut.
    Lost,
}

/// All counters of the process.
#[derive(Debug, Default)]
pub struct Activity {
    process: Counter,
    functions: BTreeMap<String, Counter>,
    names: Mutex<Vec<String>>,
}

/// One running invocation; it is counted until this is dropped.
#[derive(Debug)]
pub struct Running {
    activity: Arc<Activity>,
    function: String,
    outcome: Outcome,
    /// Invocations of the process that ran when this one began, this one included.
    pub in_flight: u64,
    /// The same for this function.
    pub in_flight_of_function: u64,
}

impl Activity {
    /// Counters for these functions.
    pub fn new(functions: impl IntoIterator<Item = String>) -> Self {
        Self {
            process: Counter::default(),
            functions: functions
                .into_iter()
                .map(|name| (name, Counter::default()))
                .collect(),
            names: Mutex::default(),
        }
    }

    /// Remembers that a request of that name ran.
    pub fn ran(&self, name: &str) {
        let mut names = self.names.lock();
        if names.len() < MOST_NAMES {
            names.push(name.to_owned());
        }
    }

    /// Names of the requests that ran, in order, without the first `from`.
    pub fn names(&self, from: usize) -> Vec<String> {
        self.names.lock().iter().skip(from).cloned().collect()
    }

    /// Counts an invocation from now on.
    pub fn start(self: &Arc<Self>, function: &str) -> Running {
        let in_flight = self.process.start();
        let in_flight_of_function = self.functions.get(function).map_or(0, Counter::start);
        Running {
            activity: Arc::clone(self),
            function: function.to_owned(),
            outcome: Outcome::Lost,
            in_flight,
            in_flight_of_function,
        }
    }

    /// Invocations that run now.
    pub fn in_flight(&self) -> u64 {
        self.process.in_flight.load(Ordering::SeqCst)
    }

    /// Counts of the process.
    pub fn process(&self) -> Counts {
        self.process.counts()
    }

    /// Counts by function.
    pub fn functions(&self) -> BTreeMap<&str, Counts> {
        self.functions
            .iter()
            .map(|(name, counter)| (name.as_str(), counter.counts()))
            .collect()
    }

    /// Forgets the past; what runs now stays counted.
    pub fn reset(&self) {
        self.process.reset();
        self.functions.values().for_each(Counter::reset);
    }
}

impl Running {
    /// Says how it ended. Without this call it counts as lost.
    pub fn finish(&mut self, outcome: Outcome) {
        self.outcome = outcome;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(counter) = self.activity.functions.get(&self.function) {
            counter.end(self.outcome);
        }
        self.activity.process.end(self.outcome);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_what_runs_and_the_most_that_ran() {
        let activity = Arc::new(Activity::new(["a".to_owned(), "b".to_owned()]));
        let mut first = activity.start("a");
        let second = activity.start("a");
        let third = activity.start("b");
        assert_eq!((third.in_flight, third.in_flight_of_function), (3, 1));
        first.finish(Outcome::Succeeded);
        drop((first, second));
        assert_eq!(activity.in_flight(), 1);
        let process = activity.process();
        assert_eq!((process.max_in_flight, process.started), (3, 3));
        assert_eq!((process.succeeded, process.lost), (1, 1));
        assert_eq!(activity.functions()["a"].max_in_flight, 2);
        activity.reset();
        let process = activity.process();
        assert_eq!(
            (process.max_in_flight, process.started, process.in_flight),
            (1, 0, 1)
        );
    }
}
