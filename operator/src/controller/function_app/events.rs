//! Events on a FunctionApp: only what has newly come about.

use super::apply::Applied;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::Resource;
use kube::runtime::events::{Event, EventType};
use maniple_crds::FunctionApp;
use maniple_crds::function_app::FunctionAppStatus;
use maniple_crds::reasons::{condition, event, reason};

pub(super) use kube::runtime::events::Recorder;

/// Longest note in bytes; the API server refuses more than 1024.
const MAX_NOTE: usize = 1000;

/// One event to be written.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Note {
    /// True for a warning.
    pub warning: bool,
    /// Reason of the event.
    pub reason: &'static str,
    /// What happened.
    pub text: String,
}

/// What a run did to the groups.
pub(super) fn of_groups(applied: &Applied) -> Vec<Note> {
    let note = |reason, text| Note {
        warning: false,
        reason,
        text,
    };
    let created = applied.created.iter().map(|group| {
        note(
            event::GROUP_CREATED,
            format!("group {group} got its Deployment"),
        )
    });
    let removed = applied.removed.iter().map(|name| {
        note(
            event::GROUP_REMOVED,
            format!("Deployment {name} belonged to a group that is no longer there"),
        )
    });
    created.chain(removed).collect()
}

/// Conditions that became `False`, or `False` for another reason.
pub(super) fn of_conditions(app: &FunctionApp, status: &FunctionAppStatus) -> Vec<Note> {
    let old = app
        .status
        .as_ref()
        .map(|s| s.conditions.as_slice())
        .unwrap_or_default();
    status
        .conditions
        .iter()
        .filter(|c| {
            c.status == "False"
                && !old
                    .iter()
                    .any(|o| o.type_ == c.type_ && o.status == "False" && o.reason == c.reason)
        })
        .filter_map(|c| {
            Some(Note {
                warning: true,
                reason: event_of(&c.type_, &c.reason)?,
                text: c.message.clone(),
            })
        })
        .collect()
}

fn event_of(kind: &str, why: &str) -> Option<&'static str> {
    Some(match (kind, why) {
        (
            condition::WORKLOAD_AVAILABLE | condition::SCALING_CONFIGURED,
            reason::APPLY_FAILED | reason::NAME_TAKEN,
        ) => event::APPLY_FAILED,
        (condition::WORKLOAD_AVAILABLE, reason::ROLLOUT_FAILED) => event::ROLLOUT_FAILED,
        (condition::WORKLOAD_AVAILABLE, reason::INSTANCES_NOT_STARTING) => {
            event::INSTANCE_NOT_STARTING
        }
        (condition::WORKLOAD_AVAILABLE, _) => event::INSTANCE_EXITED,
        (condition::FUNCTIONS_LOADED, _) => event::FUNCTIONS_NOT_LOADED,
        (
            condition::READY,
            reason::INVALID_SPEC
            | reason::REFERENCE_MISSING
            | reason::HOST_CONFLICT
            | reason::FUNCTIONS_UNKNOWN,
        ) => event::INVALID_SPEC,
        _ => return None,
    })
}

/// Writes notes.
pub(super) async fn publish_all(recorder: &Recorder, app: &FunctionApp, notes: Vec<Note>) {
    let target = app.object_ref(&());
    for note in notes {
        let kind = if note.warning {
            EventType::Warning
        } else {
            EventType::Normal
        };
        publish(recorder, &target, kind, note.reason, &note.text).await;
    }
}

/// Writes one event. Events are only news: one that cannot be written holds up nothing.
pub(super) async fn publish(
    recorder: &Recorder,
    target: &ObjectReference,
    kind: EventType,
    reason: &str,
    text: &str,
) {
    let event = Event {
        type_: kind,
        reason: reason.into(),
        note: Some(crate::text::cut(text, MAX_NOTE)),
        action: "Reconcile".into(),
        secondary: None,
    };
    if let Err(error) = recorder.publish(&event, target).await {
        tracing::debug!(%error, reason, "an event could not be written");
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{app, condition as with};
    use super::*;
    use serde_json::json;

    #[test]
    fn only_what_is_new_is_told_and_each_case_by_its_own_reason() {
        let mut shop = app("shop", json!({}));
        let now = |reason: &str| FunctionAppStatus {
            conditions: vec![with("WorkloadAvailable", "False", reason)],
            ..Default::default()
        };
        let told = |app: &FunctionApp, reason: &str| {
            of_conditions(app, &now(reason))
                .iter()
                .map(|n| n.reason)
                .collect::<Vec<_>>()
        };
        assert_eq!(told(&shop, "InstancesFailing"), ["InstanceExited"]);
        assert_eq!(told(&shop, "InstancesNotStarting"), ["InstanceNotStarting"]);
        assert_eq!(told(&shop, "RolloutFailed"), ["RolloutFailed"]);
        assert_eq!(told(&shop, "NameTaken"), ["ApplyFailed"]);
        shop.status = Some(now("InstancesFailing"));
        assert!(told(&shop, "InstancesFailing").is_empty());
        assert_eq!(told(&shop, "ApplyFailed"), ["ApplyFailed"]);
    }
}
