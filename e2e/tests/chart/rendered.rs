//! Rendered manifests as values.

use e2e::helm;
use serde_json::{Value, json};

/// Release and namespace of all renderings.
pub(crate) const RELEASE: &str = "maniple";
pub(crate) const NAMESPACE: &str = "maniple-system";

/// Objects of the chart with these values, which get an image when they have none.
pub(crate) fn render(values: Value) -> Vec<Value> {
    match try_render(values) {
        Ok(objects) => objects,
        Err(error) => panic!("{error:#}"),
    }
}

/// As [`render`], with the error of Helm.
pub(crate) fn try_render(mut values: Value) -> anyhow::Result<Vec<Value>> {
    if values.pointer("/image/repository").is_none() {
        values["image"]["repository"] = json!("registry.example/maniple");
    }
    let text = helm::template(RELEASE, NAMESPACE, &helm::chart(), &values, &[])?;
    let objects = text
        .split("\n---\n")
        .map(|document| {
            serde_saphyr::from_str::<Value>(document)
                .unwrap_or_else(|error| panic!("{error}:\n{document}"))
        })
        .filter(|object| !object.is_null())
        .collect();
    Ok(objects)
}

/// Objects of these kinds.
pub(crate) fn of_kind<'a>(objects: &'a [Value], kinds: &[&str]) -> Vec<&'a Value> {
    objects
        .iter()
        .filter(|o| kinds.iter().any(|kind| o["kind"] == **kind))
        .collect()
}

/// The object of that kind and name.
pub(crate) fn find<'a>(objects: &'a [Value], kind: &str, name: &str) -> &'a Value {
    of_kind(objects, &[kind])
        .into_iter()
        .find(|o| o["metadata"]["name"] == name)
        .unwrap_or_else(|| panic!("there is no {kind} {name}"))
}

/// Strings of a list.
pub(crate) fn strings(list: &Value) -> Vec<&str> {
    list.as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect()
}

/// Components that run by default.
pub(crate) const COMPONENTS: [&str; 3] = ["operator", "scaler", "front"];

/// The pod template of a component.
pub(crate) fn pod<'a>(objects: &'a [Value], component: &str) -> &'a Value {
    &find(objects, "Deployment", &format!("maniple-{component}"))["spec"]["template"]
}

/// A variable of a component.
pub(crate) fn env<'a>(pod: &'a Value, name: &str) -> Option<&'a Value> {
    let list = pod["spec"]["containers"][0]["env"].as_array()?;
    list.iter().find(|e| e["name"] == name)
}

/// Every switch on, so that a test of all objects sees all of them.
pub(crate) fn everything() -> Value {
    json!({
        "networkPolicy": {"enabled": true, "monitoring": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}]},
        "serviceMonitor": {"enabled": true},
        "scaler": {
            "workloadIdentity": {"enabled": true, "clientId": "11111111-2222-3333-4444-555555555555"},
            "sources": {"queueMaxIntervalSeconds": 60, "storageTrustedDomains": ["storage.example.com", "other.example.com"]},
        },
        "additionalLabels": {"team": "platform"},
        "additionalAnnotations": {"example.com/owner": "platform"},
    })
}
