//! I/O: brings the objects of an app to the API server and removes what is no longer wanted.
//!
//! Server-side apply of the full intent under one field manager. A write is saved when the stored object carries the digest
//! of the same intent and still has every field of it, so that an app at rest costs no write and a manual change is undone.

use super::build::{GroupObjects, Objects, scaled_object_resource};
use super::owned::{of, owned_by};
use super::{Context, Error};
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Api, Resource, ResourceExt};
use maniple_crds::names::FIELD_MANAGER;
use maniple_crds::{FunctionApp, GroupName};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::fmt::Debug;

/// Annotation with the digest of the intent that an object was last written from.
const INTENT_ANNOTATION: &str = "maniple.dev/intent";
/// Holds `spec.replicas` of a Deployment when the operator lets go of it after creation, so that the count stays.
const REPLICAS_MANAGER: &str = "maniple-initial-replicas";

/// Proof that everything was written: status is computed from this only.
#[derive(Debug, Default)]
pub(super) struct Applied {
    /// Groups that got a Deployment now.
    pub created: Vec<GroupName>,
    /// Deployments that were removed.
    pub removed: Vec<String>,
}

/// Order: the Secret, because the pods mount it; then each group's Deployment before what points to it; then orphans.
pub(super) async fn apply(
    app: &FunctionApp,
    objects: Objects,
    ctx: &Context,
) -> Result<Applied, Error> {
    let namespace = app.namespace().ok_or(Error::NotFromServer)?;
    let Objects { secret, groups } = objects;
    let live = of(&ctx.owned.secrets, app)
        .into_iter()
        .find(|s| s.name_any() == secret.name_any());
    ensure(
        &Api::namespaced(ctx.client.clone(), &namespace),
        "Secret",
        live.as_deref(),
        secret,
        app,
        ctx,
    )
    .await?;

    let mut applied = Applied::default();
    let mut wanted = Wanted::default();
    for group in groups {
        apply_group(app, &namespace, group, ctx, &mut wanted, &mut applied).await?;
    }
    remove_orphans(app, &namespace, &wanted, ctx, &mut applied).await?;
    Ok(applied)
}

#[derive(Default)]
struct Wanted {
    deployments: BTreeSet<String>,
    services: BTreeSet<String>,
    scaled_objects: BTreeSet<String>,
}

async fn apply_group(
    app: &FunctionApp,
    namespace: &str,
    group: GroupObjects,
    ctx: &Context,
    wanted: &mut Wanted,
    applied: &mut Applied,
) -> Result<(), Error> {
    let GroupObjects {
        name,
        initial_replicas,
        deployment,
        service,
        scaled_object,
    } = group;
    wanted.deployments.insert(deployment.name_any());
    if apply_deployment(app, namespace, deployment, initial_replicas, ctx).await? {
        applied.created.push(name);
    }
    if let Some(service) = service {
        wanted.services.insert(service.name_any());
        let live = of(&ctx.owned.services, app)
            .into_iter()
            .find(|s| s.name_any() == service.name_any());
        ensure(
            &Api::namespaced(ctx.client.clone(), namespace),
            "Service",
            live.as_deref(),
            service,
            app,
            ctx,
        )
        .await?;
    }
    if let Some(object) = scaled_object {
        wanted.scaled_objects.insert(object.name_any());
        let live = ctx
            .owned
            .scaled_objects_of(app)
            .into_iter()
            .find(|s| s.name_any() == object.name_any());
        let api = Api::namespaced_with(ctx.client.clone(), namespace, &scaled_object_resource());
        ensure(&api, "ScaledObject", live.as_deref(), object, app, ctx).await?;
    }
    Ok(())
}

