//! One source: what it wants, and why.

use std::num::NonZeroU32;
use std::time::Duration;

use jiff::Timestamp;

use super::{Reason, SourceKind, SourceReading, SourceResult, SourceSpec};
use crate::queue::instances;
use crate::timer::{Awake, WakeState};

/// One source, looked at.
pub(super) struct Look {
    pub(super) result: SourceResult,
    /// When this may change by itself.
    pub(super) wake: Option<Timestamp>,
    pub(super) reason: Reason,
}

impl Look {
    pub(super) fn at(
        source: &SourceSpec,
        reading: &SourceReading,
        max_age: Duration,
        present: Option<u32>,
        wall: Timestamp,
    ) -> Self {
        let mut look = Self {
            result: SourceResult {
                function: source.function.clone(),
                trigger: source.kind.trigger().to_owned(),
                backlog: None,
                target: None,
                wants: None,
                error: None,
                note: None,
            },
            wake: None,
            reason: Reason::Backlog,
        };
        match (&source.kind, reading) {
            (
                SourceKind::Http { concurrency },
                SourceReading::Demand {
                    current,
                    peak,
                    complete,
                },
            ) => {
                look.reason = Reason::Http;
                look.demand(*concurrency, *current, *peak, *complete, present);
            }
            (SourceKind::Http { .. }, SourceReading::NotRead) => {
                look.reason = Reason::Http;
                look.keeps_one("requests are not counted yet, one instance is kept");
            }
            (SourceKind::Unsupported { trigger }, _) => {
                look.reason = Reason::Unsupported;
                look.keeps_one(&format!(
                    "there is no source for {trigger} yet, one instance is kept"
                ));
            }
            (SourceKind::Timer, SourceReading::Timer(state)) => {
                look.reason = Reason::Timer;
                look.timer(state, wall);
            }
            (SourceKind::StorageQueue { target }, SourceReading::Backlog { count, at, note }) => {
                look.result.target = Some(target.get());
                look.result.backlog = Some(*count);
                look.result.note.clone_from(note);
                let age = Duration::try_from(wall.duration_since(*at)).unwrap_or_default();
                if age > max_age {
                    look.result.error = Some(format!("the last reading is of {at:.0}, too old"));
                } else {
                    look.result.wants = Some(instances(*count, *target));
                    look.wake = at
                        .checked_add(max_age)
                        .and_then(|at| at.checked_add(Duration::from_nanos(1)))
                        .ok();
                }
            }
            (
                kind,
                SourceReading::Unknown {
                    error,
                    since,
                    last_good,
                },
            ) => {
                look.result.backlog = *last_good;
                if let SourceKind::StorageQueue { target } = kind {
                    look.result.target = Some(target.get());
                }
                look.result.error = Some(format!("{error} (since {since:.0})"));
            }
            (_, SourceReading::NotRead) => {
                look.result.error = Some("not read yet".to_owned());
            }
            (
                kind,
                SourceReading::Timer(_)
                | SourceReading::Backlog { .. }
                | SourceReading::Demand { .. },
            ) => {
                look.result.error = Some(format!(
                    "the reading does not belong to a {}",
                    kind.trigger()
                ));
            }
        }
        if let (Some(wants), Some(cap)) = (look.result.wants, source.instance_cap)
            && wants > cap
        {
            look.result.wants = Some(cap);
            look.result.note = Some(format!("wants {wants}, limited to {cap} for this function"));
        }
        look
    }

    /// Exact for scale-out; scale-in goes down to the peak only, and not at all while a front end is silent.
    fn demand(
        &mut self,
        concurrency: NonZeroU32,
        current: u64,
        peak: u64,
        complete: bool,
        present: Option<u32>,
    ) {
        self.result.backlog = Some(current);
        self.result.target = Some(concurrency.get());
        let now = instances(current, concurrency);
        let kept = if complete {
            instances(peak, concurrency)
        } else {
            u32::MAX
        };
        let held = present.unwrap_or(0).min(kept);
        if held > now {
            self.result.note = Some(if complete {
                format!("{peak} requests lately")
            } else {
                "a front end is silent, nothing is taken away".to_owned()
            });
        }
        self.result.wants = Some(now.max(held));
    }

    fn keeps_one(&mut self, note: &str) {
        self.result.wants = Some(1);
        self.result.note = Some(note.to_owned());
    }

    fn timer(&mut self, state: &WakeState, wall: Timestamp) {
        let due_words = |due: &Option<Timestamp>| match due {
            Some(due) => format!("run due at {due:.0}"),
            None => "never due".to_owned(),
        };
        match state {
            WakeState::Asleep { until, due, .. } => {
                self.result.note = Some(due_words(due));
                self.sleep_until(*until, wall);
                if self.result.wants.is_none() {
                    self.result.wants = Some(0);
                }
            }
            WakeState::Awake { because, due } => {
                self.keeps_one(&match because {
                    Awake::Due => due_words(due),
                    Awake::FirstStart => "needs a first start to store its status".to_owned(),
                    Awake::ScheduleChanged => {
                        "needs a start to store its status for a changed schedule".to_owned()
                    }
                });
            }
            WakeState::AlwaysOn { reason } => self.keeps_one(reason.as_str()),
            WakeState::Hold { error, until } => {
                self.sleep_until(*until, wall);
                if self.result.wants.is_none() {
                    self.result.error = Some(error.clone());
                }
            }
        }
    }

    /// A timer that sleeps until a time that has come wants its instance without a new reading.
    fn sleep_until(&mut self, until: Option<Timestamp>, wall: Timestamp) {
        match until {
            Some(until) if until <= wall => self.result.wants = Some(1),
            later => self.wake = later,
        }
    }

    /// The source in words and numbers.
    pub(super) fn words(&self) -> String {
        let SourceResult {
            function,
            trigger,
            backlog,
            target,
            wants,
            error,
            note,
        } = &self.result;
        let name = format!("function {function} ({trigger})");
        if let Some(error) = error {
            return format!("{name}: {error}");
        }
        let detail = match (backlog, target, note) {
            (Some(backlog), Some(target), Some(note)) if self.reason == Reason::Http => {
                format!(": {backlog} requests, {target} at a time per instance, {note}")
            }
            (Some(backlog), Some(target), _) if self.reason == Reason::Http => {
                format!(": {backlog} requests, {target} at a time per instance")
            }
            (Some(backlog), Some(target), _) => {
                format!(": backlog {backlog}, target {target} per instance")
            }
            (_, _, Some(note)) => format!(": {note}"),
            _ => String::new(),
        };
        let wants = wants.map_or_else(String::new, |wants| format!(", wants {wants}"));
        format!("{name}{detail}{wants}")
    }
}
