//! Pure: what each condition says.

use super::{MAX_MESSAGE, stored};
use crate::controller::function_app::apply::Failure;
use crate::controller::function_app::observe::{Observations, missing};
use crate::controller::function_app::owned::ready_condition;
use crate::controller::function_app::validate::{ValidGroup, is_paused};
use crate::ports::host::HostReport;
use crate::ports::scaler::ScalerError;
use crate::text::cut;
use kube::api::DynamicObject;
use maniple_crds::FunctionApp;
use maniple_crds::function_app::Host;
use maniple_crds::reasons::{condition, reason};
use maniple_crds::report::UNSUPPORTED;

/// A condition without the fields that depend on what is stored.
pub(super) struct Finding {
    pub kind: &'static str,
    pub status: &'static str,
    pub reason: String,
    pub message: String,
}

impl Finding {
    pub(super) fn new(
        kind: &'static str,
        status: &'static str,
        reason: &str,
        message: impl AsRef<str>,
    ) -> Self {
        Self {
            kind,
            status,
            reason: reason.to_owned(),
            message: cut(message.as_ref(), MAX_MESSAGE),
        }
    }

    fn ok(kind: &'static str, message: &str) -> Self {
        Self::new(kind, "True", reason::OK, message)
    }
}

pub(super) fn ready(findings: &[Finding]) -> Finding {
    // `Unknown` does not stop an app from being ready: nobody can be asked at zero instances.
    match findings
        .iter()
        .find(|f| f.status == "False" && f.kind != condition::PAUSED)
    {
        Some(bad) => Finding::new(
            condition::READY,
            "False",
            &bad.reason,
            format!("{}: {}", bad.kind, bad.message),
        ),
        None => Finding::ok(condition::READY, "every group is in place"),
    }
}

fn failed(kind: &'static str, failure: &Failure) -> Finding {
    let message = match &failure.group {
        Some(group) => format!("group {group}: {}", failure.error),
        None => failure.error.to_string(),
    };
    Finding::new(kind, "False", failure.error.reason(), message)
}

pub(super) fn workload(failures: &[Failure], seen: &Observations) -> Finding {
    const KIND: &str = condition::WORKLOAD_AVAILABLE;
    if let Some(failure) = failures.iter().find(|f| !f.scaling) {
        return failed(KIND, failure);
    }
    let troubles = || seen.troubles.iter();
    if let Some((group, trouble)) = troubles()
        .find(|(_, t)| t.failed)
        .or_else(|| troubles().next())
    {
        let why = if trouble.failed {
            reason::INSTANCES_FAILING
        } else {
            reason::INSTANCES_NOT_STARTING
        };
        return Finding::new(
            KIND,
            "False",
            why,
            format!("group {group}: {}", trouble.message),
        );
    }
    let stuck = seen.deployments.iter().find_map(|(group, deployment)| {
        let conditions = deployment.status.as_ref()?.conditions.as_ref()?;
        let bad = conditions.iter().find(|c| {
            (c.type_ == "ReplicaFailure" && c.status == "True")
                || (c.type_ == "Progressing" && c.status == "False")
        })?;
        let message = bad.message.as_deref();
        let message = message.unwrap_or("the Deployment makes no progress");
        Some(format!("group {group}: {message}"))
    });
    match stuck {
        Some(message) => Finding::new(KIND, "False", reason::ROLLOUT_FAILED, message),
        None => Finding::ok(KIND, "no instance fails"),
    }
}

pub(super) fn functions_loaded(
    app: &FunctionApp,
    groups: &[ValidGroup],
    seen: &Observations,
) -> Finding {
    const KIND: &str = condition::FUNCTIONS_LOADED;
    if app.spec.host == Host::Plain {
        let message = "the app is no Azure Functions host and is not asked for functions";
        return Finding::new(KIND, "True", reason::NOT_A_FUNCTIONS_HOST, message);
    }
    let (mut unknown, mut unasked) = (None, None);
    for group in groups {
        let name = &group.name;
        match seen.hosts.get(name) {
            Some(Ok(report)) if report.is_final() => {
                if let Some((why, message)) = host_fault(group, report) {
                    return Finding::new(KIND, "False", why, message);
                }
            }
            Some(Ok(report)) => {
                let message = format!("group {name}: the host is in state {}", report.state);
                unknown.get_or_insert((reason::PROGRESSING, message));
            }
            Some(Err(error)) => {
                unknown.get_or_insert((reason::HOST_UNREACHABLE, format!("group {name}: {error}")));
            }
            None => {
                unasked.get_or_insert(name);
            }
        }
    }
    if let Some((why, message)) = unknown {
        return Finding::new(KIND, "Unknown", why, message);
    }
    match unasked {
        Some(group) => kept(app, groups, seen).unwrap_or_else(|| {
            let message = format!("no instance of group {group} has run yet with this version");
            Finding::new(KIND, "Unknown", reason::NO_INSTANCE, message)
        }),
        None => Finding::ok(KIND, "the hosts list every function without errors"),
    }
}

