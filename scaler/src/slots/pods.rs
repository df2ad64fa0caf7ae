//! What the data role reads of pods.

use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use maniple_core::slots::message::{Epoch, FrontEndId, GroupId, InstanceUid};
use maniple_crds::names;
use std::net::IpAddr;

/// Annotation of an instance's pod: the term that first saw it.
pub const CLAIM_ANNOTATION: &str = "maniple.dev/slots-claim";
/// Annotation of an instance's pod that is being removed: nothing is started there any more.
pub const DRAIN_ANNOTATION: &str = "maniple.dev/slots-drain";
/// Kubernetes' annotation by which a ReplicaSet chooses the pod that goes first.
pub const DELETION_COST_ANNOTATION: &str = "controller.kubernetes.io/pod-deletion-cost";
/// The cost of a pod that goes before all others.
pub const LOWEST_COST: &str = "-2147483648";

/// Namespace and name of a pod.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PodName {
    /// Namespace of the pod.
    pub namespace: String,
    /// Name of the pod.
    pub name: String,
}

/// The pod of an instance, as far as slots depend on it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is a fact of its own that Kubernetes shows"
)]
pub(super) struct InstancePod {
    /// Its uid.
    pub(super) uid: InstanceUid,
    /// Its group.
    pub(super) group: GroupId,
    /// Its address, once it has one.
    pub(super) ip: Option<IpAddr>,
    /// When it was made, in seconds since 1970.
    pub(super) created: u64,
    /// Term that first saw it.
    pub(super) claim: Option<Epoch>,
    /// Whether it carries the drain mark.
    pub(super) marked: bool,
    /// Whether it is being deleted.
    pub(super) terminating: bool,
    /// Whether all of its containers have ended for good.
    pub(super) ended: bool,
    /// Whether Kubernetes calls it ready.
    pub(super) ready: bool,
}

/// The group of an app in the messages about slots.
pub fn group_id(namespace: &str, app: &str, group: &str) -> GroupId {
    GroupId::new(&format!("{namespace}/{app}/{group}"))
}

/// Namespace and name of a pod.
pub(super) fn name_of(pod: &Pod) -> PodName {
    PodName {
        namespace: pod.metadata.namespace.clone().unwrap_or_default(),
        name: pod.metadata.name.clone().unwrap_or_default(),
    }
}

/// The uid of a pod as a number; none when it is not of the usual form.
pub(super) fn uid_of(pod: &Pod) -> Option<u128> {
    let digits = pod.metadata.uid.as_deref()?.replace('-', "");
    u128::from_str_radix(&digits, 16).ok()
}

fn label<'a>(pod: &'a Pod, name: &str) -> Option<&'a str> {
    let labels = pod.metadata.labels.as_ref()?;
    labels.get(name).map(String::as_str)
}

fn phase(pod: &Pod) -> Option<&str> {
    pod.status.as_ref()?.phase.as_deref()
}

fn has_ended(pod: &Pod) -> bool {
    matches!(phase(pod), Some("Succeeded" | "Failed"))
}

impl InstancePod {
    /// Reads a pod; none when it is no instance.
    pub(super) fn read(pod: &Pod) -> Option<Self> {
        let meta = &pod.metadata;
        let status = pod.status.as_ref();
        let annotation = |name: &str| {
            let annotations = meta.annotations.as_ref()?;
            annotations.get(name).map(String::as_str)
        };
        let app = label(pod, names::APP_LABEL)?;
        let group = label(pod, names::GROUP_LABEL)?;
        let created = meta.creation_timestamp.as_ref();
        let ready = status
            .and_then(|status| status.conditions.as_ref())
            .into_iter()
            .flatten()
            .any(|condition| condition.type_ == "Ready" && condition.status == "True");
        Some(Self {
            uid: InstanceUid(uid_of(pod)?),
            group: group_id(meta.namespace.as_deref()?, app, group),
            ip: status.and_then(|status| status.pod_ip.as_deref()?.parse().ok()),
            created: created.map_or(0, |time| {
                u64::try_from(time.0.as_second()).unwrap_or_default()
            }),
            claim: annotation(CLAIM_ANNOTATION).and_then(|text| text.parse().ok().map(Epoch)),
            marked: annotation(DRAIN_ANNOTATION).is_some(),
            terminating: meta.deletion_timestamp.is_some(),
            ended: has_ended(pod),
            ready,
        })
    }
}

/// The pod of a front end.
///
/// Only what the kubelet wrote of its containers proves the end of a process. That the object is gone proves nothing: somebody may have
/// forced it away, and the collector of lost pods writes phases too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FrontEndState {
    /// Its uid.
    pub(super) uid: u128,
    /// Whether all of its containers have ended for good.
    pub(super) ended: bool,
    /// Processes in containers that have ended: each writes its id into its termination message when it starts.
    pub(super) ended_processes: Vec<FrontEndId>,
}

