//! Removes what carries the app's label and owner but is not wanted. Whoever scales a group goes before the group.

use super::write::Writer;
use super::{Applied, Wanted, scaled_objects};
use crate::controller::function_app::Error;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Service;
use kube::{Api, Resource, ResourceExt};
use maniple_crds::names::GROUP_LABEL;
use std::collections::BTreeSet;

pub(super) async fn remove(
    writer: &Writer<'_>,
    wanted: &Wanted,
    applied: &mut Applied,
) -> Result<(), Error> {
    let (app, owned) = (writer.app, &writer.ctx.owned);
    if let Some(watched) = owned.scaled_objects() {
        let api = scaled_objects(writer);
        for object in watched.of(app) {
            if is_orphan(object.as_ref(), &wanted.scaled_objects, wanted) {
                writer.remove(&api, "ScaledObject", object.as_ref()).await?;
            }
        }
    }
    let services: Api<Service> = writer.api();
    for object in owned.services.of(app) {
        if is_orphan(object.as_ref(), &wanted.services, wanted) {
            writer.remove(&services, "Service", object.as_ref()).await?;
        }
    }
    let deployments: Api<Deployment> = writer.api();
    for object in owned.deployments.of(app) {
        if is_orphan(object.as_ref(), &wanted.deployments, wanted)
            && writer
                .remove(&deployments, "Deployment", object.as_ref())
                .await?
        {
            applied.removed.push(object.name_any());
        }
    }
    Ok(())
}

/// Not wanted, and not of a group that could not be written: what such a group has is all that it has.
fn is_orphan<K: Resource>(object: &K, names: &BTreeSet<String>, wanted: &Wanted) -> bool {
    let group = object.labels().get(GROUP_LABEL);
    !names.contains(&object.name_any()) && !group.is_some_and(|g| wanted.kept_groups.contains(g))
}

#[cfg(test)]
mod tests {
    use super::*;
    use maniple_crds::GroupName;
    use serde_json::json;

    #[test]
    fn what_a_failed_group_has_is_kept() {
        let service = |name: &str, group: &str| -> Service {
            serde_json::from_value(
                json!({"metadata": {"name": name, "labels": {GROUP_LABEL: group}}}),
            )
            .unwrap()
        };
        let mut wanted = Wanted::default();
        wanted.services.insert("a".into());
        let orphan = |s: Service, w: &Wanted| is_orphan(&s, &w.services, w);
        assert!(!orphan(service("a", "http"), &wanted));
        assert!(orphan(service("b", "http"), &wanted));
        wanted.keep_all_of(&GroupName::Http);
        assert!(!orphan(service("b", "http"), &wanted));
        assert!(orphan(service("c", "blob"), &wanted));
    }
}
