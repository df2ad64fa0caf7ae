//! Lets ScaledObjects of ours go when KEDA is no longer there to do it.
//!
//! KEDA puts a finalizer on every ScaledObject. Without KEDA nobody takes it off, and the object, its namespace and the app's
//! clean-up hang for ever (KEDA issue 7950). An object of ours that has been waiting longer than [`PATIENCE`] is released.

use super::function_app::{Owned, scaled_object_resource};
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// A running KEDA takes its finalizer off within seconds.
const PATIENCE: Duration = Duration::from_secs(60);
/// Time between two looks.
const PERIOD: Duration = Duration::from_secs(20);
const KEDA_FINALIZER: &str = "finalizer.keda.sh";

/// Runs until `stop`.
pub(crate) async fn release_abandoned(client: Client, owned: Owned, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(PERIOD) => {}
        }
        // None where KEDA's types are not installed.
        let all = owned.scaled_objects().map(|watched| watched.all());
        let now = jiff::Timestamp::now();
        for object in all.iter().flatten().filter(|o| abandoned(o, now)) {
            let (name, namespace) = (object.name_any(), object.namespace().unwrap_or_default());
            match release(&client, object, &name, &namespace).await {
                Ok(()) => {
                    tracing::warn!(
                        name,
                        namespace,
                        "released a ScaledObject that KEDA did not let go"
                    );
                }
                // Gone, or somebody else changed it: both are seen in the next round.
                Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409 | 422) => {}
                Err(error) => {
                    tracing::warn!(
                        name,
                        namespace,
                        "a ScaledObject that KEDA does not let go could not be released: {error}; it is tried again"
                    );
                }
            }
        }
    }
}

async fn release(
    client: &Client,
    object: &DynamicObject,
    name: &str,
    namespace: &str,
) -> Result<(), kube::Error> {
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
    let api: Api<DynamicObject> =
        Api::namespaced_with(client.clone(), namespace, &scaled_object_resource());
    api.patch(name, &PatchParams::default(), &Patch::Json::<()>(patch))
        .await
        .map(drop)
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
