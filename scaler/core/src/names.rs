//! App settings by name, and `%name%` in trigger texts.

use std::collections::BTreeMap;

/// App settings. Names are compared without regard to case.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Settings {
    by_name: BTreeMap<String, String>,
}

/// Only the names: values may be secrets.
impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.by_name.keys()).finish()
    }
}

impl Settings {
    /// Settings as they stand in environment variables of a container: `A__B` is the setting `A:B`, and only that.
    pub fn from_environment<K: AsRef<str>, V: Into<String>>(
        variables: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        Self::plain(
            variables
                .into_iter()
                .map(|(name, value)| (name.as_ref().replace("__", ":"), value)),
        )
    }

    /// Settings whose names are taken as they are. Of two names that differ in case the later wins.
    pub fn plain<K: AsRef<str>, V: Into<String>>(
        settings: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        Self {
            by_name: settings
                .into_iter()
                .map(|(name, value)| (name.as_ref().to_uppercase(), value.into()))
                .collect(),
        }
    }

    /// The value of a setting.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.by_name.get(&name.to_uppercase()).map(String::as_str)
    }

    /// The settings whose names start with `prefix`, without it, in upper case.
    pub(crate) fn below(&self, prefix: &str) -> impl Iterator<Item = (&str, &str)> {
        let prefix = prefix.to_uppercase();
        self.by_name.iter().filter_map(move |(name, value)| {
            Some((name.strip_prefix(prefix.as_str())?, value.as_str()))
        })
    }
}

/// A text whose settings cannot be resolved.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// There is no such setting.
    #[error("'%{name}%' does not resolve to a value: add the app setting '{name}'")]
    Missing {
        /// Name between the percent signs.
        name: String,
    },
    /// A percent sign has no partner.
    #[error(
        "the '%' at position {position} does not have a closing '%': write setting names as %name%"
    )]
    Unclosed {
        /// Position in characters from the start.
        position: usize,
    },
}

impl NameError {
    /// Stable class of the error.
    pub fn category(&self) -> &'static str {
        match self {
            Self::Missing { .. } => "setting-missing",
            Self::Unclosed { .. } => "setting-syntax",
        }
    }
}

/// Replaces every `%name%` by the setting's value. Values are not resolved again. Source: `DefaultNameResolver` of the
/// host.
///
/// # Errors
/// When a setting is missing or a percent sign has no partner.
pub fn resolve(text: &str, settings: &Settings) -> Result<String, NameError> {
    let mut resolved = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find('%') {
        let after = &rest[start + 1..];
        let Some(length) = after.find('%') else {
            return Err(NameError::Unclosed {
                position: text[..text.len() - rest.len() + start].chars().count(),
            });
        };
        let name = &after[..length];
        resolved.push_str(&rest[..start]);
        resolved.push_str(settings.get(name).ok_or_else(|| NameError::Missing {
            name: name.to_owned(),
        })?);
        rest = &after[length + 1..];
    }
    resolved.push_str(rest);
    Ok(resolved)
}
