//! Asks the hosts what they loaded, and remembers it while no instance can be asked.

use super::{Observations, counts, is_of};
use crate::controller::function_app::Context;
use crate::controller::function_app::build::TEMPLATE_ANNOTATION;
use crate::controller::function_app::validate::ValidGroup;
use crate::ports::host::{HostError, HostReport, Instance};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use maniple_crds::{FunctionApp, names};
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// A host that loaded everything is asked again after this time; its functions change only with its image or settings.
const PROBE_AGAIN: Duration = Duration::from_secs(300);
/// A host with an error is asked again after this time, because the error may have been one of start-up.
const PROBE_FAILED_AGAIN: Duration = Duration::from_secs(10);
/// Longest time that all hosts of one app together may take, because it holds one of the workers.
const DEADLINE: Duration = Duration::from_secs(5);

/// What the hosts of one version of a group said.
#[derive(Clone, Debug)]
pub(in crate::controller::function_app) struct Probe {
    template: String,
    at: Instant,
    latest: Result<HostReport, HostError>,
    /// The last report of a host that was running. It stays true when the instances are gone.
    running: Option<HostReport>,
}

impl Probe {
    /// Takes in an answer. What an earlier version said is forgotten.
    fn after(before: Option<Self>, template: &str, latest: Result<HostReport, HostError>) -> Self {
        let running = match &latest {
            Ok(report) if report.is_running() => Some(report.clone()),
            _ => before
                .filter(|p| p.template == template)
                .and_then(|p| p.running),
        };
        Self {
            template: template.to_owned(),
            at: Instant::now(),
            latest,
            running,
        }
    }

    /// What counts. A host that does not answer or is starting or stopping takes nothing back, and one that is gone counts
    /// only with what it said while it ran.
    fn verdict(&self, has_instance: bool) -> Option<Result<HostReport, HostError>> {
        match (&self.latest, &self.running) {
            (Ok(report), _) if has_instance && report.is_final() => Some(Ok(report.clone())),
            (_, Some(report)) => Some(Ok(report.clone())),
            (latest, None) => has_instance.then(|| latest.clone()),
        }
    }

    fn is_due(&self, functions: &[String]) -> bool {
        let good = self.latest.as_ref().is_ok_and(|r| complete(r, functions));
        let wait = if good {
            PROBE_AGAIN
        } else {
            PROBE_FAILED_AGAIN
        };
        self.at.elapsed() >= wait
    }
}

/// Groups whose hosts are to be asked: they have an instance, and the last answer is old or of another version.
pub(super) fn due<'a>(
    app: &FunctionApp,
    groups: &'a [ValidGroup],
    seen: &Observations,
    ctx: &Context,
) -> Vec<&'a ValidGroup> {
    let has_instance = |g: &ValidGroup| {
        seen.deployments
            .get(&g.name)
            .is_some_and(|d| counts(d).1 > 0)
    };
    ctx.memory.of(app, |memory| {
        groups
            .iter()
            .filter(|g| has_instance(g))
            .filter(|g| {
                let probe = memory.probes.get(&g.name);
                !probe.is_some_and(|p| {
                    seen.templates.get(&g.name) == Some(&p.template) && !p.is_due(&g.functions)
                })
            })
            .collect()
    })
}

/// Asks one instance of each group, all at the same time.
pub(super) async fn ask(
    app: &FunctionApp,
    due: &[&ValidGroup],
    pods: &[Pod],
    seen: &Observations,
    host_key: &str,
    ctx: &Context,
) {
    let site = app.name_any();
    let port = u16::try_from(app.spec.port).unwrap_or(80);
    let questions = due.iter().filter_map(|group| {
        let template = seen.templates.get(&group.name)?;
        let id = names::group_id(&group.name);
        let address = pods
            .iter()
            .filter(|p| is_of(p, &id))
            .find_map(|p| ready_address(p, template))?;
        let instance = Instance {
            address,
            port,
            site: &site,
            key: host_key,
        };
        Some(async move {
            let report = ctx.hosts.report(&instance, &group.functions);
            let result = tokio::time::timeout(DEADLINE, report)
                .await
                .unwrap_or_else(|_| {
                    let limit = DEADLINE.as_secs();
                    let message = format!("no complete answer within {limit} s");
                    Err(HostError::Unreachable(message))
                });
            (&group.name, template, result)
        })
    });
    let answers = futures::future::join_all(questions).await;
    ctx.memory.of(app, |memory| {
        for (group, template, result) in answers {
            let before = memory.probes.remove(group);
            let probe = Probe::after(before, template, result);
            memory.probes.insert(group.clone(), probe);
        }
    });
}

