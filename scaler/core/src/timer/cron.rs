//! NCRONTAB: the cron dialect of the timer trigger, read and computed as the NCrontab library does, without any zone.
//!
//! Day of month and weekday must both match. The text has six fields (seconds first); exactly five make the form without
//! seconds. There is no `?`, `L`, `W`, `#`, no `@daily` and no wrap-around range.

use jiff::civil::{Date, DateTime, Time};
use jiff::{SignedDuration, ToSpan as _};

use super::ScheduleError;
use super::field::{Field, FieldKind, Swapped};

/// A parsed cron text: the set of allowed values of each field.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Cron {
    fields: [Field; 6],
    has_seconds: bool,
    swapped: Vec<Swapped>,
}

impl Cron {
    /// Reads a cron text. Only blanks separate fields (a tab does not), several blanks are one.
    ///
    /// # Errors
    /// When the number of fields is not five or six or a field cannot be read.
    pub fn parse(text: &str) -> Result<Self, ScheduleError> {
        let tokens: Vec<&str> = text.split(' ').filter(|token| !token.is_empty()).collect();
        let has_seconds = tokens.len() != 5;
        if has_seconds && tokens.len() != 6 {
            return Err(ScheduleError::FieldCount {
                found: tokens.len(),
            });
        }
        let mut swapped = Vec::new();
        let mut fields = FieldKind::ALL.map(|kind| Field::single(kind, 0));
        let kinds = &FieldKind::ALL[usize::from(!has_seconds)..];
        for (kind, token) in kinds.iter().zip(&tokens) {
            fields[*kind as usize] = Field::parse(*kind, token, &mut swapped)?;
        }
        Ok(Self {
            fields,
            has_seconds,
            swapped,
        })
    }

    fn field(&self, kind: FieldKind) -> Field {
        self.fields[kind as usize]
    }

    /// Whether the text had a field for seconds. Without it the second is 0.
    pub fn has_seconds(&self) -> bool {
        self.has_seconds
    }

    /// The text that the library prints back. The rules for daylight saving and for persistence look at this text, not at
    /// what the user wrote.
    pub fn canonical(&self) -> String {
        let parts: Vec<String> = self
            .fields
            .iter()
            .skip(usize::from(!self.has_seconds))
            .map(|field| field.canonical())
            .collect();
        parts.join(" ")
    }

    /// Whether the schedule counts as an interval when daylight saving ends (it runs through both passes of the repeated
    /// hour) rather than as a point in time (it runs once): one of the fields before the day holds a range or is full.
    /// Source: `CronSchedule` of the timers extension.
    pub fn is_dst_interval(&self) -> bool {
        self.fields
            .iter()
            .take(3)
            .skip(usize::from(!self.has_seconds))
            .any(|field| field.canonical().contains(['*', '-']))
    }

    /// Whether no date can ever match, like 30 February.
    pub fn never_fires(&self) -> bool {
        // Weekdays need no look: every day of every month falls on every weekday within the years, 29 February too.
        let first_day = self.field(FieldKind::Day).first();
        let longest = (1..=12)
            .filter(|month| self.field(FieldKind::Month).contains(*month))
            .map(|month| match month {
                2 => 29,
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            })
            .max()
            .unwrap_or(0);
        first_day > longest
    }

    /// The first occurrence strictly after `after`, both in wall-clock time. `None` when there is none before the year
    /// 10000.
    pub fn next_after(&self, after: DateTime) -> Option<DateTime> {
        if self.never_fires() {
            return None;
        }
        let whole = after.with().subsec_nanosecond(0).build().ok()?;
        let start = whole.checked_add(SignedDuration::from_secs(1)).ok()?;
        let mut date = start.date();
        let mut from = start.time();
        loop {
            if let Some(time) = self
                .matches(date)
                .then(|| self.time_at_or_after(from))
                .flatten()
            {
                return Some(date.to_datetime(time));
            }
            from = Time::midnight();
            date = self.later_date(date)?;
        }
    }

    fn matches(&self, date: Date) -> bool {
        let weekday = date.weekday().to_sunday_zero_offset();
        self.field(FieldKind::Month).contains(number(date.month()))
            && self.field(FieldKind::Day).contains(number(date.day()))
            && self.field(FieldKind::Weekday).contains(number(weekday))
    }

    /// The next date worth a look: tomorrow, or the first day of the next allowed month.
    fn later_date(&self, date: Date) -> Option<Date> {
        let tomorrow = date.tomorrow().ok()?;
        if self
            .field(FieldKind::Month)
            .contains(number(tomorrow.month()))
        {
            return Some(tomorrow);
        }
        let mut month = tomorrow.first_of_month();
        if month < tomorrow {
            month = month.checked_add(1.month()).ok()?;
        }
        while !self.field(FieldKind::Month).contains(number(month.month())) {
            month = month.checked_add(1.month()).ok()?;
        }
        Some(month)
    }

    fn time_at_or_after(&self, from: Time) -> Option<Time> {
        let (hours, minutes, seconds) = (
            self.field(FieldKind::Hour),
            self.field(FieldKind::Minute),
            self.field(FieldKind::Second),
        );
        let (hour, minute, second) = (
            number(from.hour()),
            number(from.minute()),
            number(from.second()),
        );
        let found = if hours.contains(hour) {
            if minutes.contains(minute)
                && let Some(second) = seconds.at_or_after(second)
            {
                Some((hour, minute, second))
            } else {
                minutes
                    .at_or_after(minute + 1)
                    .map(|minute| (hour, minute, seconds.first()))
            }
        } else {
            None
        };
        let (hour, minute, second) = match found {
            Some(found) => found,
            None => (
                hours.at_or_after(hour + 1)?,
                minutes.first(),
                seconds.first(),
            ),
        };
        Time::new(hour as i8, minute as i8, second as i8, 0).ok()
    }

    /// Whether every field after the seconds allows everything.
    fn every_minute(&self) -> bool {
        self.fields.iter().skip(1).all(|field| field.is_all())
    }

    /// Whether the host switches persistence off for a listener that is created at `now` (wall clock): the schedule runs
    /// every minute and more than one run falls strictly between now and one minute later.
    pub fn persistence_off_at(&self, now: DateTime) -> bool {
        if !self.has_seconds || !self.every_minute() {
            return false;
        }
        let Ok(end) = now.checked_add(SignedDuration::from_mins(1)) else {
            return false;
        };
        self.next_after(now)
            .and_then(|first| self.next_after(first))
            .is_some_and(|second| second < end)
    }

    /// Whether a listener can come to be without persistence, depending on the second at which it starts.
    pub fn may_lack_persistence(&self) -> bool {
        self.has_seconds && self.every_minute() && self.field(FieldKind::Second).count() > 1
    }

    /// The ranges that were written from high to low: (field, as written, lowest, highest value that they stand for).
    pub fn swapped_ranges(&self) -> impl Iterator<Item = (FieldKind, &str, u32, u32)> {
        self.swapped
            .iter()
            .map(|range| (range.kind, range.text.as_str(), range.low, range.high))
    }
}

/// Calendar parts are small and never negative.
fn number(part: i8) -> u32 {
    u32::from(part.unsigned_abs())
}
