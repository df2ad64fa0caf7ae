//! The ScaledObject of a group, for the driver KEDA.
//!
//! The scaler answers with the number of instances itself and a target of 1, so that KEDA's HPA ends at exactly that number.
//! The `behavior` is complete because KEDA compares it with what the API server stored and would update forever otherwise
//! (KEDA `controllers/keda/hpa.go`).

use super::{Input, metadata};
use crate::controller::function_app::validate::{ValidGroup, is_paused};
use kube::ResourceExt;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind};
use maniple_crds::names;
use serde_json::json;

/// KEDA stops and keeps the count while this annotation is `true`.
const PAUSED_ANNOTATION: &str = "autoscaling.keda.sh/paused";
/// Seconds between two questions of KEDA; only 1 -> 0 waits for it, wake-ups are pushed.
const POLLING_SECONDS: i32 = 10;

/// Where ScaledObjects live.
pub(crate) fn resource() -> ApiResource {
    ApiResource::from_gvk(&GroupVersionKind::gvk(
        "keda.sh",
        "v1alpha1",
        "ScaledObject",
    ))
}

pub(super) fn build(input: &Input<'_>, group: &ValidGroup) -> DynamicObject {
    let app = input.app.name_any();
    let mut object = DynamicObject::new(&names::group_object(&app, &group.name), &resource());
    object.metadata = metadata(input, &group.name);
    if is_paused(input.app) {
        object
            .metadata
            .annotations
            .get_or_insert_default()
            .insert(PAUSED_ANNOTATION.into(), "true".into());
    }
    let most = group.always_ready + group.max_on_demand;
    object.data = json!({"spec": {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": names::group_object(&app, &group.name)},
        "pollingInterval": POLLING_SECONDS,
        // The idle window is the scaler's, so that a group leaves step by step and never from N to 0.
        "cooldownPeriod": 0,
        "minReplicaCount": group.always_ready,
        "maxReplicaCount": most,
        "advanced": {"horizontalPodAutoscalerConfig": {"behavior": {
            "scaleUp": direction(input, most),
            "scaleDown": direction(input, most),
        }}},
        "triggers": [{
            "type": "external-push",
            "metricType": "AverageValue",
            "metadata": {
                "scalerAddress": input.platform.scaler_address,
                names::KEDA_APP_KEY: app,
                names::KEDA_GROUP_KEY: group.name.to_string(),
            },
        }],
    }});
    object
}

fn direction(input: &Input<'_>, most: i32) -> serde_json::Value {
    let mut rules = json!({
        "stabilizationWindowSeconds": 0,
        "selectPolicy": "Max",
        "policies": [
            {"type": "Percent", "value": 900, "periodSeconds": 15},
            {"type": "Pods", "value": most, "periodSeconds": 15},
        ],
    });
    if input.references.hpa_tolerance {
        // The default of 10 % would swallow steps such as 10 -> 11 (KEP-4951).
        rules["tolerance"] = json!("0");
    }
    rules
}
