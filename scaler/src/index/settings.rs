//! The app settings of one app, as far as they could be read.

use maniple_core::names;
use maniple_sources::secret::Secret;
use maniple_sources::storage::{DEFAULT_CONNECTION, Settings};
use std::collections::BTreeMap;

/// A setting whose value could not be had, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingSetting {
    /// Name as declared.
    pub name: String,
    /// What is missing and what to do, naming the object and the key.
    pub problem: String,
}

/// Values of the app settings, and the settings whose values are not known.
///
/// A setting that is not known is not an unset one: what depends on it is unknown too.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResolvedSettings {
    known: Vec<(String, Secret)>,
    missing: BTreeMap<String, MissingSetting>,
}

impl ResolvedSettings {
    /// Adds a value. Of two settings with the same name the later one wins, as in the environment of a container.
    pub fn set(&mut self, name: &str, value: Secret) {
        self.known.push((name.to_owned(), value));
    }

    /// The value of a setting, also when it is empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        let name = normalise(name);
        let mut newest_first = self.known.iter().rev();
        let (_, value) = newest_first.find(|(known, _)| normalise(known) == name)?;
        Some(value.expose())
    }

    /// The known values for `%name%` expressions and host options. Never format it: it shows them.
    pub fn for_names(&self) -> names::Settings {
        let pairs = self.known.iter();
        names::Settings::from_environment(pairs.map(|(name, value)| (name, value.expose())))
    }

    /// The known values for connections.
    pub fn for_connections(&self) -> Settings {
        let pairs = self.known.iter();
        pairs.map(|(name, value)| (name, value.expose())).collect()
    }

    /// Adds a setting whose value could not be had.
    pub fn set_missing(&mut self, name: &str, problem: String) {
        let missing = MissingSetting {
            name: name.to_owned(),
            problem,
        };
        self.missing.insert(normalise(name), missing);
    }

    /// Why the setting `name` is not known; `None` when it is known or not declared at all.
    pub fn missing(&self, name: &str) -> Option<&MissingSetting> {
        self.missing.get(&normalise(name))
    }

    /// The first unknown setting that a connection may be made of: with the prefix `AzureWebJobs` or without, in the section
    /// `ConnectionStrings` or at the root, the value itself or a part below it.
    ///
    /// One unknown setting is enough: the host looks at several names in order, so a guess could open the wrong account.
    pub fn missing_for_connection(&self, connection: Option<&str>) -> Option<&MissingSetting> {
        let name = match connection.map(str::trim) {
            None | Some("") => DEFAULT_CONNECTION,
            Some(name) => name,
        };
        let name = normalise(name);
        self.missing.iter().find_map(|(key, missing)| {
            let key = key
                .strip_prefix("connectionstrings:")
                .or_else(|| key.strip_prefix("customconnstr_"))
                .unwrap_or(key);
            let candidates = [Some(key), key.strip_prefix("azurewebjobs")];
            candidates
                .into_iter()
                .flatten()
                .any(|key| {
                    key.strip_prefix(name.as_str())
                        .is_some_and(|rest| rest.is_empty() || rest.starts_with(':'))
                })
                .then_some(missing)
        })
    }
}

/// Names ignore case, and `__` is `:` (environment variables of the host).
fn normalise(name: &str) -> String {
    name.replace("__", ":").to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(missing: &[&str]) -> ResolvedSettings {
        let mut settings = ResolvedSettings::default();
        for name in missing {
            settings.set_missing(name, format!("no {name}"));
        }
        settings
    }

    #[test]
    fn a_missing_setting_is_found_under_every_name_that_the_host_would_look_at() {
        let cases = [
            ("Orders", Some("Orders"), true),
            ("AzureWebJobsOrders", Some("orders"), true),
            ("ConnectionStrings__Orders", Some("Orders"), true),
            ("Orders__accountName", Some("Orders"), true),
            ("AzureWebJobsStorage", None, true),
            ("AzureWebJobsStorage", Some(" "), true),
            ("AzureWebJobsStorage__queueServiceUri", None, true),
            ("AzureWebJobsStorage", Some("Storage"), true),
            ("Orders2", Some("Orders"), false),
            ("AzureWebJobsStorage", Some("Orders"), false),
        ];
        for (missing, connection, found) in cases {
            assert_eq!(
                settings(&[missing])
                    .missing_for_connection(connection)
                    .is_some(),
                found,
                "{missing} {connection:?}"
            );
        }
    }

    #[test]
    fn names_ignore_case_and_separator() {
        assert!(settings(&["A__B"]).missing("a:b").is_some());
        assert!(settings(&["A__B"]).missing("a").is_none());
    }
}
