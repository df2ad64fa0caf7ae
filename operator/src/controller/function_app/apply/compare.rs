//! Pure: whether a stored object is what was intended.

use k8s_openapi::api::apps::v1::Deployment;
use kube::{Resource, ResourceExt};
use maniple_crds::names::FIELD_MANAGER;
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::hash::{DefaultHasher, Hash, Hasher};

/// Annotation with the digest of the intent that an object was last written from.
const INTENT_ANNOTATION: &str = "maniple.dev/intent";
/// Fields by which server-side apply tells the items of a list apart, in the kinds that the operator writes.
const ITEM_KEYS: [&str; 5] = ["name", "uid", "key", "mountPath", "containerPort"];

/// Writes the digest of the intent into it.
pub(super) fn stamp<K: Resource + Serialize>(intent: &mut K) {
    let text = serde_json::to_vec(intent).expect("objects of ours can be written as JSON");
    let digest = Sha256::digest(text);
    let digest = u64::from_be_bytes(digest[..8].try_into().expect("a digest has 32 bytes"));
    intent
        .annotations_mut()
        .insert(INTENT_ANNOTATION.into(), format!("{digest:016x}"));
}

/// The digest that [`stamp`] wrote.
pub(super) fn stamp_of<K: Resource>(intent: &K) -> String {
    let stamp = intent.annotations().get(INTENT_ANNOTATION);
    stamp.cloned().unwrap_or_default()
}

/// True when the stored object was written from the same intent and still has every field of it.
pub(super) fn unchanged<K: Resource + Serialize>(live: &K, intent: &K) -> bool {
    stamp_of(live) == stamp_of(intent) && contains(&json(live), &json(intent))
}

fn json<K: Serialize>(object: &K) -> Value {
    serde_json::to_value(object).expect("objects can be written as JSON")
}

/// Digest of everything that a write of the operator could change: not status, not versions, not the count.
pub(super) fn stored<K: Serialize>(object: &K) -> u64 {
    let mut value = json(object);
    if let Some(fields) = value.as_object_mut() {
        fields.remove("status");
    }
    if let Some(meta) = value["metadata"].as_object_mut() {
        for field in ["managedFields", "resourceVersion", "generation"] {
            meta.remove(field);
        }
    }
    if let Some(spec) = value.get_mut("spec").and_then(Value::as_object_mut) {
        spec.remove("replicas");
    }
    let mut hasher = DefaultHasher::new();
    value.to_string().hash(&mut hasher);
    hasher.finish()
}

/// True when every field of `part` stands in `whole`. The API server adds defaults, and others may add items to lists whose
/// items have a name; server-side apply leaves both alone.
fn contains(whole: &Value, part: &Value) -> bool {
    match (whole, part) {
        (Value::Object(whole), Value::Object(part)) => {
            part.iter().all(|(key, value)| match whole.get(key) {
                Some(found) => contains(found, value),
                // The API server does not store empty values.
                None => is_empty(value),
            })
        }
        (Value::Array(whole), Value::Array(part)) if part.iter().all(is_named) => part
            .iter()
            .all(|item| whole.iter().any(|found| contains(found, item))),
        (Value::Array(whole), Value::Array(part)) => {
            whole.len() == part.len() && whole.iter().zip(part).all(|(w, p)| contains(w, p))
        }
        _ => whole == part,
    }
}

fn is_named(item: &Value) -> bool {
    ITEM_KEYS.iter().any(|key| item.get(key).is_some())
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.values().all(is_empty),
        Value::String(text) => text.is_empty(),
        _ => false,
    }
}

/// True when the operator owns the count of a Deployment.
pub(super) fn owns_replicas(live: &Deployment) -> bool {
    live.metadata.managed_fields.iter().flatten().any(|entry| {
        entry.manager.as_deref() == Some(FIELD_MANAGER)
            && entry
                .fields_v1
                .as_ref()
                .is_some_and(|f| f.0.pointer("/f:spec/f:replicas").is_some())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn defaults_of_the_server_are_no_difference_but_a_changed_field_is() {
        let intent = json!({"spec": {"list": [{"name": "a"}], "empty": [], "none": {}}});
        let live =
            json!({"spec": {"list": [{"name": "a", "protocol": "TCP"}], "other": 1}, "status": {}});
        assert!(contains(&live, &intent));
        for changed in [
            json!({"spec": {"list": [{"name": "b"}]}}),
            json!({"spec": {"list": []}}),
            json!({"spec": {}}),
        ] {
            assert!(!contains(&changed, &intent), "{changed}");
        }
    }

    #[test]
    fn a_sidecar_of_somebody_else_is_no_difference_but_a_longer_list_without_names_is() {
        let intent = json!({"containers": [{"name": "app", "env": [{"name": "A", "value": "1"}]}],
            "policies": [{"type": "Pods", "value": 4}]});
        let injected = json!({"containers": [{"name": "proxy"},
            {"name": "app", "env": [{"name": "B"}, {"name": "A", "value": "1"}]}],
            "policies": [{"type": "Pods", "value": 4}]});
        assert!(contains(&injected, &intent));
        let mut changed = injected.clone();
        changed["containers"][1]["env"][1]["value"] = json!("2");
        assert!(!contains(&changed, &intent));
        let mut longer = injected;
        longer["policies"] = json!([{"type": "Pods", "value": 4}, {"type": "Percent"}]);
        assert!(!contains(&longer, &intent));
    }

    #[test]
    fn the_digest_shows_that_a_field_was_taken_out_of_the_intent() {
        let mut with = Deployment::default();
        with.spec.get_or_insert_default().paused = Some(true);
        let mut without = Deployment::default();
        without.spec.get_or_insert_default();
        stamp(&mut with);
        stamp(&mut without);
        assert!(!unchanged(&with, &without));
        assert!(unchanged(&with, &with.clone()));
    }

    #[test]
    fn status_versions_and_count_are_not_what_is_stored() {
        let object = |count: i32, image: &str| {
            let live: Deployment = serde_json::from_value(json!({
                "metadata": {"name": "a", "resourceVersion": count.to_string()},
                "spec": {"replicas": count, "selector": {}, "template": {"spec": {"containers": [{"name": "app", "image": image}]}}},
                "status": {"readyReplicas": count}
            }))
            .unwrap();
            stored(&live)
        };
        assert_eq!(object(1, "a"), object(2, "a"));
        assert_ne!(object(1, "a"), object(1, "b"));
    }

    #[test]
    fn ownership_of_the_count_is_read_from_the_managed_fields() {
        let live: Deployment = serde_json::from_value(json!({"metadata": {"managedFields": [
            {"manager": FIELD_MANAGER, "operation": "Apply", "fieldsV1": {"f:spec": {"f:replicas": {}}}}
        ]}}))
        .unwrap();
        assert!(owns_replicas(&live));
        assert!(!owns_replicas(&Deployment::default()));
    }
}
