//! The status blob of a timer, and what the host makes of it when it starts and after each run.
//!
//! Source of the rules: `TimerListener` and `ScheduleMonitor` of the timers extension.

use std::time::Duration;

use jiff::Timestamp;
use jiff::fmt::temporal::Pieces;
use jiff::tz::Offset;
use serde_json::{Value, json};

use super::schedule::Schedule;
use super::zone::Zone;

/// A status from further in the future than this is not explained by a clock that was set back. It must be shorter than the
/// shortest repeated time of any zone (half an hour, Lord Howe).
const FUTURE_STATUS: Duration = Duration::from_mins(20);

/// What the blob says. A time of the year 1 means "never" and is `None` here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScheduleStatus {
    /// Start of the last run.
    pub last: Option<Timestamp>,
    /// When the next run is due. `None`: never (a schedule that no date matches).
    pub next: Option<Timestamp>,
    /// When the status was written, or the time that the schedule was computed from.
    pub last_updated: Option<Timestamp>,
}

/// A status blob that cannot be read. The host cannot start the timer with it either.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the timer status cannot be read: {problem}; delete the blob, the host writes it anew at its next start"
)]
pub struct StatusError {
    problem: String,
}

impl StatusError {
    /// Stable class of the error.
    pub fn category(&self) -> &'static str {
        "timer-status"
    }
}

/// What a host does when its listener starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListenerStart {
    /// The status in force afterwards.
    pub status: ScheduleStatus,
    /// Whether the status differs from the stored one and is written.
    pub written: bool,
    /// By how much the run is past due. `None`: it is not, the host waits for `status.next`.
    pub past_due: Option<Duration>,
}

impl ScheduleStatus {
    /// Path of the blob inside the container `azure-webjobs-hosts`.
    pub fn blob_path(host_id: &str, function: &str) -> String {
        format!("timers/{host_id}/Host.Functions.{function}/status")
    }

    /// Reads the blob. `zone` is only used for times without an offset.
    ///
    /// # Errors
    /// When it is not the JSON that the host writes.
    pub fn parse(blob: &[u8], zone: &Zone) -> Result<Self, StatusError> {
        let text = blob.strip_prefix(b"\xef\xbb\xbf").unwrap_or(blob);
        let value: Value = serde_json::from_slice(text).map_err(|error| StatusError {
            problem: error.to_string(),
        })?;
        let Value::Object(members) = &value else {
            return Err(StatusError {
                problem: "it is not a JSON object".to_owned(),
            });
        };
        let time = |name: &str| {
            let member = members
                .iter()
                .find(|(key, _)| key.eq_ignore_ascii_case(name))
                .map(|(_, value)| value);
            match member {
                None | Some(Value::Null) => Ok(None),
                Some(Value::String(text)) => {
                    parse_time(text, zone).map_err(|problem| StatusError {
                        problem: format!("{name} '{text}': {problem}"),
                    })
                }
                Some(other) => Err(StatusError {
                    problem: format!("{name} is {other}, not a time"),
                }),
            }
        };
        Ok(Self {
            last: time("Last")?,
            next: time("Next")?,
            last_updated: time("LastUpdated")?,
        })
    }

    /// The blob as the host writes it: local times with offset.
    pub fn to_json(&self, zone: &Zone) -> String {
        let time = |at: Option<Timestamp>, otherwise: &str| match at {
            Some(at) => at.display_with_offset(zone.offset(at)).to_string(),
            None => otherwise.to_owned(),
        };
        let never_ran = "0001-01-01T00:00:00+00:00";
        json!({
            "Last": time(self.last, never_ran),
            "Next": time(self.next, "9999-12-31T23:59:59.9999999+00:00"),
            "LastUpdated": time(self.last_updated, never_ran),
        })
        .to_string()
    }

    /// The time that the stored `next` was computed from.
    pub fn base(&self) -> Option<Timestamp> {
        self.last.or(self.last_updated)
    }

