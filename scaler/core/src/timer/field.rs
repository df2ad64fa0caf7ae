//! One field of a cron text, read as NCrontab reads it.

use super::ScheduleError;

/// Which field of a cron text, in the order of the six-field form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FieldKind {
    /// 0 to 59.
    Second,
    /// 0 to 59.
    Minute,
    /// 0 to 23.
    Hour,
    /// Day of the month, 1 to 31.
    Day,
    /// 1 to 12, English names allowed.
    Month,
    /// 0 (Sunday) to 6 (Saturday), English names allowed. 7 is an error.
    Weekday,
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const WEEKDAYS: [&str; 7] = [
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
];

impl FieldKind {
    /// All six, in the order of the text.
    pub(crate) const ALL: [Self; 6] = [
        Self::Second,
        Self::Minute,
        Self::Hour,
        Self::Day,
        Self::Month,
        Self::Weekday,
    ];

    /// The name used in messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Second => "second",
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Month => "month",
            Self::Weekday => "weekday",
        }
    }

    fn bounds(self) -> (u32, u32) {
        match self {
            Self::Second | Self::Minute => (0, 59),
            Self::Hour => (0, 23),
            Self::Day => (1, 31),
            Self::Month => (1, 12),
            Self::Weekday => (0, 6),
        }
    }

    fn names(self) -> &'static [&'static str] {
        match self {
            Self::Month => &MONTHS,
            Self::Weekday => &WEEKDAYS,
            _ => &[],
        }
    }
}

/// The set of values a field allows. Bit `n` stands for value `n`; no field goes beyond 59.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Field {
    kind: FieldKind,
    bits: u64,
}

/// A range that was written from high to low. NCrontab swaps its ends instead of wrapping around.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Swapped {
    pub(crate) kind: FieldKind,
    pub(crate) text: String,
    pub(crate) low: u32,
    pub(crate) high: u32,
}

impl Field {
    /// The field that allows only `value`.
    pub(crate) fn single(kind: FieldKind, value: u32) -> Self {
        Self {
            kind,
            bits: 1 << value,
        }
    }

    /// Reads one field. Ranges that were swapped are added to `swapped`.
    pub(crate) fn parse(
        kind: FieldKind,
        text: &str,
        swapped: &mut Vec<Swapped>,
    ) -> Result<Self, ScheduleError> {
        let mut field = Self { kind, bits: 0 };
        let wrong = |problem: String| ScheduleError::Field {
            field: kind.as_str(),
            text: text.to_owned(),
            problem,
        };
        // A list is only a list when something stands before the first comma; ",1" is a (wrong) value.
        if text.find(',').is_some_and(|at| at > 0) {
            for item in text.split(',') {
                field.add(item, swapped).map_err(wrong)?;
            }
        } else {
            field.add(text, swapped).map_err(wrong)?;
        }
        Ok(field)
    }

    fn add(&mut self, item: &str, swapped: &mut Vec<Swapped>) -> Result<(), String> {
        let (min, max) = self.kind.bounds();
        let (body, step) = match item.find('/') {
            Some(at) if at > 0 => (&item[..at], Some(integer(&item[at + 1..])?)),
            _ => (item, None),
        };
        let (low, high) = if body == "*" {
            (min, max)
        } else if let Some(at) = body.find('-').filter(|at| *at > 0) {
            let (first, last) = (self.value(&body[..at])?, self.value(&body[at + 1..])?);
            if first > last {
                swapped.push(Swapped {
                    kind: self.kind,
                    text: body.to_owned(),
                    low: last,
                    high: first,
                });
            }
            (first.min(last), first.max(last))
        } else {
            let value = self.value(body)?;
            // "5/15" runs from 5 to the end of the field; a value beyond the end is caught below.
            (
                value,
                if step.is_some() {
                    max.max(value)
                } else {
                    value
                },
            )
        };
        if low < min || high > max {
            return Err(format!(
                "{} is outside {min} to {max}",
                if low < min { low } else { high }
            ));
        }
        // "*/0", "*/1" and negative steps all mean every value (NCrontab, `CrontabField.Accumulate`).
        let step = usize::try_from(step.unwrap_or(1).max(1)).unwrap_or(usize::MAX);
        for value in (low..=high).step_by(step) {
            self.bits |= 1 << value;
        }
        Ok(())
    }

    /// One value: a number, or a name by any prefix of it, where the first match in calendar order wins.
    fn value(&self, text: &str) -> Result<u32, String> {
        let Some(first) = text.chars().next() else {
            return Err("a value is missing".to_owned());
        };
        if first.is_ascii_digit() {
            return u32::try_from(integer(text)?).map_err(|_| format!("'{text}' is not a number"));
        }
        let (min, _) = self.kind.bounds();
        self.kind
            .names()
            .iter()
            .position(|name| {
                name.get(..text.len())
                    .is_some_and(|start| start.eq_ignore_ascii_case(text))
            })
            .map(|index| index as u32 + min)
            .ok_or_else(|| {
                if self.kind.names().is_empty() {
                    format!("'{text}' is not a number")
                } else {
                    format!("'{text}' is neither a number nor the start of an English name")
                }
            })
    }

    /// Whether `value` is allowed.
    pub(crate) fn contains(self, value: u32) -> bool {
        value < 64 && self.bits & (1 << value) != 0
    }

    /// The smallest allowed value that is not below `value`.
    pub(crate) fn at_or_after(self, value: u32) -> Option<u32> {
        if value >= 64 {
            return None;
        }
        let rest = self.bits & (u64::MAX << value);
        (rest != 0).then(|| rest.trailing_zeros())
    }

    /// The smallest allowed value.
    pub(crate) fn first(self) -> u32 {
        self.bits.trailing_zeros()
    }

    /// How many values are allowed.
    pub(crate) fn count(self) -> u32 {
        self.bits.count_ones()
    }

    /// Whether every value of the field is allowed.
    pub(crate) fn is_all(self) -> bool {
        let (min, max) = self.kind.bounds();
        self.count() == max - min + 1
    }

    /// The library's own text for the set: runs become ranges, a full set becomes `*`.
    pub(crate) fn canonical(self) -> String {
        if self.is_all() {
            return "*".to_owned();
        }
        let mut parts: Vec<String> = Vec::new();
        let mut next = self.at_or_after(0);
        while let Some(first) = next {
            let mut last = first;
            while self.contains(last + 1) {
                last += 1;
            }
            parts.push(if first == last {
                first.to_string()
            } else {
                format!("{first}-{last}")
            });
            next = self.at_or_after(last + 1);
        }
        parts.join(",")
    }
}

/// A .NET integer: ASCII digits with an optional sign and white space around it, 32 bits.
fn integer(text: &str) -> Result<i64, String> {
    let trimmed = text.trim_matches(|c: char| matches!(c, '\t'..='\r' | ' '));
    trimmed
        .parse::<i32>()
        .map(i64::from)
        .map_err(|_| format!("'{text}' is not a number"))
}
