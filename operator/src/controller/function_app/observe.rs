//! I/O: what became of the objects: instances that fail, functions that the hosts loaded, decisions of the scaler.

use super::validate::ValidApp;
use super::{Context, Error};
use crate::ports::host::{HostError, HostReport, Instance};
use crate::ports::scaler::ScalerError;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DynamicObject, ListParams};
use kube::{Api, ResourceExt};
use maniple_crds::function_app::Host;
use maniple_crds::report::AppReport;
use maniple_crds::{FunctionApp, GroupName, names};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A host that loaded everything is asked again after this time; its functions change only with its image or settings.
const PROBE_AGAIN: Duration = Duration::from_secs(300);
/// A host with an error is asked again after this time, because the error may have been one of start-up.
const PROBE_FAILED_AGAIN: Duration = Duration::from_secs(10);

/// What was seen of an app.
#[derive(Debug)]
pub(super) struct Observations {
    /// Deployments by group.
    pub deployments: BTreeMap<GroupName, Arc<Deployment>>,
    /// ScaledObjects by group.
    pub scaled_objects: BTreeMap<GroupName, Arc<DynamicObject>>,
    /// Instances that cannot run, by group: what and why.
    pub failing: BTreeMap<GroupName, String>,
    /// What the hosts said, by group. Groups without an instance are absent, unless a former instance of the same version
    /// has answered.
    pub hosts: BTreeMap<GroupName, Result<HostReport, HostError>>,
    /// What the scaler decided.
    pub scaler: Result<AppReport, ScalerError>,
}

/// The last answer of a host of one group.
#[derive(Clone, Debug)]
pub(super) struct Probe {
    /// Version of the pods that answered.
    template: String,
    at: Instant,
    result: Result<HostReport, HostError>,
}

/// Last answers by uid of the app and group.
pub(super) type Probes = parking_lot::Mutex<BTreeMap<(String, GroupName), Probe>>;

pub(super) async fn observe(
    app: &FunctionApp,
    valid: &ValidApp,
    host_key: &str,
    ctx: &Context,
) -> Result<Observations, Error> {
    let namespace = app.namespace().ok_or(Error::NotFromServer)?;
    let name = app.name_any();
    let deployments = super::owned::of(&ctx.owned.deployments, app);
    let scaled = ctx.owned.scaled_objects_of(app);
    let mut seen = Observations {
        deployments: BTreeMap::new(),
        scaled_objects: BTreeMap::new(),
        failing: BTreeMap::new(),
        hosts: BTreeMap::new(),
        scaler: ctx.scaler.report(&namespace, &name).await,
    };
    for group in &valid.groups {
        let object = names::group_object(&name, &group.name);
        if let Some(found) = scaled.iter().find(|s| s.name_any() == object) {
            seen.scaled_objects
                .insert(group.name.clone(), found.clone());
        }
        let Some(deployment) = deployments.iter().find(|d| d.name_any() == object) else {
            continue;
        };
        seen.deployments
            .insert(group.name.clone(), deployment.clone());
        let replicas = deployment
            .status
            .as_ref()
            .and_then(|s| s.replicas)
            .unwrap_or(0);
        let pods = if replicas > 0 {
            pods(ctx, &namespace, &name, &group.name).await?
        } else {
            Vec::new()
        };
        if let Some(failure) = pods.iter().find_map(failure) {
            seen.failing.insert(group.name.clone(), failure);
        }
        if app.spec.host == Host::AzureFunctions
            && let Some(result) = probe(
                app,
                &group.name,
                &group.functions,
                deployment,
                &pods,
                host_key,
                ctx,
            )
            .await
        {
            seen.hosts.insert(group.name.clone(), result);
        }
    }
    Ok(seen)
}

/// Pods of a group, from the API server's cache: a look of a second ago is good enough.
async fn pods(
    ctx: &Context,
    namespace: &str,
    app: &str,
    group: &GroupName,
) -> Result<Vec<Pod>, Error> {
    let selector = names::selector(app, group)
        .iter()
        .map(|(k, v)| format!("{k}={v}"))
        .collect::<Vec<_>>()
        .join(",");
    let params = ListParams::default()
        .labels(&selector)
        .match_any()
        .limit(50);
    let api: Api<Pod> = Api::namespaced(ctx.client.clone(), namespace);
    let list = api
        .list(&params)
        .await
        .map_err(|e| Error::read("Pod", &selector, e))?;
    Ok(list.items)
}

