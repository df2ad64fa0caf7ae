//! Status: computed from what was applied and seen.

mod findings;
#[cfg(test)]
mod tests;
mod write;

pub(super) use write::{Write, write};

use super::apply::Applied;
use super::observe::Observations;
use super::validate::{Problem, ValidGroup};
use crate::text::cut;
use findings::Finding;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::ResourceExt;
use maniple_crds::function_app::{FunctionAppStatus, GroupStatus, SourceStatus};
use maniple_crds::reasons::{condition, reason};
use maniple_crds::report::GroupReport;
use maniple_crds::{FunctionApp, GroupName, names};

/// Longest texts that the API accepts, in bytes, and most sources of a group (`GroupStatus`, `SourceStatus`).
const MAX_MESSAGE: usize = 1024;
const MAX_NAME: usize = 128;
const MAX_KIND: usize = 64;
const MAX_SOURCES: usize = 128;

/// Status of an app that was applied.
pub(super) fn applied(
    app: &FunctionApp,
    groups: &[ValidGroup],
    applied: &Applied,
    seen: &Observations,
    now: jiff::Timestamp,
) -> FunctionAppStatus {
    let mut findings = vec![
        findings::workload(&applied.failures, seen),
        findings::functions_loaded(app, groups, seen),
        findings::scaling(app, groups, &applied.failures, seen),
        findings::triggers(seen),
        findings::paused(app),
    ];
    findings.insert(0, findings::ready(&findings));
    status(app, groups, findings, seen, now)
}

/// Status of an app that was refused: what ran before still runs and is looked at as ever. Only what is said of the spec
/// comes from the problems.
pub(super) fn refused(
    app: &FunctionApp,
    groups: &[ValidGroup],
    problems: &[Problem],
    seen: &Observations,
    now: jiff::Timestamp,
) -> FunctionAppStatus {
    let message = problems
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("; ");
    let why = problems.first().map_or(reason::INVALID_SPEC, |p| p.reason);
    let unresolved = problems.iter().any(|p| {
        matches!(
            p.reason,
            reason::REFERENCE_MISSING | reason::FUNCTIONS_UNKNOWN
        )
    });
    let mut findings = vec![Finding::new(
        condition::READY,
        "False",
        why,
        message.clone(),
    )];
    if !groups.is_empty() {
        findings.extend([
            findings::workload(&[], seen),
            findings::functions_loaded(app, groups, seen),
            findings::scaling(app, groups, &[], seen),
        ]);
    }
    if unresolved {
        findings.push(Finding::new(
            condition::TRIGGERS_RESOLVED,
            "False",
            why,
            message,
        ));
    } else if !groups.is_empty() {
        findings.push(findings::triggers(seen));
    }
    findings.push(findings::paused(app));
    status(app, groups, findings, seen, now)
}

fn status(
    app: &FunctionApp,
    groups: &[ValidGroup],
    findings: Vec<Finding>,
    seen: &Observations,
    now: jiff::Timestamp,
) -> FunctionAppStatus {
    let http = groups.iter().any(|g| g.name == GroupName::Http);
    let groups: Vec<GroupStatus> = groups.iter().map(|g| group_status(app, g, seen)).collect();
    FunctionAppStatus {
        conditions: conditions(app, findings, now),
        observed_generation: app.metadata.generation,
        group_count: i32::try_from(groups.len()).ok(),
        instances: Some(groups.iter().map(|g| g.ready).sum()),
        url: http.then(|| url(app)),
        groups,
    }
}

fn group_status(app: &FunctionApp, group: &ValidGroup, seen: &Observations) -> GroupStatus {
    let report = seen
        .scaler
        .as_ref()
        .ok()
        .and_then(|r| find(&r.groups, &group.name));
    let deployment = seen
        .deployments
        .get(&group.name)
        .and_then(|d| d.status.as_ref());
    let old = stored(app, &group.name);
    GroupStatus {
        name: group.name.to_string(),
        deployment: names::group_object(&app.name_any(), &group.name),
        functions: group.functions.clone(),
        ready: deployment.and_then(|s| s.ready_replicas).unwrap_or(0),
        draining: 0,
        always_ready: group.always_ready,
        template: seen.templates.get(&group.name).cloned(),
        // While the scaler is away its last word stays: the counts stay as well.
        desired: match report {
            Some(report) => report.desired.and_then(|d| i32::try_from(d).ok()),
            None => old.and_then(|g| g.desired),
        },
        reason: match report {
            Some(report) => Some(cut(&report.reason, MAX_NAME)),
            None => old.and_then(|g| g.reason.clone()),
        },
        message: match report {
            Some(report) => Some(cut(&report.message, MAX_MESSAGE)),
            None => old.and_then(|g| g.message.clone()),
        },
        sources: match report {
            Some(report) => report
                .sources
                .iter()
                .take(MAX_SOURCES)
                .map(source)
                .collect(),
            None => old.map(|g| g.sources.clone()).unwrap_or_default(),
        },
    }
}

/// Cut to what the API accepts: one text that is too long would make it refuse the whole status.
fn source(source: &SourceStatus) -> SourceStatus {
    SourceStatus {
        function: cut(&source.function, MAX_NAME),
        kind: cut(&source.kind, MAX_KIND),
        backlog: source.backlog,
        target: source.target,
        error: source.error.as_deref().map(|e| cut(e, MAX_MESSAGE)),
    }
}

/// What is stored of a group.
fn stored<'a>(app: &'a FunctionApp, name: &GroupName) -> Option<&'a GroupStatus> {
    let groups = &app.status.as_ref()?.groups;
    groups.iter().find(|g| g.name == name.to_string())
}

fn find<'a>(groups: &'a [GroupReport], name: &GroupName) -> Option<&'a GroupReport> {
    groups
        .iter()
        .find(|g| g.name.eq_ignore_ascii_case(&name.to_string()))
}

fn url(app: &FunctionApp) -> String {
    let service = names::group_object(&app.name_any(), &GroupName::Http);
    format!(
        "http://{service}.{}.svc",
        app.namespace().unwrap_or_default()
    )
}

/// Conditions with the times of the stored ones where nothing changed.
fn conditions(app: &FunctionApp, findings: Vec<Finding>, now: jiff::Timestamp) -> Vec<Condition> {
    let old = app
        .status
        .as_ref()
        .map(|s| s.conditions.as_slice())
        .unwrap_or_default();
    findings
        .into_iter()
        .map(|f| {
            let same = old
                .iter()
                .find(|c| c.type_ == f.kind && c.status == f.status);
            Condition {
                last_transition_time: same
                    .map_or_else(|| Time(now), |c| c.last_transition_time.clone()),
                message: f.message,
                observed_generation: app.metadata.generation,
                reason: f.reason,
                status: f.status.to_owned(),
                type_: f.kind.to_owned(),
            }
        })
        .collect()
}
