//! Names and labels of the objects that the operator makes, and how an app identifies itself to its storage account.

use crate::group::GroupName;
use k8s_openapi::api::apps::v1::Deployment;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// Name under which the operator owns fields in server-side apply.
pub const FIELD_MANAGER: &str = "maniple-operator";
/// Label with the name of the FunctionApp, on every object that belongs to one.
pub const APP_LABEL: &str = "maniple.dev/app";
/// Label with the [`group_id`], on every object that belongs to a group.
pub const GROUP_LABEL: &str = "maniple.dev/group";
/// Annotation with the full name of the group, which may hold characters that labels may not.
pub const GROUP_ANNOTATION: &str = "maniple.dev/group-name";
/// Annotation of a Deployment that says who writes its replica count: [`DRIVER_NATIVE`] or [`DRIVER_KEDA`].
pub const DRIVER_ANNOTATION: &str = "maniple.dev/driver";
/// The scaler writes the replica count.
pub const DRIVER_NATIVE: &str = "native";
/// KEDA writes the replica count and asks the scaler for it.
pub const DRIVER_KEDA: &str = "keda";
/// Standard label that names the operator.
pub const MANAGED_BY_LABEL: &str = "app.kubernetes.io/managed-by";
/// Value of [`MANAGED_BY_LABEL`].
pub const MANAGED_BY: &str = "maniple";
/// Metadata key by which KEDA's request names the app.
pub const KEDA_APP_KEY: &str = "app";
/// Metadata key by which KEDA's request names the group.
pub const KEDA_GROUP_KEY: &str = "group";
/// Name of the container that runs the app.
pub const CONTAINER: &str = "app";
/// Key of the generated Secret that holds the admin key of the host.
pub const HOST_KEY: &str = "host-key";

/// Short form of a group name that fits into a label and, behind the app's name, into a DNS label:
/// `http`, `durable`, `blob`, or `fn-<name>-<hash>`. At most 22 characters.
pub fn group_id(group: &GroupName) -> String {
    let GroupName::Function(name) = group else {
        return group.to_string();
    };
    let lower = name.to_ascii_lowercase();
    let slug: String = lower
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .take(11)
        .collect();
    let slug = slug.trim_matches('-');
    // Two functions whose names begin alike must not share a name.
    format!("fn-{slug}-{}", hash(&lower, 6))
}

/// Name of the Deployment, Service and ScaledObject of a group. At most 63 characters.
pub fn group_object(app: &str, group: &GroupName) -> String {
    format!("{app}-{}", group_id(group))
}

/// Name of the Secret with the generated keys of an app.
pub fn keys_secret(app: &str) -> String {
    format!("{app}-maniple-keys")
}

/// Host id of an app: the same for all its instances, different for every app that may share a storage account.
/// It names locks, timer status and blob receipts. At most 32 characters of `a-z0-9-` (Azure docs, "host id considerations").
pub fn host_id(namespace: &str, app: &str) -> String {
    let short: String = app.chars().take(19).collect();
    format!(
        "{}-{}",
        short.trim_end_matches('-'),
        hash(&format!("{namespace}/{app}"), 12)
    )
}

/// Labels of every object of an app.
pub fn app_labels(app: &str) -> BTreeMap<String, String> {
    [
        (APP_LABEL, app),
        (MANAGED_BY_LABEL, MANAGED_BY),
        ("app.kubernetes.io/name", app),
    ]
    .into_iter()
    .map(|(k, v)| (k.to_owned(), v.to_owned()))
    .collect()
}

/// Labels of every object of a group.
pub fn group_labels(app: &str, group: &GroupName) -> BTreeMap<String, String> {
    let mut labels = app_labels(app);
    labels.insert(GROUP_LABEL.into(), group_id(group));
    labels
}

/// Labels that select the pods of a group; they never change for the life of a Deployment.
pub fn selector(app: &str, group: &GroupName) -> BTreeMap<String, String> {
    let mut labels = group_labels(app, group);
    labels.retain(|k, _| k == APP_LABEL || k == GROUP_LABEL);
    labels
}

/// The app that a Deployment belongs to, if it is one of ours.
pub fn app_of(deployment: &Deployment) -> Option<&str> {
    deployment
        .metadata
        .labels
        .as_ref()?
        .get(APP_LABEL)
        .map(String::as_str)
}

fn hash(text: &str, length: usize) -> String {
    use std::fmt::Write;
    let mut hex = String::with_capacity(64);
    for byte in Sha256::digest(text.as_bytes()) {
        write!(hex, "{byte:02x}").expect("writing to a String does not fail");
    }
    hex.truncate(length);
    hex
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_stable_because_running_deployments_carry_them() {
        assert_eq!(group_object("shop", &GroupName::Http), "shop-http");
        assert_eq!(
            group_object("shop", &GroupName::Function("Orders_In".into())),
            "shop-fn-orders-in-adf5cc"
        );
        assert_eq!(host_id("default", "shop"), "shop-5be479caf0c0");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]
        #[test]
        fn names_fit_and_ignore_case(app in "[a-z]([-a-z0-9]{0,38}[a-z0-9])?", name in "[a-zA-Z][a-zA-Z0-9_-]{0,127}") {
            let group = GroupName::Function(name.clone());
            let object = group_object(&app, &group);
            prop_assert!(object.len() <= 63, "{object}");
            prop_assert!(!object.contains("--") || app.contains("--") || name.contains("--") || name.contains("__")
                || name.contains("-_") || name.contains("_-"), "{object}");
            prop_assert!(object.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'));
            prop_assert!(!object.ends_with('-'));
            prop_assert_eq!(group_id(&GroupName::Function(name.to_ascii_uppercase())), group_id(&group));
            let id = host_id("ns", &app);
            prop_assert!(id.len() <= 32 && id.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'));
        }
    }
}
