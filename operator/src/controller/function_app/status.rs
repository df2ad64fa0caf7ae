//! Status: computed from what was applied and seen, written only when it differs from what is stored.

use super::apply::Applied;
use super::observe::{Observations, missing};
use super::validate::{Problem, ValidApp, ValidGroup, is_paused};
use crate::ports::host::HostReport;
use crate::ports::scaler::ScalerError;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::ResourceExt;
use kube::api::DynamicObject;
use maniple_crds::function_app::{FunctionAppStatus, GroupStatus, Host};
use maniple_crds::reasons::{condition, reason};
use maniple_crds::report::{GroupReport, UNSUPPORTED};
use maniple_crds::{FunctionApp, GroupName, names};

/// Longest message of a condition that is written; the API allows 32 KiB, people read less.
const MAX_MESSAGE: usize = 1024;

/// A condition without the fields that depend on what is stored.
struct Finding {
    kind: &'static str,
    status: &'static str,
    reason: &'static str,
    message: String,
}

impl Finding {
    fn new(
        kind: &'static str,
        status: &'static str,
        reason: &'static str,
        message: impl Into<String>,
    ) -> Self {
        Self {
            kind,
            status,
            reason,
            message: cut(message.into()),
        }
    }

    fn ok(kind: &'static str, message: impl Into<String>) -> Self {
        Self::new(kind, "True", reason::OK, message)
    }
}

/// Status of an app that was applied.
pub(super) fn applied(
    app: &FunctionApp,
    valid: &ValidApp,
    _: &Applied,
    seen: &Observations,
    now: jiff::Timestamp,
) -> FunctionAppStatus {
    let mut findings = vec![
        workload(seen),
        functions_loaded(app, valid, seen),
        scaling(app, valid, seen),
        triggers(seen),
        paused(app),
    ];
    findings.insert(0, ready(&findings));
    let groups: Vec<GroupStatus> = valid
        .groups
        .iter()
        .map(|g| group_status(app, g, seen))
        .collect();
    FunctionAppStatus {
        conditions: conditions(app, findings, now),
        observed_generation: app.metadata.generation,
        group_count: i32::try_from(groups.len()).ok(),
        instances: Some(groups.iter().map(|g| g.ready).sum()),
        url: valid
            .groups
            .iter()
            .any(|g| g.name == GroupName::Http)
            .then(|| url(app)),
        groups,
    }
}

/// Status of an app that was refused: what ran is left as it is, so the rest of the status stays.
pub(super) fn refused(
    app: &FunctionApp,
    problems: &[Problem],
    now: jiff::Timestamp,
) -> FunctionAppStatus {
    let old = app.status.clone().unwrap_or_default();
    let message = problems
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("; ");
    let why = problems.first().map_or(reason::INVALID_SPEC, |p| p.reason);
    let triggers = problems.iter().any(|p| {
        matches!(
            p.reason,
            reason::REFERENCE_MISSING | reason::FUNCTIONS_UNKNOWN
        )
    });
    let mut findings = vec![
        Finding::new(condition::READY, "False", why, message.clone()),
        paused(app),
    ];
    if triggers {
        findings.push(Finding::new(
            condition::TRIGGERS_RESOLVED,
            "False",
            why,
            message,
        ));
    }
    // Conditions that nobody looked at this time keep their last finding.
    let untouched: Vec<Condition> = old
        .conditions
        .iter()
        .filter(|c| !findings.iter().any(|f| f.kind == c.type_))
        .cloned()
        .collect();
    let mut conditions = conditions(app, findings, now);
    conditions.extend(untouched);
    FunctionAppStatus {
        conditions,
        observed_generation: app.metadata.generation,
        ..old
    }
}

fn ready(findings: &[Finding]) -> Finding {
    // `Unknown` does not stop an app from being ready: nobody can be asked at zero instances.
    match findings
        .iter()
        .find(|f| f.status == "False" && f.kind != condition::PAUSED)
    {
        Some(bad) => Finding::new(
            condition::READY,
            "False",
            bad.reason,
            format!("{}: {}", bad.kind, bad.message),
        ),
        None => Finding::ok(condition::READY, "every group is in place"),
    }
}