/// Why a pod cannot run. A container that ended by itself has failed, also with exit code 0: the Functions host exits with 0
/// when it gives up on its worker.
fn failure(pod: &Pod) -> Option<String> {
    if pod.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let status = pod
        .status
        .as_ref()?
        .container_statuses
        .as_ref()?
        .iter()
        .find(|c| c.name == names::CONTAINER)?;
    let waiting = status.state.as_ref().and_then(|s| s.waiting.as_ref());
    // Waiting for a pull or for the sandbox is ordinary.
    if let Some(waiting) = waiting
        && let Some(reason) = waiting
            .reason
            .as_deref()
            .filter(|r| !matches!(*r, "ContainerCreating" | "PodInitializing"))
    {
        let message = waiting.message.as_deref().unwrap_or("no message");
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

fn last_exit(status: &k8s_openapi::api::core::v1::ContainerStatus) -> Option<String> {
    status
        .last_state
        .as_ref()
        .and_then(|s| s.terminated.as_ref())
        .map(exit)
}

fn exit(state: &k8s_openapi::api::core::v1::ContainerStateTerminated) -> String {
    format!("ended with exit code {}", state.exit_code)
}

async fn probe(
    app: &FunctionApp,
    group: &GroupName,
    functions: &[String],
    deployment: &Deployment,
    pods: &[Pod],
    host_key: &str,
    ctx: &Context,
) -> Option<Result<HostReport, HostError>> {
    let key = (app.uid().unwrap_or_default(), group.clone());
    let template = template_of(deployment);
    let last = ctx
        .probes
        .lock()
        .get(&key)
        .cloned()
        .filter(|p| p.template == template);
    if let Some(last) = &last {
        let good = last.result.as_ref().is_ok_and(|r| complete(r, functions));
        if last.at.elapsed()
            < if good {
                PROBE_AGAIN
            } else {
                PROBE_FAILED_AGAIN
            }
        {
            return Some(last.result.clone());
        }
    }
    let Some(address) = pods.iter().find_map(ready_address) else {
        return last.map(|p| p.result);
    };
    let instance = Instance {
        address,
        port: u16::try_from(app.spec.port).unwrap_or(80),
        site: &app.name_any(),
        key: host_key,
    };
    let result = ctx.hosts.report(&instance, functions).await;
    ctx.probes.lock().insert(
        key,
        Probe {
            template,
            at: Instant::now(),
            result: result.clone(),
        },
    );
    Some(result)
}

/// True when the host runs, lists every function, and has no error for one.
pub(super) fn complete(report: &HostReport, functions: &[String]) -> bool {
    report.state == "Running"
        && missing(report, functions).is_empty()
        && report.function_errors.is_empty()
}

/// Functions that the host does not list.
pub(super) fn missing<'a>(report: &HostReport, functions: &'a [String]) -> Vec<&'a str> {
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

/// What tells two versions of a group's pods apart.
fn template_of(deployment: &Deployment) -> String {
    let template = deployment.spec.as_ref().map(|s| &s.template);
    serde_json::to_string(&template).expect("a pod template can be written as JSON")
}

fn ready_address(pod: &Pod) -> Option<std::net::IpAddr> {
    let status = pod.status.as_ref()?;
    let ready = status
        .conditions
        .iter()
        .flatten()
        .any(|c| c.type_ == "Ready" && c.status == "True");
    if !ready || pod.metadata.deletion_timestamp.is_some() {
        return None;
    }
    status.pod_ip.as_ref()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(state: serde_json::Value, last: serde_json::Value, ready: bool) -> Pod {
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
        let ended = json!({"terminated": {"exitCode": 0}});
        assert!(
            failure(&pod(ended.clone(), json!({}), false))
                .unwrap()
                .contains("exit code 0")
        );
        let looping = json!({"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}});
        let text = failure(&pod(looping, ended.clone(), false)).unwrap();
        assert!(
            text.contains("CrashLoopBackOff") && text.contains("exit code 0"),
            "{text}"
        );
        // Running again and ready: the past is past.
        assert_eq!(failure(&pod(json!({"running": {}}), ended, true)), None);
        assert_eq!(
            failure(&pod(
                json!({"waiting": {"reason": "ContainerCreating"}}),
                json!({}),
                false
            )),
            None
        );
    }

    #[test]
    fn functions_are_compared_without_case() {
        let report = HostReport {
            state: "Running".into(),
            errors: vec![],
            functions: vec!["Orders".into()],
            function_errors: vec![],
        };
        assert!(complete(&report, &["orders".into()]));
        assert_eq!(
            missing(&report, &["orders".into(), "mail".into()]),
            ["mail"]
        );
        assert!(!complete(
            &HostReport {
                state: "Error".into(),
                ..report
            },
            &["orders".into()]
        ));
    }
}
