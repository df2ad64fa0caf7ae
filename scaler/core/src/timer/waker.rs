//! When an instance must be awake for a timer.
//!
//! The host itself keeps the truth in the status blob: when the next run is due, and that a run has been recorded. The waker
//! derives everything from that blob and the clock, so it needs no memory of its own: after a restart, or when the clock
//! jumps, it comes to the same answer, and no run is skipped or doubled by it.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::schedule::{Persistence, Schedule, ScheduleError, ScheduleWarning};
use super::status::ScheduleStatus;
use super::zone::{Zone, ZoneError};
use crate::names::{NameError, Settings, resolve};

/// Shortest time an instance is woken ahead of a run.
pub const MIN_LEAD: Duration = Duration::from_secs(1);
/// Longest time an instance is woken ahead of a run.
pub const MAX_LEAD: Duration = Duration::from_mins(1);

/// How long an instance must be ready before a status that does not fit the schedule is taken as it is. Two minutes: a new
/// listener can wait 60 s for the old lease to end and 60 s for its own next try.
const SETTLE: Duration = Duration::from_mins(2);

/// A timer trigger that can be computed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timer {
    /// When it runs.
    pub schedule: Schedule,
    /// Where its wall clock hangs.
    pub zone: Zone,
    /// `useMonitor` of the trigger, true by default.
    pub use_monitor: bool,
    /// `runOnStartup` of the trigger, false by default.
    pub run_on_startup: bool,
}

/// A timer trigger that cannot be computed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TimerError {
    /// A setting in the schedule.
    #[error("schedule '{text}': {source}")]
    Name {
        /// The schedule as declared.
        text: String,
        /// What is wrong.
        source: NameError,
    },
    /// The schedule itself.
    #[error("schedule '{text}': {source}")]
    Schedule {
        /// The schedule as declared.
        text: String,
        /// What is wrong.
        source: ScheduleError,
    },
    /// The zone of the app.
    #[error(transparent)]
    Zone(#[from] ZoneError),
}

impl TimerError {
    /// Stable class of the error.
    pub fn category(&self) -> &'static str {
        match self {
            Self::Name { source, .. } => source.category(),
            Self::Schedule { source, .. } => source.category(),
            Self::Zone(error) => error.category(),
        }
    }
}

/// What is known of the status blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StatusReading {
    /// The blob, just read.
    Present(ScheduleStatus),
    /// Storage answered that there is no blob.
    Missing,
    /// It could not be read.
    Unknown {
        /// Why.
        error: String,
        /// The last blob that could be read.
        last_known: Option<ScheduleStatus>,
    },
    /// The scaler has no access to the storage account of the host at all.
    NoStorage,
}

/// Why a timer keeps an instance at all times.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum AlwaysOn {
    /// More than one run per minute: the host keeps no status and loses runs while no instance is up.
    SubMinute,
    /// `useMonitor` is false.
    MonitorOff,
    /// The status blob is out of reach, so nobody can tell when a run has been recorded.
    NoStorage,
}

impl AlwaysOn {
    /// In words.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SubMinute => {
                "it can run more than once a minute, the host keeps no status for it"
            }
            Self::MonitorOff => "useMonitor is false, the host keeps no status for it",
            Self::NoStorage => "its status blob cannot be reached from here",
        }
    }
}

/// Why an instance is awake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Awake {
    /// A run is due or about to be, and not recorded yet.
    Due,
    /// There is no status yet: the host must start once, or the first run is skipped.
    FirstStart,
    /// The status belongs to another schedule: the host must start once to compute it anew.
    ScheduleChanged,
}

