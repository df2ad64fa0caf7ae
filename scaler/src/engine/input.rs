//! One source of a group while it is followed.

use super::feed::{Feed, Feeds};
use super::forward::{ForwardTask, Forwarder};
use super::metrics::{EngineMetrics, UnknownGuard};
use super::timer::{Around, FollowedTimer, Said};
use crate::index::{InputPlan, Problem, QueuePlan, SnapshotPlan};
use jiff::Timestamp;
use maniple_core::decision::{SourceKind, SourceReading};
use maniple_sources::observation::{Observation, Outcome};
use maniple_sources::storage_queue::QueueReading;
use std::num::NonZeroU32;
use std::time::Duration;
use tokio::time::Instant;

/// One source that is followed.
pub(super) struct Input {
    pub(super) plan: InputPlan,
    source: Source,
    /// Since when it cannot be read, and the count of such sources.
    failing: Option<(Timestamp, &'static str, UnknownGuard)>,
    /// They tell the engine when something new was read.
    _forward: Vec<ForwardTask>,
}

enum Source {
    Nothing,
    Broken(Problem),
    Queue(Box<FollowedQueue>),
    Timer(Box<FollowedTimer>),
}

struct FollowedQueue {
    feed: Feed<QueueReading>,
    learned: Option<(SnapshotPlan, Feed<Option<Vec<u8>>>)>,
}

/// What an input says at a moment.
pub(super) struct Reading {
    pub(super) reading: SourceReading,
    /// The target that instances have learned, where it is another one than that of the spec.
    pub(super) target: Option<NonZeroU32>,
    /// When to look again, although nothing new may have been read.
    pub(super) recheck: Option<Duration>,
    /// Whether the source has just begun to refuse the credential.
    pub(super) refused: bool,
}

impl Input {
    pub(super) fn open(plan: &InputPlan, feeds: &dyn Feeds, forwarder: &Forwarder) -> Self {
        let source = match plan {
            InputPlan::Nothing => Source::Nothing,
            InputPlan::Broken(problem) => Source::Broken(problem.clone()),
            InputPlan::Queue(queue) => match FollowedQueue::open(queue, feeds) {
                Ok(queue) => Source::Queue(Box::new(queue)),
                Err(problem) => Source::Broken(problem),
            },
            InputPlan::Timer(timer) => Source::Timer(Box::new(FollowedTimer::open(timer, feeds))),
        };
        let forward = match &source {
            Source::Nothing | Source::Broken(_) => Vec::new(),
            Source::Queue(queue) => {
                let learned = queue.learned.as_ref();
                let learned = learned.map(|(_, feed)| forwarder.follow(&feed.observations));
                let messages = forwarder.follow(&queue.feed.observations);
                learned.into_iter().chain([messages]).collect()
            }
            Source::Timer(timer) => {
                let feed = timer.feed();
                feed.map(|feed| forwarder.follow(&feed.observations))
                    .into_iter()
                    .collect()
            }
        };
        Self {
            plan: plan.clone(),
            source,
            failing: None,
            _forward: forward,
        }
    }

    pub(super) fn read(
        &mut self,
        kind: &SourceKind,
        around: Around,
        metrics: &EngineMetrics,
    ) -> Reading {
        let mut said = Reading {
            reading: SourceReading::NotRead,
            target: None,
            recheck: None,
            refused: false,
        };
        let mut failure = None;
        match &mut self.source {
            Source::Nothing => {}
            Source::Broken(problem) => {
                failure = Some((problem.category, problem.message.clone(), None));
            }
            Source::Queue(queue) => {
                if let SourceKind::StorageQueue { target } = kind {
                    let learned = queue.learned(*target);
                    said.target = (learned != *target).then_some(learned);
                }
                match queue.look() {
                    Look::NotRead => {}
                    Look::Known(count, age, note) => {
                        said.reading = SourceReading::Backlog {
                            count,
                            at: around.now.checked_sub(age).unwrap_or(around.now),
                            note,
                        };
                    }
                    Look::Failed(category, error, last_good) => {
                        failure = Some((category, error, last_good));
                    }
                }
            }
            Source::Timer(timer) => {
                if let Said::State { state, recheck } = timer.say(around, metrics) {
                    said.reading = SourceReading::Timer(state);
                    said.recheck = recheck;
                }
                // What that means for the timer is in its state already.
                let category = timer.failure();
                self.note_failure(category, around.now, metrics, &mut said);
                return said;
            }
        }
        let category = failure.as_ref().map(|(category, ..)| *category);
        let since = self.note_failure(category, around.now, metrics, &mut said);
        if let Some((_, error, last_good)) = failure {
            said.reading = SourceReading::Unknown {
                error,
                since,
                last_good,
            };
        }
        said
    }

