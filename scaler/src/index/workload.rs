//! What the scaler remembers of a Deployment of ours.

use super::key::AppKey;
use k8s_openapi::api::apps::v1::Deployment;
use maniple_crds::names;
use std::fmt;
use std::sync::Arc;

/// Who writes the replica count of a Deployment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    /// This scaler.
    Native,
    /// KEDA, which asks this scaler.
    Keda,
}

/// Namespace and name of a Deployment.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkloadKey {
    /// Namespace of the Deployment.
    pub namespace: Arc<str>,
    /// Name of the Deployment.
    pub name: Arc<str>,
}

impl WorkloadKey {
    /// The Deployment `namespace/name`.
    pub fn new(namespace: impl Into<Arc<str>>, name: impl Into<Arc<str>>) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
        }
    }
}

/// The parts of a Deployment that decisions depend on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    /// The app that it belongs to.
    pub app: AppKey,
    /// `spec.replicas`.
    pub replicas: u32,
    /// `status.readyReplicas`.
    pub ready: u32,
    /// Who writes the count; `None` when the operator has not said it yet, and then nobody does.
    pub driver: Option<Driver>,
    /// True while the Deployment is being deleted.
    pub deleting: bool,
    /// `metadata.resourceVersion`, where it is a number.
    pub version: Option<u64>,
}

impl fmt::Display for WorkloadKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl Workload {
    /// Whether both mean the same for decisions: all but the version.
    pub fn same(&self, other: &Self) -> bool {
        let version = other.version;
        *other
            == Self {
                version,
                ..self.clone()
            }
    }

    /// Reads a Deployment. `None` when it carries no label of an app: it is not ours.
    pub fn read(deployment: &Deployment) -> Option<(WorkloadKey, Self)> {
        let meta = &deployment.metadata;
        let namespace: Arc<str> = meta.namespace.as_deref()?.into();
        let name = meta.name.as_deref()?;
        let app = names::app_of(deployment)?;
        let annotation = |name: &str| {
            meta.annotations
                .as_ref()
                .and_then(|a| a.get(name))
                .map(String::as_str)
        };
        let count = |n: Option<i32>| n.and_then(|n| u32::try_from(n).ok());
        let workload = Self {
            app: AppKey::new(Arc::clone(&namespace), app),
            // The API server writes 1 where nothing is given.
            replicas: count(deployment.spec.as_ref().and_then(|s| s.replicas)).unwrap_or(1),
            ready: count(deployment.status.as_ref().and_then(|s| s.ready_replicas)).unwrap_or(0),
            driver: annotation(names::DRIVER_ANNOTATION).and_then(driver),
            deleting: meta.deletion_timestamp.is_some(),
            version: meta
                .resource_version
                .as_deref()
                .and_then(|v| v.parse().ok()),
        };
        Some((WorkloadKey::new(namespace, name), workload))
    }
}

fn driver(text: &str) -> Option<Driver> {
    if text.eq_ignore_ascii_case(names::DRIVER_NATIVE) {
        Some(Driver::Native)
    } else if text.eq_ignore_ascii_case(names::DRIVER_KEDA) {
        Some(Driver::Keda)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(mut extra: serde_json::Value) -> Option<(WorkloadKey, Workload)> {
        extra["apiVersion"] = "apps/v1".into();
        extra["kind"] = "Deployment".into();
        extra["metadata"]["namespace"] = "ns".into();
        extra["metadata"]["name"] = "shop-http".into();
        Workload::read(&serde_json::from_value(extra).unwrap())
    }

    #[test]
    fn counts_and_driver_are_read() {
        let (key, workload) = read(json!({
            "metadata": {
                "labels": {"maniple.dev/app": "shop"},
                "annotations": {"maniple.dev/driver": "Native"},
                "resourceVersion": "42",
            },
            "spec": {"replicas": 4, "selector": {}, "template": {}},
            "status": {"readyReplicas": 2},
        }))
        .unwrap();
        assert_eq!(key, WorkloadKey::new("ns", "shop-http"));
        assert_eq!(workload.app, AppKey::new("ns", "shop"));
        assert_eq!((workload.replicas, workload.ready), (4, 2));
        assert_eq!(workload.driver, Some(Driver::Native));
        assert_eq!(workload.version, Some(42));
        assert!(!workload.deleting);
    }

    #[test]
    fn an_unknown_driver_is_none_and_a_strangers_deployment_is_ignored() {
        let (_, workload) = read(json!({"metadata": {
            "labels": {"maniple.dev/app": "shop"}, "annotations": {"maniple.dev/driver": "hpa"}
        }}))
        .unwrap();
        assert_eq!(workload.driver, None);
        assert_eq!((workload.replicas, workload.ready), (1, 0));
        assert!(read(json!({"metadata": {}})).is_none());
    }
}