/// True when the Deployment was created.
async fn apply_deployment(
    app: &FunctionApp,
    namespace: &str,
    mut intent: Deployment,
    initial_replicas: i32,
    ctx: &Context,
) -> Result<bool, Error> {
    let name = intent.name_any();
    stamp(&mut intent);
    let cached = of(&ctx.owned.deployments, app)
        .into_iter()
        .find(|d| d.name_any() == name);
    if cached.is_some_and(|live| unchanged(live.as_ref(), &intent)) {
        return Ok(false);
    }
    let api: Api<Deployment> = Api::namespaced(ctx.client.clone(), namespace);
    // The cache may be behind, and a Deployment that is taken for a new one would be set back to its first count.
    let live = api
        .get_opt(&name)
        .await
        .map_err(|e| Error::read("Deployment", &name, e))?;
    let Some(live) = live else {
        let mut first = intent.clone();
        first.spec.get_or_insert_default().replicas = Some(initial_replicas);
        write(&api, "Deployment", &first, ctx).await?;
        hand_over_replicas(&api, &name, initial_replicas, ctx).await?;
        // Lets go of the count at once, while nobody else writes it.
        write(&api, "Deployment", &intent, ctx).await?;
        return Ok(true);
    };
    if !owned_by(&live, app.uid().as_deref()) {
        return Err(Error::NameTaken {
            kind: "Deployment",
            name,
        });
    }
    if owns_replicas(&live) {
        // The operator was stopped between the writes of a creation.
        let replicas = live
            .spec
            .as_ref()
            .and_then(|s| s.replicas)
            .unwrap_or(initial_replicas);
        hand_over_replicas(&api, &name, replicas, ctx).await?;
    }
    if !unchanged(&live, &intent) {
        write(&api, "Deployment", &intent, ctx).await?;
    }
    Ok(false)
}

/// Gives `spec.replicas` to a manager that never applies again. Without it the next apply, which leaves the field out, would
/// set the count to the API server's default of 1.
async fn hand_over_replicas(
    api: &Api<Deployment>,
    name: &str,
    replicas: i32,
    ctx: &Context,
) -> Result<(), Error> {
    let patch = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": {"replicas": replicas}});
    ctx.metrics.writes("Deployment");
    api.patch(
        name,
        &PatchParams::apply(REPLICAS_MANAGER).force(),
        &Patch::Apply(patch),
    )
    .await
    .map(drop)
    .map_err(|e| Error::write("applied", "Deployment", name, e))
}

fn owns_replicas(live: &Deployment) -> bool {
    live.metadata.managed_fields.iter().flatten().any(|entry| {
        entry.manager.as_deref() == Some(FIELD_MANAGER)
            && entry
                .fields_v1
                .as_ref()
                .is_some_and(|f| f.0.pointer("/f:spec/f:replicas").is_some())
    })
}

/// Writes an object when it is not yet as intended.
async fn ensure<K>(
    api: &Api<K>,
    kind: &'static str,
    live: Option<&K>,
    mut intent: K,
    app: &FunctionApp,
    ctx: &Context,
) -> Result<(), Error>
where
    K: Resource + Clone + Debug + Serialize + DeserializeOwned,
{
    stamp(&mut intent);
    match live {
        Some(live) if unchanged(live, &intent) => return Ok(()),
        Some(_) => {}
        None => {
            let name = intent.name_any();
            let found = api
                .get_opt(&name)
                .await
                .map_err(|e| Error::read(kind, &name, e))?;
            if found.is_some_and(|f| !owned_by(&f, app.uid().as_deref())) {
                return Err(Error::NameTaken { kind, name });
            }
        }
    }
    write(api, kind, &intent, ctx).await
}