fn workload(seen: &Observations) -> Finding {
    let stuck = seen.deployments.iter().find_map(|(group, deployment)| {
        let conditions = deployment.status.as_ref()?.conditions.as_ref()?;
        let bad = conditions.iter().find(|c| {
            (c.type_ == "ReplicaFailure" && c.status == "True")
                || (c.type_ == "Progressing" && c.status == "False")
        })?;
        Some(format!(
            "group {group}: {}",
            bad.message
                .as_deref()
                .unwrap_or("the Deployment makes no progress")
        ))
    });
    if let Some((group, failure)) = seen.failing.iter().next() {
        return Finding::new(
            condition::WORKLOAD_AVAILABLE,
            "False",
            reason::INSTANCES_FAILING,
            format!("group {group}: {failure}"),
        );
    }
    match stuck {
        Some(message) => Finding::new(
            condition::WORKLOAD_AVAILABLE,
            "False",
            reason::ROLLOUT_FAILED,
            message,
        ),
        None => Finding::ok(condition::WORKLOAD_AVAILABLE, "no instance fails"),
    }
}

fn functions_loaded(app: &FunctionApp, valid: &ValidApp, seen: &Observations) -> Finding {
    const KIND: &str = condition::FUNCTIONS_LOADED;
    if app.spec.host == Host::Plain {
        let message = "the app is no Azure Functions host and is not asked for functions";
        return Finding::new(KIND, "True", reason::NOT_A_FUNCTIONS_HOST, message);
    }
    let mut unknown = None;
    for group in &valid.groups {
        match seen.hosts.get(&group.name) {
            Some(Ok(report)) => {
                if let Some((why, message)) = host_fault(group, report) {
                    return Finding::new(KIND, "False", why, message);
                }
            }
            Some(Err(error)) => {
                return Finding::new(
                    KIND,
                    "False",
                    reason::HOST_UNREACHABLE,
                    format!("group {}: {error}", group.name),
                );
            }
            None => unknown = unknown.or(Some(&group.name)),
        }
    }
    match unknown {
        Some(group) => {
            let message = format!("no instance of group {group} has run yet with this version");
            Finding::new(KIND, "Unknown", reason::NO_INSTANCE, message)
        }
        None => Finding::ok(KIND, "the hosts list every function without errors"),
    }
}

fn host_fault(group: &ValidGroup, report: &HostReport) -> Option<(&'static str, String)> {
    let missing = missing(report, &group.functions);
    if report.state != "Running" {
        let errors = report.errors.join("; ");
        return Some((
            reason::FUNCTION_ERRORS,
            format!(
                "group {}: the host is in state {}: {errors}",
                group.name, report.state
            ),
        ));
    }
    if !missing.is_empty() {
        let message = format!(
            "group {}: the host runs but does not list {}; it lists {} functions. Look at the log of the app: it may have failed to load",
            group.name,
            missing.join(", "),
            report.functions.len()
        );
        return Some((reason::FUNCTIONS_MISSING, message));
    }
    let (name, errors) = report.function_errors.first()?;
    Some((
        reason::FUNCTION_ERRORS,
        format!("function {name}: {}", errors.join("; ")),
    ))
}

fn scaling(app: &FunctionApp, valid: &ValidApp, seen: &Observations) -> Finding {
    const KIND: &str = condition::SCALING_CONFIGURED;
    if let Some(group) = valid
        .groups
        .iter()
        .find(|g| g.keda && !seen.scaled_objects.contains_key(&g.name))
    {
        let message = format!(
            "group {}: nobody writes its instance count, because KEDA is not installed or its ScaledObject is not there yet; install KEDA or set spec.scaling.driver to Auto or Native",
            group.name
        );
        return Finding::new(KIND, "False", reason::KEDA_NOT_INSTALLED, message);
    }
    for (group, object) in &seen.scaled_objects {
        if let Some(message) = keda_fault(object) {
            return Finding::new(
                KIND,
                "False",
                reason::KEDA_NOT_READY,
                format!("group {group}: KEDA says: {message}"),
            );
        }
    }
    match &seen.scaler {
        Err(error @ ScalerError::Unreachable(_)) => Finding::new(
            KIND,
            "Unknown",
            reason::SCALER_UNREACHABLE,
            error.to_string(),
        ),
        Err(error @ ScalerError::NotSeen) => {
            Finding::new(KIND, "Unknown", reason::PROGRESSING, error.to_string())
        }
        Ok(report) if Some(report.generation) != app.metadata.generation => Finding::new(
            KIND,
            "Unknown",
            reason::PROGRESSING,
            "the scaler has not taken in the last change yet",
        ),
        Ok(_) => Finding::ok(
            KIND,
            "every group has somebody who decides and writes its instance count",
        ),
    }
}

