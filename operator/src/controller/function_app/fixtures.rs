//! Apps for the tests of this folder.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use maniple_crds::FunctionApp;
use serde_json::{Value, json};

/// An app with these fields of its spec, as the API server would store it.
pub(super) fn app(name: &str, spec: Value) -> FunctionApp {
    let mut whole = json!({"image": "registry.example/app:1"});
    whole
        .as_object_mut()
        .unwrap()
        .extend(spec.as_object().unwrap().clone());
    let mut app: FunctionApp = serde_json::from_value(json!({
        "apiVersion": "maniple.dev/v1alpha1",
        "kind": "FunctionApp",
        "metadata": {"name": name, "namespace": "default", "uid": format!("uid-of-{name}"), "generation": 3},
        "spec": whole,
    }))
    .unwrap();
    app.metadata.labels = None;
    app
}

/// One function with one input binding.
pub(super) fn function(name: &str, trigger: &str) -> Value {
    json!({"name": name, "bindings": [{"type": trigger, "direction": "in", "name": "t"}]})
}

/// A condition as it is stored.
pub(super) fn condition(kind: &str, status: &str, reason: &str) -> Condition {
    serde_json::from_value(json!({
        "type": kind, "status": status, "reason": reason, "message": "m", "observedGeneration": 3,
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }))
    .unwrap()
}
