//! Pure: the objects of an app.

mod deployment;
mod environment;
mod scaled_object;
mod secret;
mod service;

use super::dereference::References;
use super::validate::{ValidApp, ValidGroup};
use crate::args::Platform;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Secret, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::DynamicObject;
use kube::{Resource, ResourceExt};
use maniple_crds::{FunctionApp, GroupName, names};

pub(super) use deployment::TEMPLATE_ANNOTATION;
pub(crate) use scaled_object::resource as scaled_object_resource;

/// Everything that an app consists of. `apply` takes it apart field by field, so that a new kind cannot be forgotten.
#[derive(Debug)]
pub(super) struct Objects {
    /// The generated admin key.
    pub secret: Secret,
    /// One set for each group.
    pub groups: Vec<GroupObjects>,
}

/// The objects of one group.
#[derive(Debug)]
pub(super) struct GroupObjects {
    /// Name of the group.
    pub name: GroupName,
    /// Version of the pods.
    pub template: String,
    /// Instances with which a new Deployment begins.
    pub initial_replicas: i32,
    /// Runs the instances. Never has `spec.replicas`.
    pub deployment: Deployment,
    /// Only for the group `http`.
    pub service: Option<Service>,
    /// Only where KEDA writes the replica count.
    pub scaled_object: Option<DynamicObject>,
}

/// What every builder needs.
struct Input<'a> {
    app: &'a FunctionApp,
    namespace: String,
    owner: OwnerReference,
    valid: &'a ValidApp,
    references: &'a References,
    platform: &'a Platform,
}

/// Builds the objects of a valid app. `None` when the app was not read from the API server (it has no uid).
pub(super) fn build(
    app: &FunctionApp,
    valid: &ValidApp,
    references: &References,
    platform: &Platform,
) -> Option<Objects> {
    let input = Input {
        app,
        namespace: app.namespace()?,
        owner: app.controller_owner_ref(&())?,
        valid,
        references,
        platform,
    };
    Some(Objects {
        secret: secret::build(&input),
        groups: valid
            .groups
            .iter()
            .map(|group| build_group(&input, group))
            .collect(),
    })
}

fn build_group(input: &Input<'_>, group: &ValidGroup) -> GroupObjects {
    let (deployment, template) = deployment::build(input, group);
    GroupObjects {
        name: group.name.clone(),
        template,
        initial_replicas: group.always_ready,
        deployment,
        service: (group.name == GroupName::Http).then(|| service::build(input, group)),
        scaled_object: (group.keda && input.references.keda_installed)
            .then(|| scaled_object::build(input, group)),
    }
}

/// Metadata of an object of a group.
fn metadata(input: &Input<'_>, group: &GroupName) -> kube::api::ObjectMeta {
    kube::api::ObjectMeta {
        name: Some(names::group_object(&input.app.name_any(), group)),
        namespace: Some(input.namespace.clone()),
        labels: Some(names::group_labels(&input.app.name_any(), group)),
        annotations: Some([(names::GROUP_ANNOTATION.to_owned(), group.to_string())].into()),
        owner_references: Some(vec![input.owner.clone()]),
        ..Default::default()
    }
}