/// What is known of the present version of a group.
pub(super) fn known(
    app: &FunctionApp,
    group: &ValidGroup,
    seen: &Observations,
    ctx: &Context,
) -> Option<Result<HostReport, HostError>> {
    let has_instance = seen
        .deployments
        .get(&group.name)
        .is_some_and(|d| counts(d).1 > 0);
    let template = seen.templates.get(&group.name)?;
    ctx.memory.of(app, |memory| {
        let probe = memory.probes.get(&group.name)?;
        (probe.template == *template)
            .then(|| probe.verdict(has_instance))
            .flatten()
    })
}

/// True when the host runs, lists every function, and has no error for one.
fn complete(report: &HostReport, functions: &[String]) -> bool {
    report.is_running()
        && missing(report, functions).is_empty()
        && report.function_errors.is_empty()
}

/// Functions that the host does not list.
pub(in crate::controller::function_app) fn missing<'a>(
    report: &HostReport,
    functions: &'a [String],
) -> Vec<&'a str> {
    let listed = |name: &str| {
        report
            .functions
            .iter()
            .any(|f| f.eq_ignore_ascii_case(name))
    };
    functions
        .iter()
        .map(String::as_str)
        .filter(|f| !listed(f))
        .collect()
}

/// Address of a ready pod of this version. During a roll-out the pods of the former version are ready too.
fn ready_address(pod: &Pod, template: &str) -> Option<IpAddr> {
    let status = pod.status.as_ref()?;
    let ready = status
        .conditions
        .iter()
        .flatten()
        .any(|c| c.type_ == "Ready" && c.status == "True");
    let version = pod.annotations().get(TEMPLATE_ANNOTATION);
    let present = version.is_some_and(|v| v == template);
    if !ready || !present || pod.metadata.deletion_timestamp.is_some() {
        return None;
    }
    status.pod_ip.as_ref()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn report(state: &str, functions: &[&str]) -> HostReport {
        HostReport {
            state: state.into(),
            errors: vec![],
            functions: functions.iter().map(ToString::to_string).collect(),
            function_errors: vec![],
        }
    }

    #[test]
    fn functions_are_compared_without_case() {
        let running = report("Running", &["Orders"]);
        assert!(complete(&running, &["orders".into()]));
        assert_eq!(
            missing(&running, &["orders".into(), "mail".into()]),
            ["mail"]
        );
        assert!(!complete(&report("Error", &["Orders"]), &["orders".into()]));
    }

    #[test]
    fn a_silent_starting_or_stopping_host_takes_nothing_back() {
        let good = Probe::after(None, "v1", Ok(report("Running", &["a"])));
        for later in [
            Err(HostError::Unreachable("gone".into())),
            Ok(report("Stopping", &[])),
            Ok(report("Starting", &[])),
        ] {
            let probe = Probe::after(Some(good.clone()), "v1", later.clone());
            for has_instance in [true, false] {
                let verdict = probe.verdict(has_instance).unwrap().unwrap();
                assert_eq!(verdict.functions, ["a"], "{later:?}");
            }
            // Nothing is taken over to another version.
            let other = Probe::after(Some(good.clone()), "v2", later.clone());
            assert_eq!(other.verdict(true), Some(later));
            assert_eq!(other.verdict(false), None);
        }
    }

    #[test]
    fn an_error_counts_while_somebody_has_it() {
        let good = Probe::after(None, "v1", Ok(report("Running", &["a"])));
        let broken = Probe::after(Some(good), "v1", Ok(report("Error", &[])));
        assert_eq!(broken.verdict(true).unwrap().unwrap().state, "Error");
        assert_eq!(broken.verdict(false).unwrap().unwrap().state, "Running");
        let empty = Probe::after(None, "v1", Ok(report("Running", &[])));
        assert_eq!(empty.verdict(false).unwrap().unwrap().functions.len(), 0);
    }

    #[test]
    fn a_pod_of_another_version_is_not_asked() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "p", "annotations": {TEMPLATE_ANNOTATION: "v1"}},
            "status": {"podIP": "10.0.0.1", "conditions": [{"type": "Ready", "status": "True"}]},
        }))
        .unwrap();
        assert!(ready_address(&pod, "v1").is_some());
        assert_eq!(ready_address(&pod, "v2"), None);
    }
}
