//! I/O: the Deployment of a group, whose count the operator gives away as soon as it exists.

use super::compare::{owns_replicas, stamp};
use super::write::Writer;
use crate::controller::function_app::Error;
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::json;

/// Holds `spec.replicas` of a Deployment when the operator lets go of it after creation, so that the count stays.
const REPLICAS_MANAGER: &str = "maniple-initial-replicas";
const KIND: &str = "Deployment";

/// True when the Deployment was created.
pub(super) async fn apply_deployment(
    writer: &Writer<'_>,
    mut intent: Deployment,
    initial_replicas: i32,
) -> Result<bool, Error> {
    let name = intent.name_any();
    stamp(&mut intent);
    let cached = writer.ctx.owned.deployments.get(writer.app, &name);
    if cached.is_some_and(|live| writer.in_place(KIND, live.as_ref(), &intent)) {
        return Ok(false);
    }
    let api: Api<Deployment> = writer.api();
    // The cache may be behind, and a Deployment that is taken for a new one would be set back to its first count.
    let Some(live) = writer.live(&api, KIND, &name).await? else {
        let mut first = intent.clone();
        first.spec.get_or_insert_default().replicas = Some(initial_replicas);
        writer.write(&api, KIND, None, &first).await?;
        hand_over(writer, &api, &name, initial_replicas).await?;
        // Lets go of the count at once, while nobody else writes it.
        writer.write(&api, KIND, None, &intent).await?;
        return Ok(true);
    };
    if owns_replicas(&live) {
        // The operator was stopped between the writes of a creation.
        let replicas = live
            .spec
            .as_ref()
            .and_then(|s| s.replicas)
            .unwrap_or(initial_replicas);
        hand_over(writer, &api, &name, replicas).await?;
    }
    if !writer.in_place(KIND, &live, &intent) || owns_replicas(&live) {
        writer.write(&api, KIND, Some(&live), &intent).await?;
    }
    Ok(false)
}

/// Gives `spec.replicas` to a manager that never applies again. Without it the next apply, which leaves the field out, would
/// set the count to the API server's default of 1.
///
/// Not forced: a conflict says that somebody wrote another count meanwhile and owns it, and it must not be set back.
async fn hand_over(
    writer: &Writer<'_>,
    api: &Api<Deployment>,
    name: &str,
    replicas: i32,
) -> Result<(), Error> {
    let patch = json!({"apiVersion": "apps/v1", "kind": KIND, "metadata": {"name": name}, "spec": {"replicas": replicas}});
    writer.ctx.metrics.writes(KIND);
    let params = PatchParams::apply(REPLICAS_MANAGER);
    match api.patch(name, &params, &Patch::Apply(patch)).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(answer)) if answer.code == 409 => Ok(()),
        Err(error) => Err(Error::write("applied", KIND, name, error)),
    }
}
