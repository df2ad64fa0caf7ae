//! App settings as the host sees them, and `%name%` in texts of bindings.

use std::collections::BTreeMap;

use crate::environment::Environment;

/// App settings by name, compared without regard to case. `A__B` of the environment is the setting `A:B`.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    values: BTreeMap<String, String>,
}

/// A text with `%name%` in it that cannot be resolved. The texts are those of the host, because
/// users search for them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// A setting that does not exist.
    #[error("'%{0}%' does not resolve to a value.")]
    Missing(String),
    /// A `%` without a partner.
    #[error("The '%' at position {0} does not have a closing '%'")]
    Unpaired(usize),
}

impl ResolveError {
    /// A stable name of the kind of error.
    pub fn category(&self) -> &'static str {
        match self {
            Self::Missing(_) => "missing-setting",
            Self::Unpaired(_) => "unpaired-percent",
        }
    }
}

impl Settings {
    /// The settings of an environment.
    pub fn from_environment(environment: &Environment) -> Self {
        Self::from_pairs(
            environment
                .iter()
                .map(|(name, value)| (name.replace("__", ":"), value.to_owned())),
        )
    }

    /// Exactly these settings; names are taken as they stand.
    pub fn from_pairs(pairs: impl IntoIterator<Item = (String, String)>) -> Self {
        Self {
            values: pairs
                .into_iter()
                .map(|(name, value)| (name.to_lowercase(), value))
                .collect(),
        }
    }

    /// The value of a setting. An empty setting has the value "".
    pub fn get(&self, name: &str) -> Option<&str> {
        self.values.get(&name.to_lowercase()).map(String::as_str)
    }

    /// All settings below a prefix (`a:b:`), with lower-case names without the prefix.
    pub fn below(&self, prefix: &str) -> Vec<(&str, &str)> {
        let prefix = prefix.to_lowercase();
        self.values
            .iter()
            .filter_map(|(name, value)| Some((name.strip_prefix(&prefix)?, value.as_str())))
            .collect()
    }

    /// Replaces every `%name%`. Values are not resolved again; an empty setting gives "".
    pub fn resolve(&self, text: &str) -> Result<String, ResolveError> {
        let mut resolved = String::with_capacity(text.len());
        let mut rest = text;
        // Positions are counted in characters, as the host reports them.
        let mut position = 0;
        while let Some(open) = rest.find('%') {
            resolved.push_str(&rest[..open]);
            position += rest[..open].chars().count();
            let after = &rest[open + 1..];
            let close = after.find('%').ok_or(ResolveError::Unpaired(position))?;
            let name = &after[..close];
            let value = if name.is_empty() {
                None
            } else {
                self.get(name)
            };
            resolved.push_str(value.ok_or_else(|| ResolveError::Missing(name.to_owned()))?);
            position += name.chars().count() + 2;
            rest = &after[close + 1..];
        }
        resolved.push_str(rest);
        Ok(resolved)
    }
}
