//! Time zones by name, and how the host reads a wall-clock time that a zone skips or repeats.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, Offset, TimeZone, TimeZoneDatabase};
use windows_timezones::WindowsTimezone;

use crate::names::Settings;

/// The zone a host computes its timers in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zone {
    tz: TimeZone,
    name: String,
    negative_saving: bool,
}

/// Zones whose law defines daylight saving as an hour *behind* standard time. .NET reads that from the time zone files and
/// then goes wrong at the change of clocks. A list, because the compiled-in database is of the form that hides it.
const NEGATIVE_SAVING: [&str; 4] = [
    "Europe/Dublin",
    "Eire",
    "Africa/Casablanca",
    "Africa/El_Aaiun",
];

/// A zone name that nobody knows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "time zone '{name}' is not known: use an IANA name such as Europe/Berlin, or a Windows name such as 'W. Europe Standard Time'"
)]
pub struct ZoneError {
    /// The name as it was given.
    pub name: String,
}

impl ZoneError {
    /// Stable class of the error.
    pub fn category(&self) -> &'static str {
        "time-zone"
    }
}

/// Whose rule is asked for where the two differ (zones with negative daylight saving only).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rule {
    /// What the host computes, faults included.
    Host,
    /// What the clock on the wall says.
    Clock,
}

/// How a wall-clock time maps to instants.
#[derive(Debug, Clone, Copy)]
enum Shape {
    Once(Offset),
    Repeated { first: Offset, second: Offset },
    Skipped { before: Offset, after: Offset },
}

impl Zone {
    /// UTC, the default of every host.
    pub fn utc() -> Self {
        Self::with_rules("UTC", TimeZone::UTC)
    }

    /// A zone with rules of the caller's choice under the name of a zone.
    pub fn with_rules(name: &str, tz: TimeZone) -> Self {
        Self {
            tz,
            name: name.to_owned(),
            negative_saving: NEGATIVE_SAVING
                .iter()
                .any(|zone| zone.eq_ignore_ascii_case(name)),
        }
    }

    /// The zone with an IANA or a Windows name. An empty name is UTC.
    ///
    /// # Errors
    /// When no database knows the name. (The host falls back to UTC without a word, which nobody wants.)
    pub fn named(name: &str) -> Result<Self, ZoneError> {
        let trimmed = name.trim().trim_start_matches(':');
        if trimmed.is_empty() {
            return Ok(Self::utc());
        }
        let iana = match trimmed.parse::<WindowsTimezone>() {
            Ok(windows) => windows.tzdb_id(),
            Err(_) => trimmed,
        };
        let tz = TimeZoneDatabase::bundled()
            .get(iana)
            .map_err(|_| ZoneError {
                name: name.to_owned(),
            })?;
        let name = tz.iana_name().unwrap_or(iana).to_owned();
        Ok(Self::with_rules(&name, tz))
    }

    /// The zone an app asks for by its settings: `TZ`, else `WEBSITE_TIME_ZONE`, else UTC.
    ///
    /// A host in a Linux container reads only `TZ`, and only IANA names; whoever starts it must pass [`Zone::name`] in `TZ`
    /// when the app has set `WEBSITE_TIME_ZONE`.
    ///
    /// # Errors
    /// When the name in the setting that counts is not known.
    pub fn from_settings(settings: &Settings) -> Result<Self, ZoneError> {
        let name = ["TZ", "WEBSITE_TIME_ZONE"]
            .into_iter()
            .filter_map(|key| settings.get(key))
            .find(|value| !value.trim().is_empty())
            .unwrap_or_default();
        Self::named(name)
    }

    /// The IANA name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Wall-clock time at an instant.
    pub fn local(&self, at: Timestamp) -> DateTime {
        self.tz.to_datetime(at)
    }

    /// Difference to UTC at an instant.
    pub fn offset(&self, at: Timestamp) -> Offset {
        self.tz.to_offset(at)
    }

    fn shape(&self, local: DateTime) -> Shape {
        match self.tz.to_ambiguous_timestamp(local).offset() {
            AmbiguousOffset::Unambiguous { offset } => Shape::Once(offset),
            AmbiguousOffset::Gap { before, after } => Shape::Skipped { before, after },
            AmbiguousOffset::Fold { before, after } => Shape::Repeated {
                first: before,
                second: after,
            },
        }
    }

    /// Whether the host takes `local` for an ambiguous time.
    pub(crate) fn is_ambiguous(&self, local: DateTime, rule: Rule) -> bool {
        // .NET does not see the repeated hour of a negative zone as ambiguous.
        let blind = rule == Rule::Host && self.negative_saving;
        !blind && matches!(self.shape(local), Shape::Repeated { .. })
    }

    /// The instants that `at` may stand for when its offset is not to be trusted: both passes of a repeated time.
    pub(crate) fn readings(&self, at: Timestamp) -> Vec<Timestamp> {
        let local = self.local(at);
        match self.shape(local) {
            Shape::Repeated { first, second } => [first, second]
                .into_iter()
                .filter_map(|offset| offset.to_timestamp(local).ok())
                .collect(),
            _ => vec![at],
        }
    }

    /// The instant of a wall-clock time: standard time when it is repeated, shifted by the change when it is skipped
    /// (.NET `TimeZoneInfo.GetUtcOffset`). `first_pass` picks the first pass of a repeated time.
    pub(crate) fn instant(
        &self,
        local: DateTime,
        rule: Rule,
        first_pass: bool,
    ) -> Option<Timestamp> {
        // In a negative zone the host takes the larger offset for standard time: the first pass, and a shift backwards.
        let negative = rule == Rule::Host && self.negative_saving;
        let offset = match self.shape(local) {
            Shape::Once(offset) => offset,
            Shape::Repeated { first, .. } if first_pass || negative => first,
            Shape::Repeated { second, .. } => second,
            Shape::Skipped { after, .. } if negative => after,
            Shape::Skipped { before, .. } => before,
        };
        offset.to_timestamp(local).ok()
    }
}