/// What was found earlier about the same versions, by a process that has ended since. That it was good stays so; that it was
/// bad is dropped as soon as any host was asked anew.
fn kept(app: &FunctionApp, groups: &[ValidGroup], seen: &Observations) -> Option<Finding> {
    let old = app
        .status
        .as_ref()?
        .conditions
        .iter()
        .find(|c| c.type_ == condition::FUNCTIONS_LOADED)?;
    let current = old.observed_generation == app.metadata.generation;
    let same_versions = groups.iter().all(|g| {
        let template = seen.templates.get(&g.name);
        template.is_some() && stored(app, &g.name).and_then(|s| s.template.as_ref()) == template
    });
    let status = match old.status.as_str() {
        "True" => "True",
        "False" if seen.hosts.is_empty() => "False",
        _ => return None,
    };
    (current && same_versions).then(|| {
        Finding::new(
            condition::FUNCTIONS_LOADED,
            status,
            &old.reason,
            &old.message,
        )
    })
}

fn host_fault(group: &ValidGroup, report: &HostReport) -> Option<(&'static str, String)> {
    if !report.is_running() {
        let message = format!(
            "group {}: the host is in state {}: {}",
            group.name,
            report.state,
            report.errors.join("; ")
        );
        return Some((reason::FUNCTION_ERRORS, message));
    }
    let missing = missing(report, &group.functions);
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

pub(super) fn scaling(
    app: &FunctionApp,
    groups: &[ValidGroup],
    failures: &[Failure],
    seen: &Observations,
) -> Finding {
    const KIND: &str = condition::SCALING_CONFIGURED;
    if let Some(failure) = failures.iter().find(|f| f.scaling) {
        return failed(KIND, failure);
    }
    let by_keda = || groups.iter().filter(|g| g.keda);
    if !seen.keda_installed
        && let Some(group) = by_keda().next()
    {
        let message = format!(
            "group {}: nobody writes its instance count, because KEDA is not installed; install it or set spec.scaling.driver to Auto or Native",
            group.name
        );
        return Finding::new(KIND, "False", reason::KEDA_NOT_INSTALLED, message);
    }
    let mut waiting = None;
    for group in by_keda() {
        let verdict = seen.scaled_objects.get(&group.name).map(|o| keda_fault(o));
        match verdict {
            Some(Verdict::Bad(message)) => {
                let message = format!("group {}: KEDA says: {message}", group.name);
                return Finding::new(KIND, "False", reason::KEDA_NOT_READY, message);
            }
            Some(Verdict::Fine) => {}
            Some(Verdict::None) | None => {
                waiting.get_or_insert(&group.name);
            }
        }
    }
    if let Some(group) = waiting {
        let message = format!(
            "group {group}: KEDA has not taken up its ScaledObject yet; if this stays, look at the pods of KEDA"
        );
        return Finding::new(KIND, "Unknown", reason::PROGRESSING, message);
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

/// What KEDA says of a ScaledObject.
enum Verdict {
    Fine,
    Bad(String),
    None,
}

/// KEDA's own complaint. An unreadable source is not one: it has its own condition, and KEDA holds the count.
fn keda_fault(object: &DynamicObject) -> Verdict {
    match ready_condition(object) {
        None => Verdict::None,
        Some(c) if c["status"] == "Unknown" => Verdict::None,
        Some(c) if c["status"] == "False" && c["reason"] != "TriggerError" => {
            Verdict::Bad(c["message"].as_str().unwrap_or("not ready").to_owned())
        }
        Some(_) => Verdict::Fine,
    }
}

pub(super) fn triggers(seen: &Observations) -> Finding {
    const KIND: &str = condition::TRIGGERS_RESOLVED;
    let report = match &seen.scaler {
        Ok(report) => report,
        Err(error) => {
            let why = match error {
                ScalerError::NotSeen => reason::PROGRESSING,
                ScalerError::Unreachable(_) => reason::SCALER_UNREACHABLE,
            };
            return Finding::new(KIND, "Unknown", why, error.to_string());
        }
    };
    let mut sources = report.groups.iter().flat_map(|g| &g.sources);
    if let Some(bad) = sources.find(|s| s.error.is_some()) {
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

pub(super) fn paused(app: &FunctionApp) -> Finding {
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