    /// Remembers since when the input fails.
    fn note_failure(
        &mut self,
        category: Option<&'static str>,
        now: Timestamp,
        metrics: &EngineMetrics,
        said: &mut Reading,
    ) -> Timestamp {
        let Some(category) = category else {
            self.failing = None;
            return now;
        };
        let before = self.failing.take();
        let new = before
            .as_ref()
            .is_none_or(|(_, known, _)| *known != category);
        said.refused = new && matches!(category, "unauthorized" | "credential");
        let since = before.as_ref().map_or(now, |(since, ..)| *since);
        let guard = match before {
            Some((_, _, guard)) if !new => guard,
            _ => metrics.unknown(category),
        };
        self.failing = Some((since, category, guard));
        since
    }

    /// Whether the reading has become too old although nothing said so.
    pub(super) fn is_stale(&self) -> bool {
        match &self.source {
            Source::Queue(queue) => {
                let observation = queue.feed.observations.borrow();
                observation.reading().is_some() && age(&observation) > queue.feed.max_age
            }
            _ => false,
        }
    }
}

enum Look {
    NotRead,
    Known(u64, Duration, Option<String>),
    Failed(&'static str, String, Option<u64>),
}

impl FollowedQueue {
    fn open(plan: &QueuePlan, feeds: &dyn Feeds) -> Result<Self, Problem> {
        let feed = feeds.queue(&plan.target).map_err(|error| Problem {
            category: error.category(),
            message: error.to_string(),
        })?;
        // Without the snapshot the target of the spec counts, as in the original.
        let learned = plan
            .learned
            .as_ref()
            .and_then(|plan| Some((plan.clone(), feeds.snapshot(plan).ok()?)));
        Ok(Self { feed, learned })
    }

    /// The target that instances have learned. While the snapshot cannot be read, the last one counts.
    fn learned(&self, fixed: NonZeroU32) -> NonZeroU32 {
        let Some((plan, feed)) = &self.learned else {
            return fixed;
        };
        let observation = feed.observations.borrow();
        let last = observation.last_ok.as_ref();
        let blob = last.and_then(|last| last.reading.as_deref());
        plan.options.choose(blob, &plan.function_id).target(fixed)
    }

    fn look(&self) -> Look {
        let observation = self.feed.observations.borrow();
        let last_good = || {
            observation
                .last_ok
                .as_ref()
                .map(|last| last.reading.backlog)
        };
        if self.feed.observations.has_changed().is_err() {
            let error = "the queue is read no longer; restart the scaler".to_owned();
            return Look::Failed("poller_ended", error, last_good());
        }
        match &observation.outcome {
            Outcome::Pending => Look::NotRead,
            Outcome::Failed(error) => {
                Look::Failed(error.category, error.message.clone(), last_good())
            }
            Outcome::Read(_) if age(&observation) > self.feed.max_age => {
                let error = format!("no new reading for {} s", self.feed.max_age.as_secs());
                Look::Failed("stale", error, last_good())
            }
            Outcome::Read(reading) => Look::Known(
                reading.backlog,
                age(&observation),
                reading.note.as_ref().map(ToString::to_string),
            ),
        }
    }
}

fn age<R>(observation: &Observation<R>) -> Duration {
    Instant::now()
        .into_std()
        .saturating_duration_since(observation.at)
}