/// What a timer wants now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "state")]
pub enum WakeState {
    /// No instance is needed before `until`. From then on the timer wants one, without any new reading.
    #[serde(rename_all = "camelCase")]
    Asleep {
        /// When to wake. `None`: never.
        until: Option<Timestamp>,
        /// The run that it wakes for.
        due: Option<Timestamp>,
        /// The status does not fit our reading of the schedule and is taken as it is, because a host was up and left it so.
        unmatched: bool,
    },
    /// One instance is needed.
    #[serde(rename_all = "camelCase")]
    Awake {
        /// Why.
        because: Awake,
        /// The run it is for.
        due: Option<Timestamp>,
    },
    /// One instance is needed at all times.
    #[serde(rename_all = "camelCase")]
    AlwaysOn {
        /// Why.
        reason: AlwaysOn,
    },
    /// The status cannot be read: keep what is there, and wake at `until` at the latest.
    #[serde(rename_all = "camelCase")]
    Hold {
        /// Why.
        error: String,
        /// When an instance is needed in any case.
        until: Option<Timestamp>,
    },
}

impl Timer {
    /// Makes a timer from a trigger's properties and the settings of its app.
    ///
    /// # Errors
    /// When a setting is missing, the schedule cannot be read or would run without a pause, or the zone is not known.
    pub fn new(
        schedule: &str,
        settings: &Settings,
        use_monitor: bool,
        run_on_startup: bool,
    ) -> Result<Self, TimerError> {
        let resolved = resolve(schedule, settings).map_err(|source| TimerError::Name {
            text: schedule.to_owned(),
            source,
        })?;
        Ok(Self {
            schedule: Schedule::usable(&resolved).map_err(|source| TimerError::Schedule {
                text: resolved,
                source,
            })?,
            zone: Zone::from_settings(settings)?,
            use_monitor,
            run_on_startup,
        })
    }

    /// What should be told to the author.
    pub fn warnings(&self) -> Vec<ScheduleWarning> {
        let mut all = self.schedule.warnings();
        if self.run_on_startup {
            all.push(ScheduleWarning::RunOnStartup);
        }
        all
    }

    /// Why the timer needs an instance at all times, if it does.
    pub fn always_on(&self) -> Option<AlwaysOn> {
        if self.schedule.persistence() != Persistence::Kept {
            Some(AlwaysOn::SubMinute)
        } else if self.use_monitor {
            None
        } else {
            Some(AlwaysOn::MonitorOff)
        }
    }

    /// What the timer wants at `now`.
    ///
    /// `lead` is how long a start takes ([`StartTimes::lead`]); it is kept within [`MIN_LEAD`] and [`MAX_LEAD`].
    /// `ready_since` is since when an instance of the group has been ready without a break. `previous` only steadies the
    /// answer: a small step back of the clock, or a shorter lead, does not put an instance to sleep just before its run.
    pub fn wake(
        &self,
        status: &StatusReading,
        lead: Duration,
        ready_since: Option<Timestamp>,
        now: Timestamp,
        previous: Option<&WakeState>,
    ) -> WakeState {
        if let Some(reason) = self.always_on() {
            return WakeState::AlwaysOn { reason };
        }
        let lead = lead.clamp(MIN_LEAD, MAX_LEAD);
        match status {
            StatusReading::NoStorage => WakeState::AlwaysOn {
                reason: AlwaysOn::NoStorage,
            },
            StatusReading::Missing if self.never_fires() => asleep(None, lead, false),
            StatusReading::Missing => WakeState::Awake {
                because: Awake::FirstStart,
                due: self.schedule.next_after(&self.zone, now),
            },
            StatusReading::Present(status) => {
                self.by_status(status, lead, ready_since, now, previous)
            }
            StatusReading::Unknown { error, last_known } => {
                let known = match last_known {
                    Some(status) => self.by_status(status, lead, ready_since, now, previous),
                    None => self.by_clock(lead, now),
                };
                match known {
                    WakeState::Asleep { until, .. } => WakeState::Hold {
                        error: error.clone(),
                        until,
                    },
                    awake => awake,
                }
            }
        }
    }

    fn never_fires(&self) -> bool {
        matches!(&self.schedule, Schedule::Cron(cron) if cron.never_fires())
    }

