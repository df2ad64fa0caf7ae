//! I/O: what became of the objects: instances that fail, functions that the hosts loaded, decisions of the scaler.

mod instances;
mod probe;

pub(super) use instances::Trouble;
pub(super) use probe::{Probe, missing};

use super::build::TEMPLATE_ANNOTATION;
use super::validate::ValidGroup;
use super::{Context, Error};
use crate::ports::host::{HostError, HostReport};
use crate::ports::scaler::ScalerError;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DynamicObject, ListParams};
use kube::{Api, ResourceExt};
use maniple_crds::function_app::Host;
use maniple_crds::report::AppReport;
use maniple_crds::{FunctionApp, GroupName, names};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What was seen of an app.
#[derive(Debug)]
pub(super) struct Observations {
    /// Deployments by group.
    pub deployments: BTreeMap<GroupName, Arc<Deployment>>,
    /// ScaledObjects by group.
    pub scaled_objects: BTreeMap<GroupName, Arc<DynamicObject>>,
    /// Whether ScaledObjects exist in this cluster.
    pub keda_installed: bool,
    /// Version of the pods that each group is to have.
    pub templates: BTreeMap<GroupName, String>,
    /// Instances that cannot run, by group.
    pub troubles: BTreeMap<GroupName, Trouble>,
    /// What the hosts of the present version said, by group. Groups of which nobody could be asked are absent.
    pub hosts: BTreeMap<GroupName, Result<HostReport, HostError>>,
    /// What the scaler decided.
    pub scaler: Result<AppReport, ScalerError>,
}

impl Observations {
    /// True while an instance is missing or not ready.
    pub(super) fn is_unready(&self) -> bool {
        self.deployments.values().any(|deployment| {
            let wanted = deployment.spec.as_ref().and_then(|s| s.replicas);
            let (all, ready) = counts(deployment);
            ready < all.max(wanted.unwrap_or(0))
        })
    }
}

/// Looks at the groups. `templates` are the versions of the pods that were just applied; without them those that run count.
pub(super) async fn observe(
    app: &FunctionApp,
    groups: &[ValidGroup],
    templates: BTreeMap<GroupName, String>,
    host_key: &str,
    ctx: &Context,
) -> Result<Observations, Error> {
    let namespace = app.namespace().ok_or(Error::NotFromServer)?;
    let name = app.name_any();
    let keda_installed = ctx.keda.borrow().installed;
    let mut seen = Observations {
        deployments: BTreeMap::new(),
        scaled_objects: BTreeMap::new(),
        keda_installed,
        templates,
        troubles: BTreeMap::new(),
        hosts: BTreeMap::new(),
        scaler: ctx.scaler.report(&namespace, &name).await,
    };
    for group in groups {
        let object = names::group_object(&name, &group.name);
        if let Some(found) = ctx.owned.scaled_object(app, &object) {
            seen.scaled_objects.insert(group.name.clone(), found);
        }
        if let Some(found) = ctx.owned.deployments.get(app, &object) {
            if !seen.templates.contains_key(&group.name)
                && let Some(running) = template_of(&found)
            {
                seen.templates.insert(group.name.clone(), running);
            }
            seen.deployments.insert(group.name.clone(), found);
        }
    }
    let asked = match app.spec.host {
        Host::AzureFunctions => groups,
        Host::Plain => &[],
    };
    let due = probe::due(app, asked, &seen, ctx);
    // Pods are listed only when there is something to learn from them.
    let pods = if seen.is_unready() || !due.is_empty() {
        pods(ctx, &namespace, &name).await?
    } else {
        Vec::new()
    };
    let now = jiff::Timestamp::now();
    for group in groups {
        let id = names::group_id(&group.name);
        let of_group = pods.iter().filter(|p| is_of(p, &id));
        if let Some(trouble) = instances::first_trouble(of_group, now) {
            seen.troubles.insert(group.name.clone(), trouble);
        }
    }
    probe::ask(app, &due, &pods, &seen, host_key, ctx).await;
    for group in asked {
        if let Some(result) = probe::known(app, group, &seen, ctx) {
            seen.hosts.insert(group.name.clone(), result);
        }
    }
    Ok(seen)
}

/// All pods of an app, from the API server's cache: a look of a second ago is good enough. Without a limit, because with one
/// the API server would read from its database.
async fn pods(ctx: &Context, namespace: &str, app: &str) -> Result<Vec<Pod>, Error> {
    let selector = format!("{}={app}", names::APP_LABEL);
    let params = ListParams::default().labels(&selector).match_any();
    let api: Api<Pod> = Api::namespaced(ctx.client.clone(), namespace);
    let list = api
        .list(&params)
        .await
        .map_err(|e| Error::read("Pod", &selector, e))?;
    Ok(list.items)
}

fn is_of(pod: &Pod, group_id: &str) -> bool {
    pod.labels().get(names::GROUP_LABEL).map(String::as_str) == Some(group_id)
}

/// Instances of a Deployment that exist, and those of them that are ready.
fn counts(deployment: &Deployment) -> (i32, i32) {
    let status = deployment.status.as_ref();
    (
        status.and_then(|s| s.replicas).unwrap_or(0),
        status.and_then(|s| s.ready_replicas).unwrap_or(0),
    )
}

/// Version of the pods that a Deployment makes.
fn template_of(deployment: &Deployment) -> Option<String> {
    let template = deployment.spec.as_ref()?.template.metadata.as_ref()?;
    template
        .annotations
        .as_ref()?
        .get(TEMPLATE_ANNOTATION)
        .cloned()
}
