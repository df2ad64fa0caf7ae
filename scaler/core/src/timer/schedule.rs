//! A schedule text and its next occurrence in a zone.

use jiff::{SignedDuration, Timestamp};

use super::cron::Cron;
use super::field::FieldKind;
use super::timespan::{TICKS_PER_SECOND, parse_timespan};
use super::zone::{Rule, Zone};

/// A schedule that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// Neither five nor six fields.
    #[error(
        "a cron schedule has 6 fields (second minute hour day month weekday) or 5 without the second, this one has {found}"
    )]
    FieldCount {
        /// Fields found.
        found: usize,
    },
    /// One field cannot be read.
    #[error(
        "the {field} field '{text}' cannot be read: {problem}; use numbers, names, '*', lists 'a,b', ranges 'a-b' and steps '/n'"
    )]
    Field {
        /// Name of the field.
        field: &'static str,
        /// The field as written.
        text: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The interval is zero or negative. The host would run the function without a pause.
    #[error(
        "the interval '{text}' is not longer than zero, the function would run without a pause: use a positive time span such as 00:05:00 or a cron schedule"
    )]
    NotPositive {
        /// The schedule as written.
        text: String,
    },
}

impl ScheduleError {
    /// Stable class of the error.
    pub fn category(&self) -> &'static str {
        match self {
            Self::FieldCount { .. } | Self::Field { .. } => "schedule-syntax",
            Self::NotPositive { .. } => "schedule-interval",
        }
    }
}

/// Something that is allowed, runs as written, and most likely is not meant.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ScheduleWarning {
    /// A range from high to low is read with its ends swapped.
    SwappedRange {
        /// The field.
        field: FieldKind,
        /// As written.
        text: String,
        /// Lowest value that it stands for.
        low: u32,
        /// Highest value that it stands for.
        high: u32,
    },
    /// No date matches.
    NeverFires,
    /// A time span that reads as days though its text looks like hours, or a bare number.
    Days {
        /// Whole days.
        days: i64,
    },
    /// `runOnStartup` runs the function each time an instance starts, thus at every wake-up.
    RunOnStartup,
}

impl std::fmt::Display for ScheduleWarning {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::SwappedRange {
                field,
                text,
                low,
                high,
            } => write!(
                f,
                "the {} range '{text}' does not wrap around: the host reads it as {low} to {high}; write two ranges if the wrap is meant",
                field.as_str()
            ),
            Self::NeverFires => {
                f.write_str("no date matches this schedule, the function never runs")
            }
            Self::Days { days } => write!(
                f,
                "this time span is read as {days} days; write hours below 24 as hh:mm:ss"
            ),
            Self::RunOnStartup => f.write_str(
                "runOnStartup runs the function at every wake-up from zero; remove it unless that is meant",
            ),
        }
    }
}

/// When a timer runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Schedule {
    /// At wall-clock times.
    Cron(Cron),
    /// A fixed time after the last run, in units of 100 ns. The text may say zero or less; [`Schedule::usable`] refuses it.
    Interval {
        /// Length in units of 100 ns.
        ticks: i64,
    },
}

/// Whether the host keeps the status of a timer in storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Persistence {
    /// Always, if `useMonitor` allows it.
    Kept,
    /// Never: more than one run per minute.
    Off,
    /// It depends on the second at which the host starts.
    Depends,
}

impl Schedule {
    /// Reads a schedule: cron first, then a .NET time span. Settings in `%...%` are resolved before
    /// ([`crate::names::resolve`]).
    ///
    /// # Errors
    /// The error of the cron reading when the text is neither.
    pub fn parse(text: &str) -> Result<Self, ScheduleError> {
        match Cron::parse(text) {
            Ok(cron) => Ok(Self::Cron(cron)),
            Err(error) => match parse_timespan(text) {
                Some(ticks) => Ok(Self::Interval { ticks }),
                None => Err(error),
            },
        }
    }

    /// Like [`Schedule::parse`], and refuses what the host would run without a pause.
    ///
    /// # Errors
    /// As `parse`, and for intervals of zero or less.
    pub fn usable(text: &str) -> Result<Self, ScheduleError> {
        match Self::parse(text)? {
            Self::Interval { ticks } if ticks <= 0 => Err(ScheduleError::NotPositive {
                text: text.to_owned(),
            }),
            schedule => Ok(schedule),
        }
    }

