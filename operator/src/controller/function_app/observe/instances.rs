//! Pure: why an instance does not run.

use crate::text::cut;
use k8s_openapi::api::core::v1::{
    ContainerStateTerminated, ContainerStatus, Pod, PodCondition, PodStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use maniple_crds::names;

/// Longest start of an instance in seconds, pull of the image included. One that is not ready by then is shown; it is left
/// alone, and a slow one may still become ready.
const START_SECONDS: i64 = 120;
/// How long an instance may have no node, in seconds: a cluster that adds nodes by itself needs a while.
const NODE_SECONDS: i64 = 30;
/// Longest text of others that is taken over, in bytes.
const MAX_TEXT: usize = 512;

/// An instance that does not run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::controller::function_app) struct Trouble {
    /// True when the container ended or cannot be made, false when the instance does not become ready.
    pub failed: bool,
    /// Which and why.
    pub message: String,
}

/// The first trouble among pods; one that failed comes before one that waits.
pub(super) fn first_trouble<'a>(
    pods: impl Iterator<Item = &'a Pod> + Clone,
    now: jiff::Timestamp,
) -> Option<Trouble> {
    let trouble = |failed, message| Trouble { failed, message };
    let living = pods.filter(|p| p.metadata.deletion_timestamp.is_none());
    living
        .clone()
        .find_map(failure)
        .map(|message| trouble(true, message))
        .or_else(|| {
            living
                .clone()
                .find_map(|p| not_starting(p, now))
                .map(|message| trouble(false, message))
        })
}

/// Why a container cannot run. One that ended by itself has failed, also with exit code 0: the Functions host exits with 0
/// when it gives up on its worker.
fn failure(pod: &Pod) -> Option<String> {
    let status = container(pod.status.as_ref()?)?;
    let waiting = status.state.as_ref().and_then(|s| s.waiting.as_ref());
    // Waiting for a pull or for the sandbox is ordinary.
    if let Some(waiting) = waiting
        && let Some(reason) = waiting
            .reason
            .as_deref()
            .filter(|r| !matches!(*r, "ContainerCreating" | "PodInitializing"))
    {
        let message = cut(waiting.message.as_deref().unwrap_or("no message"), MAX_TEXT);
        let exit = last_exit(status)
            .map(|e| format!("; it last {e}"))
            .unwrap_or_default();
        return Some(format!("pod {}: {reason}: {message}{exit}", pod.name_any()));
    }
    if status.ready {
        return None;
    }
    let exit = status
        .state
        .as_ref()
        .and_then(|s| s.terminated.as_ref())
        .map(exit)
        .or_else(|| last_exit(status))?;
    Some(format!(
        "pod {}: the container {exit} although nobody stopped it; look at its log",
        pod.name_any()
    ))
}

/// Why an instance that has not failed is not ready after all this time.
fn not_starting(pod: &Pod, now: jiff::Timestamp) -> Option<String> {
    let status = pod.status.as_ref()?;
    let created = pod.metadata.creation_timestamp.as_ref();
    let name = pod.name_any();
    if let Some(scheduled) = condition(status, "PodScheduled").filter(|c| c.status == "False") {
        let since = scheduled.last_transition_time.as_ref().or(created)?;
        return longer(since, NODE_SECONDS, now).then(|| {
            let message = cut(
                scheduled.message.as_deref().unwrap_or("no message"),
                MAX_TEXT,
            );
            format!("pod {name} has no node: {message}")
        });
    }
    let ready = condition(status, "Ready");
    if ready.is_some_and(|c| c.status == "True") {
        return None;
    }
    let since = ready
        .and_then(|c| c.last_transition_time.as_ref())
        .or(created)?;
    longer(since, START_SECONDS, now).then(|| {
        let waiting = container(status)
            .and_then(|c| c.state.as_ref()?.waiting.as_ref()?.reason.clone())
            .unwrap_or_else(|| "its container runs but does not answer the readiness probe".into());
        format!("pod {name} is not ready for longer than {START_SECONDS} s: {waiting}")
    })
}