async fn write<K>(api: &Api<K>, kind: &'static str, intent: &K, ctx: &Context) -> Result<(), Error>
where
    K: Resource + Clone + Debug + Serialize + DeserializeOwned,
{
    let name = intent.name_any();
    tracing::debug!(kind, name, "apply");
    ctx.metrics.writes(kind);
    api.patch(
        &name,
        &PatchParams::apply(FIELD_MANAGER).force(),
        &Patch::Apply(intent),
    )
    .await
    .map(drop)
    .map_err(|e| Error::write("applied", kind, &name, e))
}

fn stamp<K: Resource + Serialize>(intent: &mut K) {
    let text = serde_json::to_vec(intent).expect("objects of ours can be written as JSON");
    let digest: String = Sha256::digest(text)
        .iter()
        .take(8)
        .fold(String::new(), |mut hex, b| {
            use std::fmt::Write;
            write!(hex, "{b:02x}").expect("writing to a String does not fail");
            hex
        });
    intent
        .annotations_mut()
        .insert(INTENT_ANNOTATION.into(), digest);
}

/// True when the stored object was written from the same intent and still has every field of it.
fn unchanged<K: Serialize>(live: &K, intent: &K) -> bool {
    let json = |o: &K| serde_json::to_value(o).expect("objects can be written as JSON");
    contains(&json(live), &json(intent))
}

/// True when every field of `part` stands in `whole`. Lists are compared item by item, because the API server adds defaults
/// to the items but never reorders them.
fn contains(whole: &Value, part: &Value) -> bool {
    match (whole, part) {
        (Value::Object(whole), Value::Object(part)) => {
            part.iter().all(|(key, value)| match whole.get(key) {
                Some(found) => contains(found, value),
                // The API server does not store empty values.
                None => is_empty(value),
            })
        }
        (Value::Array(whole), Value::Array(part)) => {
            whole.len() == part.len() && whole.iter().zip(part).all(|(w, p)| contains(w, p))
        }
        _ => whole == part,
    }
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

/// Removes what carries the app's label and owner but is not wanted. Whoever scales a group goes before the group.
async fn remove_orphans(
    app: &FunctionApp,
    namespace: &str,
    wanted: &Wanted,
    ctx: &Context,
    applied: &mut Applied,
) -> Result<(), Error> {
    let scaled = Api::namespaced_with(ctx.client.clone(), namespace, &scaled_object_resource());
    for object in ctx.owned.scaled_objects_of(app) {
        if !wanted.scaled_objects.contains(&object.name_any()) {
            remove(&scaled, "ScaledObject", object.as_ref(), ctx).await?;
        }
    }
    let services = Api::namespaced(ctx.client.clone(), namespace);
    for object in of(&ctx.owned.services, app) {
        if !wanted.services.contains(&object.name_any()) {
            remove(&services, "Service", object.as_ref(), ctx).await?;
        }
    }
    let deployments = Api::namespaced(ctx.client.clone(), namespace);
    for object in of(&ctx.owned.deployments, app) {
        if !wanted.deployments.contains(&object.name_any())
            && remove(&deployments, "Deployment", object.as_ref(), ctx).await?
        {
            applied.removed.push(object.name_any());
        }
    }
    Ok(())
}

/// False when the object was gone or is going already.
async fn remove<K>(
    api: &Api<K>,
    kind: &'static str,
    object: &K,
    ctx: &Context,
) -> Result<bool, Error>
where
    K: Resource + Clone + Debug + DeserializeOwned,
{
    if object.meta().deletion_timestamp.is_some() {
        return Ok(false);
    }
    let name = object.name_any();
    // An object of the same name that was made since belongs to somebody else.
    let preconditions = Some(Preconditions {
        uid: object.uid(),
        resource_version: None,
    });
    let params = DeleteParams {
        preconditions,
        ..DeleteParams::background()
    };
    tracing::info!(kind, name, "removing an object that is no longer wanted");
    ctx.metrics.writes(kind);
    match api.delete(&name, &params).await {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => Ok(false),
        Err(error) => Err(Error::write("deleted", kind, &name, error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_of_the_server_are_no_difference_but_a_changed_field_is() {
        let intent = json!({"spec": {"list": [{"name": "a"}], "empty": [], "none": {}}});
        let live =
            json!({"spec": {"list": [{"name": "a", "protocol": "TCP"}], "other": 1}, "status": {}});
        assert!(contains(&live, &intent));
        for changed in [
            json!({"spec": {"list": [{"name": "b"}]}}),
            json!({"spec": {"list": [{"name": "a"}, {"name": "b"}]}}),
            json!({"spec": {}}),
        ] {
            assert!(!contains(&changed, &intent), "{changed}");
        }
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
    fn ownership_of_the_count_is_read_from_the_managed_fields() {
        let live: Deployment = serde_json::from_value(json!({"metadata": {"managedFields": [
            {"manager": FIELD_MANAGER, "operation": "Apply", "fieldsV1": {"f:spec": {"f:replicas": {}}}}
        ]}}))
        .unwrap();
        assert!(owns_replicas(&live));
        assert!(!owns_replicas(&Deployment::default()));
    }
}