    /// What should be told to the author of the schedule.
    pub fn warnings(&self) -> Vec<ScheduleWarning> {
        match self {
            Self::Cron(cron) => {
                let mut all: Vec<_> = cron
                    .swapped_ranges()
                    .map(|(field, text, low, high)| ScheduleWarning::SwappedRange {
                        field,
                        text: text.to_owned(),
                        low,
                        high,
                    })
                    .collect();
                if cron.never_fires() {
                    all.push(ScheduleWarning::NeverFires);
                }
                all
            }
            Self::Interval { ticks } => {
                let days = ticks / (86_400 * TICKS_PER_SECOND);
                if days > 0 {
                    vec![ScheduleWarning::Days { days }]
                } else {
                    Vec::new()
                }
            }
        }
    }

    /// Whether the host keeps a status, before `useMonitor` is looked at.
    pub fn persistence(&self) -> Persistence {
        match self {
            Self::Cron(cron) if cron.may_lack_persistence() => Persistence::Depends,
            Self::Interval { ticks } if *ticks < 60 * TICKS_PER_SECOND => Persistence::Off,
            Self::Cron(_) | Self::Interval { .. } => Persistence::Kept,
        }
    }

    /// The next occurrence as the host computes and stores it. It equals [`Schedule::next_after`] except in zones with
    /// negative daylight saving, where it can stand still or lie in the past for the hour of the change.
    pub fn host_next_after(&self, zone: &Zone, after: Timestamp) -> Option<Timestamp> {
        self.next(zone, after, Rule::Host)
    }

    /// The true next occurrence strictly after `after`. `None`: never.
    pub fn next_after(&self, zone: &Zone, after: Timestamp) -> Option<Timestamp> {
        self.next(zone, after, Rule::Clock)
    }

    /// Whether a host would find itself due again right after a run that started at `now`, so that it runs without a pause
    /// until the change of clocks is over. An instance is kept awake while this is so.
    pub fn host_repeats_at(&self, zone: &Zone, now: Timestamp) -> bool {
        self.host_next_after(zone, now)
            .is_some_and(|next| next <= now)
    }

    fn next(&self, zone: &Zone, after: Timestamp, rule: Rule) -> Option<Timestamp> {
        match self {
            Self::Cron(cron) => cron_next(cron, zone, after, rule),
            Self::Interval { ticks } => {
                let length = SignedDuration::new(
                    ticks / TICKS_PER_SECOND,
                    (ticks % TICKS_PER_SECOND) as i32 * 100,
                );
                // The host adds on the wall clock. A repeated time stays in its pass, a time that becomes one is standard.
                let local = zone.local(after);
                let first_pass = zone.is_ambiguous(local, rule)
                    && zone.instant(local, rule, true) == Some(after);
                zone.instant(local.checked_add(length).ok()?, rule, first_pass)
            }
        }
    }
}

/// The rule of `CronSchedule.GetNextOccurrence` in the timers extension: compute on the wall clock, read the result in
/// standard time, then correct it when the hour that is repeated at the end of daylight saving is touched.
fn cron_next(cron: &Cron, zone: &Zone, after: Timestamp, rule: Rule) -> Option<Timestamp> {
    let local = zone.local(after);
    let mut next_local = cron.next_after(local)?;
    let next = zone.instant(next_local, rule, false)?;
    let next_ambiguous = zone.is_ambiguous(zone.local(next), rule);
    if !next_ambiguous && !zone.is_ambiguous(local, rule) {
        return Some(next);
    }
    let shift = zone.offset(next).duration_since(zone.offset(after));
    if shift.is_zero() {
        if cron.is_dst_interval() || !next_ambiguous {
            return Some(next);
        }
        // A point in time in the second pass counts as done in the first.
        while zone.is_ambiguous(next_local, rule) {
            next_local = cron.next_after(next_local)?;
        }
        return zone.instant(next_local, rule, false);
    }
    if cron.is_dst_interval() || next_ambiguous {
        // A point in time belongs to the first pass, an interval goes on through both.
        return next.checked_add(shift).ok();
    }
    Some(next)
}