fn longer(since: &Time, seconds: i64, now: jiff::Timestamp) -> bool {
    now.as_second() - since.0.as_second() > seconds
}

fn condition<'a>(status: &'a PodStatus, kind: &str) -> Option<&'a PodCondition> {
    status.conditions.iter().flatten().find(|c| c.type_ == kind)
}

fn container(status: &PodStatus) -> Option<&ContainerStatus> {
    let statuses = status.container_statuses.as_ref()?;
    statuses.iter().find(|c| c.name == names::CONTAINER)
}

fn last_exit(status: &ContainerStatus) -> Option<String> {
    let terminated = status.last_state.as_ref()?.terminated.as_ref()?;
    Some(exit(terminated))
}

fn exit(state: &ContainerStateTerminated) -> String {
    // `Error` and `Completed` say no more than the code.
    let reason = state
        .reason
        .as_deref()
        .filter(|r| !matches!(*r, "Error" | "Completed"))
        .map(|r| format!(" ({r})"))
        .unwrap_or_default();
    format!("ended with exit code {}{reason}", state.exit_code)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(state: Value, last: Value, ready: bool) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "p"},
            "status": {"containerStatuses": [{
                "name": "app", "ready": ready, "restartCount": 1, "image": "i", "imageID": "i", "state": state, "lastState": last
            }]}
        }))
        .unwrap()
    }

    #[test]
    fn a_container_that_ends_with_zero_has_failed() {
        let ended = json!({"terminated": {"exitCode": 0, "reason": "Completed"}});
        assert!(
            failure(&pod(ended.clone(), json!({}), false))
                .unwrap()
                .contains("exit code 0 although")
        );
        let looping = json!({"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}});
        let text = failure(&pod(looping, ended.clone(), false)).unwrap();
        assert!(
            text.contains("CrashLoopBackOff") && text.contains("exit code 0"),
            "{text}"
        );
        // Running again and ready: the past is past.
        assert_eq!(failure(&pod(json!({"running": {}}), ended, true)), None);
        let creating = json!({"waiting": {"reason": "ContainerCreating"}});
        assert_eq!(failure(&pod(creating, json!({}), false)), None);
    }

    #[test]
    fn the_reason_of_an_exit_stands_beside_its_code() {
        let killed = json!({"terminated": {"exitCode": 137, "reason": "OOMKilled"}});
        let text = failure(&pod(killed, json!({}), false)).unwrap();
        assert!(text.contains("exit code 137 (OOMKilled)"), "{text}");
    }

    #[test]
    fn an_instance_that_never_starts_is_shown_when_its_time_is_over() {
        let pod = |kind: &str, status: &str| -> Pod {
            serde_json::from_value(json!({
                "metadata": {"name": "p", "creationTimestamp": "2026-01-01T00:00:00Z"},
                "status": {"phase": "Pending", "conditions": [
                    {"type": kind, "status": status, "reason": "Unschedulable", "message": "0/3 nodes",
                     "lastTransitionTime": "2026-01-01T00:00:00Z"}]},
            }))
            .unwrap()
        };
        let told = |pod: Pod, now: &str| first_trouble([&pod].into_iter(), now.parse().unwrap());
        let early = "2026-01-01T00:00:20Z";
        let late = "2026-01-01T00:00:40Z";
        assert_eq!(told(pod("PodScheduled", "False"), early), None);
        let trouble = told(pod("PodScheduled", "False"), late).unwrap();
        assert!(!trouble.failed && trouble.message.contains("0/3 nodes"));
        assert_eq!(told(pod("Ready", "False"), "2026-01-01T00:02:00Z"), None);
        assert!(told(pod("Ready", "False"), "2026-01-01T00:02:01Z").is_some());
        assert_eq!(told(pod("Ready", "True"), "2026-01-01T01:00:00Z"), None);
    }
}