    fn by_status(
        &self,
        status: &ScheduleStatus,
        lead: Duration,
        ready_since: Option<Timestamp>,
        now: Timestamp,
        previous: Option<&WakeState>,
    ) -> WakeState {
        let fitted = status.fitted(&self.schedule, &self.zone, now);
        let unmatched = fitted.is_none();
        let due = fitted.unwrap_or(*status).next;
        if unmatched {
            let settled = ready_since.is_some_and(|since| elapsed(since, now) >= SETTLE)
                || matches!(previous, Some(WakeState::Asleep { unmatched: true, due: seen, .. }) if *seen == due);
            if !settled {
                return WakeState::Awake {
                    because: Awake::ScheduleChanged,
                    due: self.schedule.next_after(&self.zone, now),
                };
            }
        }
        let Some(at) = due else {
            return asleep(None, lead, unmatched);
        };
        let was_awake =
            matches!(previous, Some(WakeState::Awake { due: seen, .. }) if *seen == due);
        let ahead = if was_awake { lead + MAX_LEAD } else { lead };
        if earlier(at, ahead) <= now {
            return WakeState::Awake {
                because: Awake::Due,
                due,
            };
        }
        asleep(due, lead, unmatched)
    }

    /// Without any status only the wall-clock times of a cron schedule are known. An interval counts from its last run,
    /// which nobody knows then.
    fn by_clock(&self, lead: Duration, now: Timestamp) -> WakeState {
        if matches!(self.schedule, Schedule::Interval { .. }) {
            return asleep(None, lead, false);
        }
        let just_before = earlier(now, Duration::from_secs(1));
        let due = self.schedule.next_after(&self.zone, just_before);
        match due {
            Some(at) if earlier(at, lead) <= now => WakeState::Awake {
                because: Awake::Due,
                due,
            },
            _ => asleep(due, lead, false),
        }
    }

    /// Whether hosts of this zone run the timer again and again at `now` (the hour of a clock change in zones with negative
    /// daylight saving). The blob shows the same: its `Next` does not move ahead of the clock.
    pub fn host_repeats_at(&self, now: Timestamp) -> bool {
        self.schedule.host_repeats_at(&self.zone, now)
    }
}

fn asleep(due: Option<Timestamp>, lead: Duration, unmatched: bool) -> WakeState {
    WakeState::Asleep {
        until: due.map(|at| earlier(at, lead)),
        due,
        unmatched,
    }
}

fn earlier(at: Timestamp, by: Duration) -> Timestamp {
    at.checked_sub(by).unwrap_or(Timestamp::MIN)
}

/// Time from `since` to `now`, zero when the clock went back.
fn elapsed(since: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(since)).unwrap_or_default()
}

/// The last start times of a group: from the replica write to the first instance that serves.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartTimes {
    samples: std::collections::VecDeque<Duration>,
}

impl StartTimes {
    /// How many starts are remembered.
    pub const KEPT: usize = 20;
    /// Lead while nothing is known: a cold start with an image that is on the node.
    pub const UNKNOWN: Duration = Duration::from_secs(20);

    /// Remembers a start.
    pub fn record(&mut self, took: Duration) {
        if self.samples.len() == Self::KEPT {
            self.samples.pop_front();
        }
        self.samples.push_back(took);
    }

    /// How long before a run to wake: the slowest of the remembered starts but the very worst one of twenty (95 %), plus a
    /// quarter and one second, within [`MIN_LEAD`] and [`MAX_LEAD`].
    pub fn lead(&self) -> Duration {
        let mut sorted: Vec<Duration> = self.samples.iter().copied().collect();
        sorted.sort_unstable();
        let rank = (sorted.len() * 95).div_ceil(100);
        let slow = match rank.checked_sub(1).and_then(|index| sorted.get(index)) {
            Some(slow) => *slow,
            None => return Self::UNKNOWN,
        };
        slow.saturating_add(slow / 4)
            .saturating_add(Duration::from_secs(1))
            .clamp(MIN_LEAD, MAX_LEAD)
    }
}
