//! App settings as the Functions host reads them, and its lookup rule for a connection name.

use std::collections::BTreeMap;
use std::fmt;

use crate::secret::Secret;

/// The connection that a binding without a `connection` property uses.
pub const DEFAULT_CONNECTION: &str = "AzureWebJobsStorage";

/// The app settings of one app.
///
/// Names are compared without regard to case, and `__` and `:` are the same separator, as in the configuration system of the host
/// (environment variable `A__B` is the setting `A:B`). Of two settings with the same name the later one wins.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Settings {
    values: BTreeMap<String, Secret>,
}

impl Settings {
    /// The value of a setting, also when it is empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.values.get(&normalise(name)).map(Secret::expose)
    }

    /// Adds or replaces a setting.
    pub fn set(&mut self, name: &str, value: &str) {
        self.values.insert(normalise(name), Secret::new(value));
    }

    /// The full name of the section that a connection name refers to, or `None` when no setting fits.
    ///
    /// Order of the host: with the prefix `AzureWebJobs` first, then the name itself; for both the section `ConnectionStrings` before the
    /// root (`GetWebJobsConnectionStringSection` in the WebJobs SDK). A section exists when it has a value, even an empty one, or children.
    /// A missing or blank name means [`DEFAULT_CONNECTION`].
    pub(crate) fn connection_section(&self, connection: Option<&str>) -> Option<String> {
        let name = connection_name(connection);
        let prefixed = format!("AzureWebJobs{name}");
        [prefixed.as_str(), name]
            .into_iter()
            .flat_map(|name| [format!("ConnectionStrings:{name}"), name.to_owned()])
            .find(|section| self.section_exists(section))
    }

    fn section_exists(&self, section: &str) -> bool {
        let section = normalise(section);
        if self.values.contains_key(&section) {
            return true;
        }
        let children = format!("{section}:");
        self.values
            .range(children.clone()..)
            .next()
            .is_some_and(|(name, _)| name.starts_with(&children))
    }
}

/// The connection name that is meant by a binding's `connection` property.
pub(crate) fn connection_name(connection: Option<&str>) -> &str {
    match connection.map(str::trim) {
        None | Some("") => DEFAULT_CONNECTION,
        Some(name) => name,
    }
}

impl<N: AsRef<str>, V: AsRef<str>> FromIterator<(N, V)> for Settings {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(settings: I) -> Self {
        let mut result = Self::default();
        for (name, value) in settings {
            result.set(name.as_ref(), value.as_ref());
        }
        result
    }
}

/// Shows names only: values may be secrets.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.values.keys()).finish()
    }
}

fn normalise(name: &str) -> String {
    let name = name.replace("__", ":").to_lowercase();
    // The host's environment reader turns this prefix of App Service into the section of connection strings.
    match name.strip_prefix("customconnstr_") {
        Some(rest) => format!("connectionstrings:{rest}"),
        None => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(names: &[&str]) -> Settings {
        names.iter().map(|name| (name, "x")).collect()
    }

    #[test]
    fn names_ignore_case_and_separator() {
        let settings: Settings = [("My__Conn", "1"), ("OTHER:sub", "2")]
            .into_iter()
            .collect();
        assert_eq!(settings.get("my:conn"), Some("1"));
        assert_eq!(settings.get("other__SUB"), Some("2"));
        assert_eq!(settings.get("other"), None);
    }

    #[test]
    fn connection_lookup_order() {
        let cases: &[(&[&str], Option<&str>, Option<&str>)] = &[
            (&["AzureWebJobsStorage"], None, Some("AzureWebJobsStorage")),
            (
                &["AzureWebJobsStorage"],
                Some("  "),
                Some("AzureWebJobsStorage"),
            ),
            (
                &["AzureWebJobsStorage"],
                Some("Storage"),
                Some("AzureWebJobsStorage"),
            ),
            (
                &["AzureWebJobsStorage"],
                Some("azurewebjobsstorage"),
                Some("azurewebjobsstorage"),
            ),
            (&["Orders"], Some("Orders"), Some("Orders")),
            (
                &["Orders", "AzureWebJobsOrders"],
                Some("Orders"),
                Some("AzureWebJobsOrders"),
            ),
            (&["Orders__accountName"], Some("orders"), Some("orders")),
            (
                &["ConnectionStrings:Orders", "Orders"],
                Some("Orders"),
                Some("ConnectionStrings:Orders"),
            ),
            (
                &["CUSTOMCONNSTR_Orders"],
                Some("Orders"),
                Some("ConnectionStrings:Orders"),
            ),
            (&["OrdersOld", "Order"], Some("Orders"), None),
            (&[], None, None),
        ];
        for (names, connection, expected) in cases {
            assert_eq!(
                settings(names).connection_section(*connection).as_deref(),
                *expected,
                "{names:?} {connection:?}"
            );
        }
    }

    #[test]
    fn debug_shows_names_only() {
        let settings: Settings = [("Name", "very-secret")].into_iter().collect();
        let shown = format!("{settings:?}");
        assert!(
            shown.contains("name") && !shown.contains("very-secret"),
            "{shown}"
        );
    }
}
