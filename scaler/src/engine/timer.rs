//! A timer while it is followed: the status that was read last, and what it means at a moment.

use super::feed::{Feed, Feeds};
use super::metrics::EngineMetrics;
use crate::index::{TimerPlan, TimerStatusPlan};
use jiff::Timestamp;
use maniple_core::timer::{Awake, ScheduleStatus, StatusReading, WakeState};
use maniple_sources::observation::Outcome;
use maniple_sources::timer_status::TimerStatus;
use std::time::Duration;

/// How often the status is read while nothing is expected.
pub(super) const RELAXED: Duration = Duration::from_mins(5);
/// How often it is read while a run is expected to be recorded.
const EAGER: Duration = Duration::from_secs(1);
/// How often it is read while it cannot be.
const HOLDING: Duration = Duration::from_secs(10);
/// How often a wait that ends without a new status is looked at again.
const RECHECK: Duration = Duration::from_secs(15);

/// What is known around a timer at a moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Around {
    /// How long a start takes.
    pub(super) lead: Duration,
    /// Since when an instance of the group has been ready without a break.
    pub(super) ready_since: Option<Timestamp>,
    /// Wall clock.
    pub(super) now: Timestamp,
}

/// A timer that is followed.
pub(super) struct FollowedTimer {
    plan: TimerPlan,
    feed: Option<Feed<TimerStatus>>,
    /// Why there is no feed though there should be one.
    problem: Option<String>,
    last_known: Option<ScheduleStatus>,
    state: Option<WakeState>,
}

/// What a timer says at a moment.
pub(super) enum Said {
    /// Its status was not read yet.
    NotRead,
    /// This.
    State {
        /// What it wants.
        state: WakeState,
        /// When to look again, although nothing new may have been read.
        recheck: Option<Duration>,
    },
}

impl FollowedTimer {
    pub(super) fn open(plan: &TimerPlan, feeds: &dyn Feeds) -> Self {
        let mut problem = None;
        let feed = match &plan.status {
            TimerStatusPlan::None => None,
            TimerStatusPlan::Broken(broken) => {
                problem = Some(broken.message.clone());
                None
            }
            TimerStatusPlan::Blob {
                account,
                host_id,
                function,
            } => feeds
                .timer(account, host_id, function)
                .map_err(|error| problem = Some(error.to_string()))
                .ok(),
        };
        Self {
            plan: plan.clone(),
            feed,
            problem,
            last_known: None,
            state: None,
        }
    }

    pub(super) fn feed(&self) -> Option<&Feed<TimerStatus>> {
        self.feed.as_ref()
    }

    /// The category of the error that keeps the status from being known.
    pub(super) fn failure(&self) -> Option<&'static str> {
        if self.problem.is_some() {
            return Some("connection");
        }
        let observation = self.feed.as_ref()?.observations.borrow();
        observation.error().map(|error| error.category)
    }

    pub(super) fn say(&mut self, around: Around, metrics: &EngineMetrics) -> Said {
        let Some(status) = self.status(around, metrics) else {
            return Said::NotRead;
        };
        let state = self.plan.timer.wake(
            &status,
            around.lead,
            around.ready_since,
            around.now,
            self.state.as_ref(),
        );
        if let Some(feed) = &self.feed {
            feed.control.set_interval(match &state {
                WakeState::Awake { .. } => EAGER,
                WakeState::Hold { .. } => HOLDING,
                WakeState::Asleep { .. } | WakeState::AlwaysOn { .. } => RELAXED,
            });
        }
        let recheck = matches!(
            &state,
            WakeState::Awake {
                because: Awake::ScheduleChanged,
                ..
            }
        )
        .then_some(RECHECK);
        self.state = Some(state.clone());
        Said::State { state, recheck }
    }

    fn status(&mut self, around: Around, metrics: &EngineMetrics) -> Option<StatusReading> {
        let unknown =
            |error: String, last_known| Some(StatusReading::Unknown { error, last_known });
        if let Some(problem) = &self.problem {
            return unknown(problem.clone(), self.last_known);
        }
        let Some(feed) = &self.feed else {
            return Some(StatusReading::NoStorage);
        };
        if feed.observations.has_changed().is_err() {
            return unknown("its status is read no longer".to_owned(), self.last_known);
        }
        let observation = feed.observations.borrow().clone();
        match &observation.outcome {
            Outcome::Pending => None,
            Outcome::Failed(error) => unknown(error.message.clone(), self.last_known),
            Outcome::Read(TimerStatus::Missing) => Some(StatusReading::Missing),
            Outcome::Read(TimerStatus::Present { content, .. }) => {
                match ScheduleStatus::parse(content, &self.plan.timer.zone) {
                    Err(error) => unknown(error.to_string(), self.last_known),
                    Ok(status) => {
                        self.record(&status, around, metrics);
                        self.last_known = Some(status);
                        Some(StatusReading::Present(status))
                    }
                }
            }
        }
    }

    /// Measures a run that has been recorded since the last look.
    fn record(&self, status: &ScheduleStatus, around: Around, metrics: &EngineMetrics) {
        let Some(before) = &self.last_known else {
            return;
        };
        let (Some(due), Some(run)) = (before.next, status.last) else {
            return;
        };
        if before.last == status.last || run < due {
            return;
        }
        metrics.timer_lateness.observe(seconds(due, run));
        if let Some(ready) = around.ready_since {
            metrics.timer_lead.observe(seconds(ready, due));
        }
    }
}

/// Seconds from one time to a later one; 0 when it is not later.
fn seconds(from: Timestamp, to: Timestamp) -> f64 {
    Duration::try_from(to.duration_since(from))
        .unwrap_or_default()
        .as_secs_f64()
}