/// KEDA's own complaint. An unreadable source is not one: it has its own condition, and KEDA holds the count.
fn keda_fault(object: &DynamicObject) -> Option<String> {
    let conditions = object.data.pointer("/status/conditions")?.as_array()?;
    let ready = conditions.iter().find(|c| c["type"] == "Ready")?;
    (ready["status"] == "False" && ready["reason"] != "TriggerError")
        .then(|| ready["message"].as_str().unwrap_or("not ready").to_owned())
}

fn triggers(seen: &Observations) -> Finding {
    const KIND: &str = condition::TRIGGERS_RESOLVED;
    let report = match &seen.scaler {
        Ok(report) => report,
        Err(error) => {
            return Finding::new(
                KIND,
                "Unknown",
                reason::SCALER_UNREACHABLE,
                error.to_string(),
            );
        }
    };
    let sources = report.groups.iter().flat_map(|g| &g.sources);
    if let Some(bad) = sources.clone().find(|s| s.error.is_some()) {
        let error = bad.error.as_deref().unwrap_or_default();
        let message = format!("function {} ({}): {error}", bad.function, bad.kind);
        return Finding::new(KIND, "False", reason::SOURCE_UNREADABLE, message);
    }
    match report.groups.iter().find(|g| g.reason == UNSUPPORTED) {
        Some(group) => Finding::new(
            KIND,
            "True",
            reason::TRIGGER_UNSUPPORTED,
            format!("group {}: {}", group.name, group.message),
        ),
        None => Finding::ok(KIND, "every source can be read"),
    }
}

fn paused(app: &FunctionApp) -> Finding {
    if is_paused(app) {
        let message = "spec.scaling.mode is Paused: instance counts stay as they are";
        Finding::new(condition::PAUSED, "True", reason::PAUSED_BY_SPEC, message)
    } else {
        Finding::new(
            condition::PAUSED,
            "False",
            reason::NOT_PAUSED,
            "instance counts follow the decisions",
        )
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
    let ready = deployment.and_then(|s| s.ready_replicas).unwrap_or(0);
    let old = app
        .status
        .as_ref()
        .and_then(|s| s.groups.iter().find(|g| g.name == group.name.to_string()));
    GroupStatus {
        name: group.name.to_string(),
        deployment: names::group_object(&app.name_any(), &group.name),
        functions: group.functions.clone(),
        ready,
        draining: 0,
        always_ready: group.always_ready,
        // While the scaler is away its last word stays: the counts stay as well.
        desired: match report {
            Some(report) => report.desired.and_then(|d| i32::try_from(d).ok()),
            None => old.and_then(|g| g.desired),
        },
        reason: report
            .map(|r| r.reason.clone())
            .or_else(|| old.and_then(|g| g.reason.clone())),
        message: report
            .map(|r| cut(r.message.clone()))
            .or_else(|| old.and_then(|g| g.message.clone())),
        sources: match report {
            Some(report) => report.sources.clone(),
            None => old.map(|g| g.sources.clone()).unwrap_or_default(),
        },
    }
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
                reason: f.reason.to_owned(),
                status: f.status.to_owned(),
                type_: f.kind.to_owned(),
            }
        })
        .collect()
}

fn cut(mut text: String) -> String {
    if text.len() > MAX_MESSAGE {
        let end = (0..=MAX_MESSAGE - 3)
            .rev()
            .find(|i| text.is_char_boundary(*i))
            .unwrap_or(0);
        text.truncate(end);
        text.push_str("...");
    }
    text
}
