//! Objects of the API server that may be unreadable, one by one.
//!
//! Without it one object that cannot be decoded (nested deeper than a decoder goes, or a value of a newer version of the API)
//! fails the list that it stands in, and with it every other object. kube's own guard decodes into a tree first and fails on
//! depth before it can tell the objects apart; here the text of each object is cut out first, which needs no depth.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use std::borrow::Cow;

/// Longest reason that is kept, in bytes.
const MAX_MESSAGE: usize = 300;

/// An object, or why it cannot be read.
#[derive(Clone, Debug)]
pub struct Guarded<K>(pub Result<K, Unreadable>);

/// An object that cannot be read.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct Unreadable {
    /// Why. Never holds a text of the object, which may be a secret.
    pub message: String,
    /// Which object it is.
    pub metadata: Box<ObjectMeta>,
}

#[derive(Deserialize)]
struct Named {
    #[serde(default)]
    metadata: ObjectMeta,
}

impl<'de, K: DeserializeOwned> Deserialize<'de> for Guarded<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Box::<RawValue>::deserialize(deserializer)?;
        match serde_json::from_str(text.get()) {
            Ok(object) => Ok(Self(Ok(object))),
            Err(error) => {
                let Named { metadata } =
                    serde_json::from_str(text.get()).map_err(serde::de::Error::custom)?;
                Ok(Self(Err(Unreadable {
                    message: without_values(&error.to_string()),
                    metadata: Box::new(metadata),
                })))
            }
        }
    }
}

/// The decoder quotes text that it did not expect as `string "..."`, and ends with a place in a text that nobody has: it
/// would change with every write of the object, also with one that shows this message.
fn without_values(message: &str) -> String {
    let message = message
        .rfind(" at line ")
        .map_or(message, |end| &message[..end]);
    let mut text = match message.split_once("string \"") {
        Some((before, rest)) => {
            let after = rest.rfind('"').map_or("", |end| &rest[end + 1..]);
            format!("{before}string{after}")
        }
        None => message.to_owned(),
    };
    if text.len() > MAX_MESSAGE {
        let end = (0..=MAX_MESSAGE)
            .rev()
            .find(|i| text.is_char_boundary(*i))
            .unwrap_or(0);
        text.truncate(end);
    }
    text
}

impl<K: Resource> Resource for Guarded<K> {
    type DynamicType = K::DynamicType;
    type Scope = K::Scope;

    fn kind(dynamic: &Self::DynamicType) -> Cow<'_, str> {
        K::kind(dynamic)
    }

    fn group(dynamic: &Self::DynamicType) -> Cow<'_, str> {
        K::group(dynamic)
    }

    fn version(dynamic: &Self::DynamicType) -> Cow<'_, str> {
        K::version(dynamic)
    }

    fn plural(dynamic: &Self::DynamicType) -> Cow<'_, str> {
        K::plural(dynamic)
    }

    fn meta(&self) -> &ObjectMeta {
        match &self.0 {
            Ok(object) => object.meta(),
            Err(unreadable) => &unreadable.metadata,
        }
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        match &mut self.0 {
            Ok(object) => object.meta_mut(),
            Err(unreadable) => &mut unreadable.metadata,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::{ConfigMap, Pod};
    use kube::api::{DynamicObject, ObjectList, WatchEvent};

    fn deep(levels: usize) -> String {
        format!("{}1{}", "[".repeat(levels), "]".repeat(levels))
    }

    fn object(name: &str, rest: &str) -> String {
        format!(r#"{{"metadata": {{"name": "{name}", "namespace": "n"}}, {rest}}}"#)
    }

    #[test]
    fn one_unreadable_object_leaves_the_others_of_a_list_readable() {
        let list = format!(
            r#"{{"apiVersion": "v1", "kind": "List", "metadata": {{"resourceVersion": "1"}}, "items": [{}, {}, {}]}}"#,
            object("good", r#""data": {"a": "b"}"#),
            object("deep", &format!(r#""spec": {}"#, deep(5_000))),
            object("wrong", r#""data": "text""#),
        );
        let list: ObjectList<Guarded<DynamicObject>> = serde_json::from_str(&list).unwrap();
        let found: Vec<_> = list
            .items
            .iter()
            .map(|o| (o.meta().name.clone().unwrap(), o.0.is_ok()))
            .collect();
        // A dynamic object takes any shape, but not any depth.
        let expected = [("good", true), ("deep", false), ("wrong", true)];
        assert_eq!(found, expected.map(|(name, ok)| (name.to_owned(), ok)));
    }

    #[test]
    fn the_events_of_a_watch_are_guarded_too() {
        let line = format!(
            r#"{{"type": "MODIFIED", "object": {}}}"#,
            object("deep", &format!(r#""spec": {}"#, deep(5_000)))
        );
        let WatchEvent::Modified(guarded) =
            serde_json::from_str::<WatchEvent<Guarded<DynamicObject>>>(&line).unwrap()
        else {
            panic!("another event");
        };
        let unreadable = guarded.0.unwrap_err();
        assert_eq!(unreadable.metadata.name.as_deref(), Some("deep"));
        assert!(unreadable.message.contains("recursion limit"));
    }

    #[test]
    fn the_reason_says_what_but_holds_no_text_of_the_object() {
        let text = object("bad", r#""data": "a \"secret\" thing""#);
        let guarded: Guarded<ConfigMap> = serde_json::from_str(&text).unwrap();
        let message = guarded.0.unwrap_err().message;
        assert!(!message.contains("secret"), "{message}");
        assert!(message.starts_with("invalid type: string"), "{message}");
        assert!(!message.contains("line"), "{message}");
        let good: Guarded<Pod> = serde_json::from_str(r#"{"metadata": {"name": "p"}}"#).unwrap();
        assert_eq!(good.0.unwrap().metadata.name.as_deref(), Some("p"));
    }
}