    /// The status with its repeated times put into the pass that fits the schedule.
    ///
    /// The offset that is written with a time in the hour that is repeated when daylight saving ends is not reliable. The
    /// pass that gives the stored `next` is taken. Where both do, what is written counts, unless that would be a status from
    /// the far future. `None` when no reading fits: the status belongs to another schedule.
    pub fn fitted(&self, schedule: &Schedule, zone: &Zone, now: Timestamp) -> Option<Self> {
        let bases = match self.base() {
            Some(base) => zone.readings(base),
            None => vec![now],
        };
        let nexts = match self.next {
            Some(next) => zone.readings(next).into_iter().map(Some).collect(),
            None => vec![None],
        };
        let fits = |base: Timestamp, next: Option<Timestamp>| {
            // Where daylight saving is negative, the true next time is accepted beside the host's.
            next == schedule.host_next_after(zone, base) || next == schedule.next_after(zone, base)
        };
        let mut found: Vec<(Timestamp, Option<Timestamp>)> = bases
            .iter()
            .flat_map(|base| nexts.iter().map(|next| (*base, *next)))
            .filter(|(base, next)| fits(*base, *next))
            .collect();
        // Stable: a possible base first, then what is written as it is.
        let latest = now.checked_add(FUTURE_STATUS).unwrap_or(Timestamp::MAX);
        found.sort_by_key(|(base, next)| {
            (
                *base > latest,
                self.base() != Some(*base) || self.next != *next,
            )
        });
        found.first().map(|(base, next)| Self {
            last: self.last.map(|_| *base),
            next: *next,
            last_updated: self.last_updated.map(|at| {
                if self.last.is_none_or(|last| last == at) {
                    *base
                } else {
                    at
                }
            }),
        })
    }

    /// What a host does that starts its listener at `now` and finds `stored`.
    pub fn at_listener_start(
        stored: Option<Self>,
        schedule: &Schedule,
        zone: &Zone,
        now: Timestamp,
    ) -> ListenerStart {
        let next = |after| schedule.host_next_after(zone, after);
        let Some(stored) = stored else {
            let status = Self {
                last: None,
                next: next(now),
                last_updated: Some(now),
            };
            return ListenerStart {
                status,
                written: true,
                past_due: None,
            };
        };
        let fitted = stored.fitted(schedule, zone, now);
        let written = fitted.is_none();
        let mut status = fitted.unwrap_or(stored);
        if written {
            let mut base = stored.base().unwrap_or(now);
            let mut expected = next(base);
            if expected.is_some_and(|expected| now > expected) {
                expected = next(now);
                base = now;
            }
            status = Self {
                last: None,
                next: expected,
                last_updated: Some(base),
            };
        }
        let past_due = status
            .next
            .and_then(|due| Duration::try_from(now.duration_since(due)).ok())
            .filter(|late| !late.is_zero());
        ListenerStart {
            status,
            written,
            past_due,
        }
    }

    /// The status after a run that started at `started`. `regular` is false for past-due and start-up runs; a regular run
    /// that fired a moment too early counts as on time.
    #[must_use]
    pub fn after_run(
        &self,
        schedule: &Schedule,
        zone: &Zone,
        started: Timestamp,
        regular: bool,
    ) -> Self {
        let at = match self.next {
            Some(due) if regular && started < due => due,
            _ => started,
        };
        Self {
            last: Some(at),
            next: schedule.host_next_after(zone, at),
            last_updated: Some(at),
        }
    }
}

/// How long a host waits for a run: at least 100 ns.
pub fn wait_until(next: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(next.duration_since(now))
        .unwrap_or_default()
        .max(Duration::from_nanos(100))
}

fn parse_time(text: &str, zone: &Zone) -> Result<Option<Timestamp>, String> {
    let pieces = Pieces::parse(text).map_err(|error| error.to_string())?;
    let local = pieces
        .date()
        .to_datetime(pieces.time().ok_or("the time of day is missing")?);
    // "Never" is written in local time, so that only the year is a safe test.
    if local.year() <= 1 {
        return Ok(None);
    }
    let offset: Option<Offset> = pieces.to_numeric_offset();
    let at = match offset {
        Some(offset) => offset.to_timestamp(local).ok(),
        None => zone.instant(local, super::zone::Rule::Host, false),
    };
    // The host writes the end of the calendar for "no more runs", which some offsets push out of range.
    Ok(at.filter(|_| local.year() < 9999))
}
