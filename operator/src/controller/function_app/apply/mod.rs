//! I/O: brings the objects of an app to the API server and removes what is no longer wanted.
//!
//! Server-side apply of the full intent under one field manager. A write is saved when the stored object carries the digest
//! of the same intent and still has every field of it, so that an app at rest costs no write and a manual change is undone.

mod compare;
mod orphans;
mod replicas;
mod write;

use super::build::{GroupObjects, Objects, scaled_object_resource};
use super::{Context, Error};
use kube::api::DynamicObject;
use kube::{Api, ResourceExt};
use maniple_crds::names::{DRIVER_ANNOTATION, DRIVER_KEDA};
use maniple_crds::{FunctionApp, GroupName};
use std::collections::BTreeSet;
use write::Writer;

/// What came of applying: status is computed from this.
#[derive(Debug, Default)]
pub(super) struct Applied {
    /// Groups that got a Deployment now.
    pub created: Vec<GroupName>,
    /// Deployments that were removed.
    pub removed: Vec<String>,
    /// What could not be written. The other groups are not held up by it.
    pub failures: Vec<Failure>,
}

/// Objects of one group that could not be written.
#[derive(Debug)]
pub(super) struct Failure {
    /// The group; `None` for what all groups need.
    pub group: Option<GroupName>,
    /// True when the instances are in place and only the ScaledObject is not.
    pub scaling: bool,
    /// Why.
    pub error: Error,
}

/// Order: the Secret, because the pods mount it; then each group's Deployment before what points to it; then orphans.
pub(super) async fn apply(
    app: &FunctionApp,
    objects: Objects,
    ctx: &Context,
) -> Result<Applied, Error> {
    let namespace = app.namespace().ok_or(Error::NotFromServer)?;
    let writer = Writer {
        app,
        namespace: &namespace,
        ctx,
    };
    let Objects { secret, groups } = objects;
    let mut applied = Applied::default();
    let live = ctx.owned.secrets.get(app, &secret.name_any());
    if let Err(error) = writer
        .ensure(&writer.api(), "Secret", live.as_deref(), secret)
        .await
    {
        applied.failures.push(Failure {
            group: None,
            scaling: false,
            error,
        });
        return Ok(applied);
    }
    let mut wanted = Wanted::default();
    for group in groups {
        let name = group.name.clone();
        if let Err((scaling, error)) = apply_group(&writer, group, &mut wanted, &mut applied).await
        {
            wanted.keep_all_of(&name);
            applied.failures.push(Failure {
                group: Some(name),
                scaling,
                error,
            });
        }
    }
    if let Err(error) = orphans::remove(&writer, &wanted, &mut applied).await {
        applied.failures.push(Failure {
            group: None,
            scaling: false,
            error,
        });
    }
    Ok(applied)
}

/// What is not an orphan.
#[derive(Default)]
struct Wanted {
    deployments: BTreeSet<String>,
    services: BTreeSet<String>,
    scaled_objects: BTreeSet<String>,
    /// Label values of groups that could not be written: nothing of them is removed.
    kept_groups: BTreeSet<String>,
}

impl Wanted {
    fn keep_all_of(&mut self, group: &GroupName) {
        self.kept_groups
            .insert(maniple_crds::names::group_id(group));
    }
}

/// The error says whether only the scaling is concerned.
async fn apply_group(
    writer: &Writer<'_>,
    group: GroupObjects,
    wanted: &mut Wanted,
    applied: &mut Applied,
) -> Result<(), (bool, Error)> {
    let GroupObjects {
        name,
        template: _,
        initial_replicas,
        mut deployment,
        service,
        scaled_object,
    } = group;
    let (app, owned) = (writer.app, &writer.ctx.owned);
    let object_name = deployment.name_any();
    wanted.deployments.insert(object_name.clone());
    let live_scaled = owned.scaled_object(app, &object_name);
    if scaled_object.is_none()
        && let Some(leaving) = &live_scaled
    {
        // Two writers of one count would pull it to and fro: the scaler takes over when KEDA has let go. The end of the
        // ScaledObject sets off the run that says so.
        wanted.scaled_objects.insert(object_name.clone());
        let api = scaled_objects(writer);
        writer
            .remove(&api, "ScaledObject", leaving.as_ref())
            .await
            .map_err(|e| (true, e))?;
        deployment
            .annotations_mut()
            .insert(DRIVER_ANNOTATION.into(), DRIVER_KEDA.into());
    }
    let created = replicas::apply_deployment(writer, deployment, initial_replicas)
        .await
        .map_err(|e| (false, e))?;
    if created {
        applied.created.push(name);
    }
    if let Some(service) = service {
        wanted.services.insert(service.name_any());
        let live = owned.services.get(app, &service.name_any());
        writer
            .ensure(&writer.api(), "Service", live.as_deref(), service)
            .await
            .map_err(|e| (false, e))?;
    }
    if let Some(object) = scaled_object {
        wanted.scaled_objects.insert(object.name_any());
        let api = scaled_objects(writer);
        writer
            .ensure(&api, "ScaledObject", live_scaled.as_deref(), object)
            .await
            .map_err(|e| (true, e))?;
    }
    Ok(())
}

fn scaled_objects(writer: &Writer<'_>) -> Api<DynamicObject> {
    Api::namespaced_with(
        writer.ctx.client.clone(),
        writer.namespace,
        &scaled_object_resource(),
    )
}