impl FrontEndState {
    /// Reads a pod; none when its uid is not of the usual form.
    pub(super) fn read(pod: &Pod) -> Option<Self> {
        let containers = pod
            .status
            .as_ref()
            .and_then(|status| status.container_statuses.as_deref())
            .unwrap_or_default();
        let over = |container: &ContainerStatus| {
            let state = container.state.as_ref();
            state.is_some_and(|state| state.terminated.is_some())
        };
        let no_restart = has_ended(pod) || pod.metadata.deletion_timestamp.is_some();
        let states = containers
            .iter()
            .flat_map(|container| [&container.state, &container.last_state]);
        let messages = states.filter_map(|state| {
            let terminated = state.as_ref()?.terminated.as_ref()?;
            terminated.message.as_deref()
        });
        Some(Self {
            uid: uid_of(pod)?,
            ended: no_restart && !containers.is_empty() && containers.iter().all(over),
            ended_processes: messages.filter_map(process).collect(),
        })
    }
}

fn process(message: &str) -> Option<FrontEndId> {
    let digits = message.trim();
    let id = u128::from_str_radix(digits, 16).ok();
    id.filter(|_| digits.len() == 32).map(FrontEndId)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(more: serde_json::Value) -> Pod {
        let mut value = json!({"metadata": {
            "namespace": "ns", "name": "shop-http-1", "uid": "00000000-0000-0000-0000-0000000000ff",
            "creationTimestamp": "1970-01-01T00:01:00Z",
            "labels": {"maniple.dev/app": "shop", "maniple.dev/group": "http"},
        }});
        for (field, part) in more.as_object().unwrap() {
            if field == "metadata" {
                for (name, part) in part.as_object().unwrap() {
                    value["metadata"][name] = part.clone();
                }
            } else {
                value[field] = part.clone();
            }
        }
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn an_instance_is_known_before_it_has_an_address() {
        let young = InstancePod::read(&pod(json!({}))).unwrap();
        assert_eq!(young.uid, InstanceUid(255));
        assert_eq!(young.group.as_str(), "ns/shop/http");
        assert_eq!((young.ip, young.claim, young.created), (None, None, 60));
        let marked = InstancePod::read(&pod(json!({
            "metadata": {"annotations": {"maniple.dev/slots-claim": "7", "maniple.dev/slots-drain": "8"}},
            "status": {"podIP": "10.0.0.3", "phase": "Running",
                "conditions": [{"type": "Ready", "status": "True"}]},
        })))
        .unwrap();
        assert_eq!(marked.ip, Some("10.0.0.3".parse().unwrap()));
        assert_eq!((marked.claim, marked.marked), (Some(Epoch(7)), true));
        assert!(marked.ready && !marked.ended);
        assert!(InstancePod::read(&pod(json!({"metadata": {"labels": {}}}))).is_none());
    }

    #[test]
    fn only_the_end_of_all_containers_for_good_is_the_end_of_a_front_end() {
        let deleted = json!({"deletionTimestamp": "1970-01-01T00:01:00Z"});
        let ended = |metadata: &serde_json::Value, status: serde_json::Value| {
            let pod = pod(json!({"status": status, "metadata": metadata}));
            FrontEndState::read(&pod).unwrap().ended
        };
        let over = json!({"name": "front", "state": {"terminated": {"exitCode": 137}}});
        let runs = json!({"name": "side", "state": {"running": {}}});
        assert!(ended(
            &deleted,
            json!({"phase": "Running", "containerStatuses": [over]})
        ));
        assert!(ended(
            &json!({}),
            json!({"phase": "Failed", "containerStatuses": [over]})
        ));
        assert!(
            !ended(
                &json!({}),
                json!({"phase": "Running", "containerStatuses": [over]})
            ),
            "it is started again"
        );
        assert!(!ended(
            &deleted,
            json!({"phase": "Running", "containerStatuses": [over, runs]})
        ));
        // Written by the collector of lost pods: nobody saw the containers end.
        assert!(!ended(
            &deleted,
            json!({"phase": "Failed", "containerStatuses": [runs]})
        ));
        assert!(!ended(&deleted, json!({"phase": "Failed"})));
        assert!(!ended(&deleted, json!({"phase": "Unknown"})));
    }

    #[test]
    fn a_container_that_ended_names_its_process() {
        let id = |n: u128| format!("{n:032x}\n");
        let pod = pod(
            json!({"status": {"phase": "Running", "containerStatuses": [{
                "name": "front",
                "state": {"terminated": {"exitCode": 1, "message": id(8)}},
                "lastState": {"terminated": {"exitCode": 1, "message": id(7)}},
            }, {
                "name": "side", "lastState": {"terminated": {"exitCode": 1, "message": "no id"}},
            }]}}),
        );
        let state = FrontEndState::read(&pod).unwrap();
        assert_eq!(state.ended_processes, [FrontEndId(8), FrontEndId(7)]);
        assert!(!state.ended);
    }
}
