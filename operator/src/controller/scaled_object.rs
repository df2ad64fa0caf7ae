//! Lets ScaledObjects of ours go when KEDA is no longer there to do it.
//!
//! KEDA puts a finalizer on every ScaledObject. Without KEDA nobody takes it off, and the object, its namespace and the app's
//! clean-up hang for ever (KEDA issue 7950). An object of ours that has been waiting longer than [`PATIENCE`] is released.

use super::function_app::scaled_object_resource;
use kube::api::{DynamicObject, ListParams, Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use maniple_crds::names::{MANAGED_BY, MANAGED_BY_LABEL};
use serde_json::json;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// A running KEDA takes its finalizer off within seconds.
const PATIENCE: Duration = Duration::from_secs(60);
/// Time between two looks.
const PERIOD: Duration = Duration::from_secs(20);
const KEDA_FINALIZER: &str = "finalizer.keda.sh";

/// Runs until `stop`.
pub async fn release_abandoned(client: Client, namespace: Option<String>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(PERIOD) => {}
        }
        match release_once(&client, namespace.as_deref(), jiff::Timestamp::now()).await {
            Ok(0) => {}
            Ok(count) => tracing::warn!(count, "released ScaledObjects that KEDA did not let go"),
            // No ScaledObjects in this cluster.
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(error) => tracing::debug!(%error, "could not look for abandoned ScaledObjects"),
        }
    }
}

async fn release_once(
    client: &Client,
    namespace: Option<&str>,
    now: jiff::Timestamp,
) -> Result<usize, kube::Error> {
    let resource = scaled_object_resource();
    let all: Api<DynamicObject> = match namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    };
    // From the API server's cache: it is asked often and is rarely needed.
    let params = ListParams::default()
        .labels(&format!("{MANAGED_BY_LABEL}={MANAGED_BY}"))
        .match_any();
    let mut released = 0;
    for object in all
        .list(&params)
        .await?
        .items
        .into_iter()
        .filter(|o| abandoned(o, now))
    {
        let left: Vec<&String> = object
            .finalizers()
            .iter()
            .filter(|f| *f != KEDA_FINALIZER)
            .collect();
        // The test makes the patch fail when somebody else changed the list in between.
        let patch: json_patch::Patch = serde_json::from_value(json!([
            {"op": "test", "path": "/metadata/finalizers", "value": object.finalizers()},
            {"op": "replace", "path": "/metadata/finalizers", "value": left},
        ]))
        .expect("the patch above is a JSON patch");
        let api: Api<DynamicObject> = Api::namespaced_with(
            client.clone(),
            &object.namespace().unwrap_or_default(),
            &resource,
        );
        api.patch(
            &object.name_any(),
            &PatchParams::default(),
            &Patch::Json::<()>(patch),
        )
        .await?;
        released += 1;
    }
    Ok(released)
}

fn abandoned(object: &DynamicObject, now: jiff::Timestamp) -> bool {
    let Some(deleted) = &object.metadata.deletion_timestamp else {
        return false;
    };
    let waited = now.as_second() - deleted.0.as_second();
    waited > i64::try_from(PATIENCE.as_secs()).unwrap_or(i64::MAX)
        && object.finalizers().iter().any(|f| f == KEDA_FINALIZER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_objects_that_wait_for_long_are_released() {
        let object = |deleted: Option<&str>, finalizer: &str| -> DynamicObject {
            serde_json::from_value(json!({
                "apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject",
                "metadata": {"name": "a", "finalizers": [finalizer], "deletionTimestamp": deleted}
            }))
            .unwrap()
        };
        let now = "2026-01-01T00:02:00Z".parse().unwrap();
        assert!(abandoned(
            &object(Some("2026-01-01T00:00:00Z"), KEDA_FINALIZER),
            now
        ));
        assert!(!abandoned(
            &object(Some("2026-01-01T00:01:30Z"), KEDA_FINALIZER),
            now
        ));
        assert!(!abandoned(
            &object(Some("2026-01-01T00:00:00Z"), "other"),
            now
        ));
        assert!(!abandoned(&object(None, KEDA_FINALIZER), now));
    }
}
