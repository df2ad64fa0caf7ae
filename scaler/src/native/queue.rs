//! Wishes that are not fulfilled yet, and the loop that fulfils them.

use super::writer::{ScaleWriter, WriteError, WrittenScale};
use crate::index::WorkloadKey;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use parking_lot::Mutex;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

/// Writes under way at the same time.
const PARALLEL: usize = 32;
/// Shortest and longest wait before a failed write is tried again.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

/// Outcome of one write.
#[derive(Debug)]
pub struct Written {
    /// The Deployment.
    pub workload: WorkloadKey,
    /// The count that was asked for.
    pub wanted: u32,
    /// What came of it.
    pub result: Result<WrittenScale, WriteError>,
}

#[derive(Debug)]
struct Wish {
    /// `None` while a write is under way whose wish was withdrawn: the next one waits for it, so that two writes to one
    /// Deployment are never on the way together.
    replicas: Option<u32>,
    failures: u32,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Ready,
    Waiting(Instant),
    UnderWay,
}

#[derive(Debug, Default)]
struct Table {
    wishes: HashMap<WorkloadKey, Wish>,
    ready: VecDeque<WorkloadKey>,
    waiting: BTreeSet<(Instant, WorkloadKey)>,
}

/// The wishes. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Wishes {
    table: Arc<Mutex<Table>>,
    changed: Arc<Notify>,
}

impl Wishes {
    /// Wishes for this count; an earlier wish for the Deployment is replaced. The same wish again changes nothing.
    pub fn want(&self, workload: &WorkloadKey, replicas: u32) {
        let mut table = self.table.lock();
        let Table {
            wishes,
            ready,
            waiting,
        } = &mut *table;
        match wishes.get_mut(workload) {
            Some(wish) if wish.replicas == Some(replicas) => return,
            Some(wish) => {
                wish.replicas = Some(replicas);
                wish.failures = 0;
                // The wait was for another number.
                if let State::Waiting(until) = wish.state {
                    waiting.remove(&(until, workload.clone()));
                    wish.state = State::Ready;
                    ready.push_back(workload.clone());
                }
            }
            None => {
                let wish = Wish {
                    replicas: Some(replicas),
                    failures: 0,
                    state: State::Ready,
                };
                wishes.insert(workload.clone(), wish);
                ready.push_back(workload.clone());
            }
        }
        drop(table);
        self.changed.notify_one();
    }

    /// Withdraws the wish for a Deployment. A write that is under way is not called back.
    pub fn withdraw(&self, workload: &WorkloadKey) {
        let mut table = self.table.lock();
        let Table {
            wishes, waiting, ..
        } = &mut *table;
        let Some(wish) = wishes.get_mut(workload) else {
            return;
        };
        match wish.state {
            State::UnderWay => {
                wish.replicas = None;
                return;
            }
            State::Waiting(until) => {
                waiting.remove(&(until, workload.clone()));
            }
            State::Ready => {}
        }
        wishes.remove(workload);
    }

    /// Withdraws every wish.
    pub fn clear(&self) {
        let mut table = self.table.lock();
        table.ready.clear();
        table.waiting.clear();
        table.wishes.retain(|_, wish| {
            wish.replicas = None;
            wish.state == State::UnderWay
        });
    }

    /// The wish for a Deployment that is not fulfilled yet.
    pub fn wanted(&self, workload: &WorkloadKey) -> Option<u32> {
        self.table.lock().wishes.get(workload)?.replicas
    }

    /// Number of wishes that are not fulfilled yet.
    pub fn len(&self) -> usize {
        let table = self.table.lock();
        table
            .wishes
            .values()
            .filter(|wish| wish.replicas.is_some())
            .count()
    }

    /// True when every wish is fulfilled.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Fulfils wishes until `stop` is cancelled. `may_write` is asked before each write; while it answers false, wishes are
    /// dropped. Outcomes go to `written`.
    pub async fn run(
        self,
        writer: impl ScaleWriter,
        may_write: impl Fn() -> bool,
        written: impl Fn(Written),
        stop: CancellationToken,
    ) {
        let mut under_way = FuturesUnordered::new();
        loop {
            let mut next_wait = None;
            while under_way.len() < PARALLEL {
                if !may_write() {
                    self.clear();
                }
                let (job, wait) = self.take(Instant::now());
                next_wait = wait;
                let Some((workload, wanted)) = job else { break };
                let writer = &writer;
                under_way.push(async move {
                    let result = writer.write(&workload, wanted).await;
                    Written {
                        workload,
                        wanted,
                        result,
                    }
                });
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.changed.notified() => {}
                Some(outcome) = under_way.next() => {
                    // Told first: who asks in between must not take the wish for fulfilled and the count for what it was.
                    let done = Fulfilled::of(&outcome);
                    written(outcome);
                    self.finish(&done, Instant::now());
                }
                () = wait_until(next_wait) => {}
            }
        }
    }

    /// The next write to begin, if one is due, and when the earliest waiting one becomes due.
    fn take(&self, now: Instant) -> (Option<(WorkloadKey, u32)>, Option<Instant>) {
        let mut table = self.table.lock();
        let Table {
            wishes,
            ready,
            waiting,
        } = &mut *table;
        while let Some((until, _)) = waiting.first() {
            if *until > now {
                break;
            }
            let (_, workload) = waiting.pop_first().expect("first() has just found one");
            if let Some(wish) = wishes.get_mut(&workload) {
                wish.state = State::Ready;
                ready.push_back(workload);
            }
        }
        let mut job = None;
        // A withdrawn wish leaves its place in the line behind.
        while let Some(workload) = ready.pop_front() {
            if let Some(wish) = wishes.get_mut(&workload)
                && wish.state == State::Ready
                && let Some(replicas) = wish.replicas
            {
                wish.state = State::UnderWay;
                job = Some((workload, replicas));
                break;
            }
        }
        (job, waiting.first().map(|(until, _)| *until))
    }

    fn finish(&self, outcome: &Fulfilled, now: Instant) {
        let mut table = self.table.lock();
        let Table {
            wishes,
            ready,
            waiting,
        } = &mut *table;
        let Some(wish) = wishes.get_mut(&outcome.workload) else {
            return;
        };
        if wish.replicas.is_none() {
            wishes.remove(&outcome.workload);
        } else if wish.replicas != Some(outcome.wanted) {
            wish.state = State::Ready;
            ready.push_back(outcome.workload.clone());
        } else if outcome.fulfilled {
            wishes.remove(&outcome.workload);
        } else {
            let until = now + wait(wish.failures);
            wish.failures = wish.failures.saturating_add(1);
            wish.state = State::Waiting(until);
            waiting.insert((until, outcome.workload.clone()));
        }
    }
}

/// A write that ended.
struct Fulfilled {
    workload: WorkloadKey,
    wanted: u32,
    /// Whether nothing is left to be written.
    fulfilled: bool,
}

impl Fulfilled {
    fn of(written: &Written) -> Self {
        Self {
            workload: written.workload.clone(),
            wanted: written.wanted,
            fulfilled: matches!(&written.result, Ok(_) | Err(WriteError::Gone)),
        }
    }
}

fn wait(failures: u32) -> Duration {
    let longest = RETRY.0.saturating_mul(1 << failures.min(16)).min(RETRY.1);
    longest.mul_f64(0.5 + fastrand::f64() / 2.0)
}

async fn wait_until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
