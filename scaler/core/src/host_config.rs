//! host.json with the overrides that app settings make, as one flat table.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::names::Settings;
use crate::timer::parse_timespan;

const OVERRIDE_PREFIX: &str = "AzureFunctionsJobHost:";

/// The values of host.json by path, without regard to case. An app setting `AzureFunctionsJobHost__a__b` overrides `a.b`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostConfig {
    by_path: BTreeMap<String, String>,
}

/// A value of host.json that the host would refuse.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "host.json {path} is '{value}': {expected}; correct it in host.json or in the app setting AzureFunctionsJobHost__{setting}"
)]
pub struct HostConfigError {
    path: String,
    setting: String,
    value: String,
    expected: String,
}

impl HostConfigError {
    /// Stable class of the error.
    pub fn category(&self) -> &'static str {
        "host-json"
    }
}

impl HostConfig {
    /// Flattens host.json and puts the overrides of the app settings on top.
    pub fn new(host_json: &Value, settings: &Settings) -> Self {
        let mut config = Self::default();
        config.flatten(String::new(), host_json);
        for (name, value) in settings.below(OVERRIDE_PREFIX) {
            config.by_path.insert(name.to_owned(), value.to_owned());
        }
        config
    }

    fn flatten(&mut self, path: String, value: &Value) {
        let child = |name: &str| match path.as_str() {
            "" => name.to_uppercase(),
            path => format!("{path}:{}", name.to_uppercase()),
        };
        match value {
            Value::Object(members) => {
                for (name, value) in members {
                    self.flatten(child(name), value);
                }
            }
            Value::Array(items) => {
                for (index, value) in items.iter().enumerate() {
                    self.flatten(child(&index.to_string()), value);
                }
            }
            Value::Null => {}
            Value::String(text) => {
                self.by_path.insert(path, text.clone());
            }
            other => {
                self.by_path.insert(path, other.to_string());
            }
        }
    }

    /// The value at a path, its parts joined by dots.
    pub fn get(&self, path: &str) -> Option<&str> {
        self.by_path
            .get(&path.replace('.', ":").to_uppercase())
            .map(String::as_str)
    }

    /// The value at a path, read by `read`.
    fn read<T>(
        &self,
        path: &str,
        expected: impl Fn() -> String,
        read: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>, HostConfigError> {
        let Some(value) = self.get(path) else {
            return Ok(None);
        };
        match read(value.trim()) {
            Some(value) => Ok(Some(value)),
            None => Err(HostConfigError {
                path: path.to_owned(),
                setting: path.replace('.', "__"),
                value: value.to_owned(),
                expected: expected(),
            }),
        }
    }

    /// A whole number from `min` to `max`, decimal or (as .NET reads it) hexadecimal after `0x`, `&h` or `#`.
    ///
    /// # Errors
    /// When the value is something else.
    pub fn integer(&self, path: &str, min: i32, max: i32) -> Result<Option<i32>, HostConfigError> {
        self.read(
            path,
            || {
                if max == i32::MAX {
                    format!("a whole number of at least {min} is needed")
                } else {
                    format!("a whole number from {min} to {max} is needed")
                }
            },
            |text| integer(text).filter(|value| (min..=max).contains(value)),
        )
    }

    /// A time span of at least `min` units of 100 ns.
    ///
    /// # Errors
    /// When the value is something else.
    pub fn timespan(&self, path: &str, min: i64) -> Result<Option<i64>, HostConfigError> {
        self.read(
            path,
            || {
                format!(
                    "a time span hh:mm:ss of at least {} ms is needed",
                    min / 10_000
                )
            },
            |text| parse_timespan(text).filter(|ticks| *ticks >= min),
        )
    }

    /// `true` or `false`, in any case.
    ///
    /// # Errors
    /// When the value is something else.
    pub fn flag(&self, path: &str) -> Result<Option<bool>, HostConfigError> {
        self.one_of(path, &[("true", true), ("false", false)])
    }

    /// One of a list of words, in any case.
    ///
    /// # Errors
    /// When the value is something else.
    pub fn one_of<T: Copy>(
        &self,
        path: &str,
        words: &[(&str, T)],
    ) -> Result<Option<T>, HostConfigError> {
        self.read(
            path,
            || {
                let names: Vec<&str> = words.iter().map(|(name, _)| *name).collect();
                format!("one of {} is needed", names.join(", "))
            },
            |text| {
                words
                    .iter()
                    .find(|(name, _)| name.eq_ignore_ascii_case(text))
                    .map(|(_, value)| *value)
            },
        )
    }
}

fn integer(text: &str) -> Option<i32> {
    let lower = text.to_ascii_lowercase();
    match ["0x", "&h", "#"]
        .iter()
        .find_map(|prefix| lower.strip_prefix(prefix))
    {
        // Eight digits reach the sign bit, as in .NET.
        Some(digits) => u32::from_str_radix(digits, 16).ok().map(u32::cast_signed),
        None => lower.parse().ok(),
    }
}
