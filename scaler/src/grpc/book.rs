//! What the service needs to know, and about which group.

use std::{collections::HashMap, fmt, sync::Arc};

use maniple_crds::{
    GroupName,
    names::{KEDA_APP_KEY, KEDA_GROUP_KEY},
};
use tokio::sync::watch;

/// Name of the one metric. KEDA puts it behind `s<trigger index>-` and into a URL path, so it is as plain as a DNS label.
pub const METRIC_NAME: &str = "maniple-desired";

/// Longest name of a namespace (a DNS label).
const MAX_NAMESPACE: usize = 63;
/// Longest name of an app or function that is looked up at all (a DNS subdomain).
const MAX_NAME: usize = 253;

/// The group that a call is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupRef {
    /// Namespace of the ScaledObject, which is the one of the app.
    pub namespace: Arc<str>,
    /// Name of the FunctionApp.
    pub app: Arc<str>,
    /// The group; two spellings that differ only in letter case are equal.
    pub group: GroupName,
}

/// A reference that cannot name a group.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(super) enum BadReference {
    #[error("the request has no scaledObjectRef; send the one of the ScaledObject")]
    NoObject,
    #[error("scaledObjectRef.namespace is {0:?}; it must be the name of a namespace")]
    Namespace(String),
    #[error("scalerMetadata has no {0:?}; put it into the metadata of the ScaledObject's trigger")]
    Missing(&'static str),
    #[error("scalerMetadata[\"{KEDA_APP_KEY}\"] is {0:?}; it must be the name of a FunctionApp")]
    App(String),
    #[error("scalerMetadata[\"{KEDA_GROUP_KEY}\"]: {0}")]
    Group(String),
}

impl GroupRef {
    /// From the parts of a KEDA request. Keys that are not ours are ignored: KEDA sends all of the trigger's metadata.
    pub(super) fn parse(
        namespace: &str,
        metadata: &HashMap<String, String>,
    ) -> Result<Self, BadReference> {
        if !is_dns_name(namespace, MAX_NAMESPACE) {
            return Err(BadReference::Namespace(shorten(namespace)));
        }
        let get = |key| {
            metadata
                .get(key)
                .filter(|text| !text.is_empty())
                .ok_or(BadReference::Missing(key))
        };
        let app = get(KEDA_APP_KEY)?;
        if !is_dns_name(app, MAX_NAME) {
            return Err(BadReference::App(shorten(app)));
        }
        let group = get(KEDA_GROUP_KEY)?;
        if group.len() > MAX_NAME {
            return Err(BadReference::Group(format!(
                "{:?} is too long",
                shorten(group)
            )));
        }
        let group = group
            .parse::<GroupName>()
            .map_err(|error| BadReference::Group(error.to_string()))?;
        Ok(Self {
            namespace: namespace.into(),
            app: app.as_str().into(),
            group,
        })
    }
}

impl fmt::Display for GroupRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{} {}", self.namespace, self.app, self.group)
    }
}

/// What is known about a group at this moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// A decision was made.
    Known {
        /// Instances that should exist.
        desired: u32,
        /// Instances that do exist as far as was seen; `None` when that was not seen yet.
        observed: Option<u32>,
    },
    /// No decision can be made, for example before the first list of apps or while a source cannot be read. KEDA
    /// keeps what is there.
    Unknown {
        /// Why, in a sentence that says what to do.
        reason: Arc<str>,
    },
    /// The app does not want to be scaled now. KEDA keeps what is there.
    Paused {
        /// Why, in a sentence.
        reason: Arc<str>,
    },
    /// There is no such group.
    NotFound,
}

/// The present decisions, in memory. Calls must not wait.
pub trait DecisionBook: Send + Sync + 'static {
    /// The present answer for a group.
    fn answer(&self, group: &GroupRef) -> Answer;

    /// Follows the answer for a group: the value is always the one that [`DecisionBook::answer`] gives. Also for
    /// a group that does not exist (yet); a stream may be opened before the app is known. A closed channel means
    /// that the book follows this group no longer, and ends the stream.
    fn changes(&self, group: &GroupRef) -> watch::Receiver<Answer>;
}

fn is_dns_name(text: &str, max: usize) -> bool {
    let inner = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-' || c == b'.';
    let outer = |c: Option<&u8>| c.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    bytes.len() <= max
        && outer(bytes.first())
        && outer(bytes.last())
        && bytes.iter().all(|c| inner(*c))
}

/// At most 64 characters of a text from outside.
fn shorten(text: &str) -> String {
    text.chars().take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    type Pairs<'a> = &'a [(&'a str, &'a str)];

    fn metadata(pairs: Pairs<'_>) -> HashMap<String, String> {
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn references_are_read_without_regard_to_case_of_the_group() {
        let pairs = [
            ("app", "shop"),
            ("group", "Function:Resize"),
            ("scalerAddress", "x:1"),
            ("new", ""),
        ];
        let group = GroupRef::parse("team-a", &metadata(&pairs)).unwrap();
        assert_eq!(group.to_string(), "team-a/shop function:Resize");
        let same = GroupRef::parse(
            "team-a",
            &metadata(&[("app", "shop"), ("group", "function:RESIZE")]),
        );
        assert_eq!(same.unwrap(), group);
    }

    #[test]
    fn bad_references_say_which_part_is_wrong() {
        let long = "a".repeat(300);
        let table: [(&str, Pairs<'_>, &str); 9] = [
            ("", &[("app", "shop"), ("group", "http")], "namespace"),
            ("Team", &[("app", "shop"), ("group", "http")], "namespace"),
            ("a/b", &[("app", "shop"), ("group", "http")], "namespace"),
            ("ns", &[("group", "http")], "no \"app\""),
            ("ns", &[("app", "shop")], "no \"group\""),
            ("ns", &[("app", "shop"), ("group", "")], "no \"group\""),
            ("ns", &[("app", "-shop"), ("group", "http")], "[\"app\"]"),
            (
                "ns",
                &[("app", "shop"), ("group", "queue")],
                "use http, durable",
            ),
            ("ns", &[("app", "shop"), ("group", &long)], "too long"),
        ];
        for (namespace, pairs, word) in table {
            let error = GroupRef::parse(namespace, &metadata(pairs))
                .unwrap_err()
                .to_string();
            assert!(error.contains(word), "{namespace} {pairs:?}: {error}");
            assert!(error.len() < 200, "{error}");
        }
    }

    #[test]
    fn the_metric_name_is_a_dns_label() {
        assert!(is_dns_name(METRIC_NAME, 63));
    }
}
