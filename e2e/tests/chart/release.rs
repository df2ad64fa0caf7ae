//! A release in a cluster: install, upgrade with a changed definition, uninstall, install again, KEDA comes later.
//!
//! Uses a local cluster of its own, because definitions belong to a whole cluster. An app runs through all of it and must
//! never notice.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use e2e::cluster::options::Options;
use e2e::cluster::wait::until;
use e2e::cluster::{Cluster, Kubectl};
use e2e::helm;
use e2e::suite::apps::{PORT, http_function};
use e2e::suite::{PLATFORM_NAMESPACE, PLATFORM_RELEASE, STANDIN_IMAGE};
use serde_json::{Value, json};

const CLUSTER: &str = "chart";
const NAMESPACE: &str = "apps";
const APP: &str = "kept";
const DEFINITION: &str = "functionapps.maniple.dev";
const LIMIT: Duration = Duration::from_secs(120);

/// Removes the cluster also when an assertion fails.
struct Removed(Cluster);

impl Drop for Removed {
    fn drop(&mut self) {
        let _ = self.0.down();
    }
}

#[test]
fn a_release_comes_changes_goes_and_comes_back_while_an_app_runs() -> Result<()> {
    if std::env::var_os("KUBECONFIG").is_some_and(|path| !path.is_empty()) {
        eprintln!(
            "not run: KUBECONFIG is set, and this test changes definitions of a local cluster of its own"
        );
        return Ok(());
    }
    let guard = Removed(Cluster::named(CLUSTER)?);
    let cluster = &guard.0;
    cluster.down()?;
    let bare = Options {
        keda: false,
        azurite: false,
        ..Options::for_name(CLUSTER)
    };
    cluster.up(&bare)?;
    let kubectl = cluster.kubectl();
    let kubeconfig = cluster.kubeconfig();
    for namespace in [PLATFORM_NAMESPACE, NAMESPACE] {
        kubectl.apply(
            &json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {
                "name": namespace, "labels": {"pod-security.kubernetes.io/enforce": "restricted"},
            }})
            .to_string(),
        )?;
    }

    // Install, as `make platform` does it, into a namespace that admits restricted pods only.
    let installed = Command::new(env!("CARGO_BIN_EXE_e2e"))
        .args(["platform", "install"])
        .env("MANIPLE_CLUSTER", CLUSTER)
        .output()?;
    assert!(
        installed.status.success(),
        "{}",
        String::from_utf8_lossy(&installed.stderr)
    );
    let values = values_of_release(&kubectl)?;
    kubectl.apply(&app().to_string())?;
    ready(&kubectl)?;
    let instance = instance(&kubectl)?;
    let certified = certificates(&kubectl)?;

    // Another release may not take the definition away.
    let refused =
        helm::install(&kubeconfig, "other", "other", &helm::chart(), &values).unwrap_err();
    let refused = format!("{refused:#}");
    assert!(
        refused.contains(DEFINITION) && refused.contains("cannot be imported"),
        "{refused}"
    );

    let upgrade = |chart: &Path, values: &Value| {
        helm::upgrade(
            &kubeconfig,
            PLATFORM_RELEASE,
            PLATFORM_NAMESPACE,
            chart,
            values,
        )
    };

    // Upgrade: the new field of the definition is served and kept, which it would not be if the definition had stayed.
    let changed = tempfile::tempdir()?;
    copy(&helm::chart(), changed.path())?;
    add_field(
        &changed
            .path()
            .join("files/crds/maniple.dev_functionapps.yaml"),
    )?;
    let notes = upgrade(changed.path(), &values)?;
    assert!(notes.contains("KEDA is not installed"), "{notes}");
    until("the changed definition to be served", LIMIT, || {
        change(&kubectl, &json!({"addedByUpgrade":"yes"}))?;
        let stored = kubectl.get(&["-n", NAMESPACE, "functionapp", APP])?;
        anyhow::ensure!(
            stored["spec"]["addedByUpgrade"] == "yes",
            "{}",
            stored["spec"]
        );
        Ok(())
    })?;
    ready(&kubectl)?;
    assert_eq!(self::instance(&kubectl)?, instance);

    // Certificates are the operator's: an upgrade does not touch them, and one that is deleted comes back.
    assert_eq!(certificates(&kubectl)?, certified);
    kubectl.run(&["-n", PLATFORM_NAMESPACE, "delete", "secret", SECRETS[1]])?;
    until(
        "the Secret of the front ends to be made anew",
        LIMIT,
        || {
            let present = certificates(&kubectl)?;
            anyhow::ensure!(present[1] != certified[1], "it is the old one");
            assert_eq!(present[0], certified[0], "the CA stays");
            Ok(())
        },
    )?;
    let certified = certificates(&kubectl)?;

    // Uninstall: the chart's objects go, definition, app and instance stay.
    logs_tell_of_no_missing_right(&kubectl)?;
    helm::uninstall(&kubeconfig, PLATFORM_RELEASE, PLATFORM_NAMESPACE)?;
    for kinds in [
        "deployments,services,serviceaccounts,roles,rolebindings,poddisruptionbudgets",
        "clusterroles,clusterrolebindings",
    ] {
        let left = kubectl.run(&[
            "-n",
            PLATFORM_NAMESPACE,
            "get",
            kinds,
            "-l",
            "app.kubernetes.io/part-of=maniple",
            "-o",
            "name",
        ])?;
        assert_eq!(left.trim(), "", "left behind");
    }
    kubectl.run(&["get", "customresourcedefinition", DEFINITION])?;
    kubectl.run(&["-n", NAMESPACE, "get", "functionapp", APP])?;
    assert_eq!(self::instance(&kubectl)?, instance);

    // Install again, with switches on: everything is taken over, and the definition is the chart's again.
    let switches = with_switches(&values);
    helm::install(
        &kubeconfig,
        PLATFORM_RELEASE,
        PLATFORM_NAMESPACE,
        &helm::chart(),
        &switches,
    )?;
    ready(&kubectl)?;
    assert_eq!(self::instance(&kubectl)?, instance);
    let scaler = kubectl.get(&["-n", PLATFORM_NAMESPACE, "deployment", "maniple-scaler"])?;
    assert_eq!(scaler["status"]["readyReplicas"], 1);
    assert_eq!(certificates(&kubectl)?, certified, "they were taken up");
    let definition = kubectl.get(&["customresourcedefinition", DEFINITION])?;
    assert!(!definition.to_string().contains("addedByUpgrade"));

    // KEDA comes later: it is found without a change of the release, and the notes of the next one tell of it.
    cluster.up(&Options { keda: true, ..bare })?;
    change(&kubectl, &json!({"scaling":{"driver":"Keda"}}))?;
    until("KEDA to scale the app", LIMIT, || {
        kubectl.has_condition(
            &["-n", NAMESPACE, "scaledobject", &format!("{APP}-http")],
            "Ready",
        )
    })?;
    let notes = upgrade(&helm::chart(), &values)?;
    assert!(notes.contains("KEDA is installed"), "{notes}");
    assert_eq!(self::instance(&kubectl)?, instance);
    logs_tell_of_no_missing_right(&kubectl)?;

    // One namespace only: the same app is served with Roles alone.
    let mut narrow = values.clone();
    narrow["watchNamespace"] = json!(NAMESPACE);
    upgrade(&helm::chart(), &narrow)?;
    let cluster_wide = kubectl.run(&[
        "get",
        "clusterroles,clusterrolebindings",
        "-l",
        "app.kubernetes.io/part-of=maniple",
        "-o",
        "name",
    ])?;
    assert_eq!(cluster_wide.trim(), "");
    change(&kubectl, &json!({"scaling":{"driver":"Native"}}))?;
    ready(&kubectl)?;
    until("the ScaledObject to go", LIMIT, || {
        let left = kubectl.run(&["-n", NAMESPACE, "get", "scaledobjects", "-o", "name"])?;
        anyhow::ensure!(left.trim().is_empty(), "{left}");
        Ok(())
    })?;

    // The scaler may write counts.
    change(
        &kubectl,
        &json!({"functionAppConfig": {"scaleAndConcurrency": {"alwaysReady": [{"name": "http", "instanceCount": 2}]}}}),
    )?;
    until("a second instance to be ready", LIMIT, || {
        let deployment = kubectl.get(&["-n", NAMESPACE, "deployment", &format!("{APP}-http")])?;
        anyhow::ensure!(
            deployment["status"]["readyReplicas"] == 2,
            "{}",
            deployment["status"]
        );
        Ok(())
    })?;
    logs_tell_of_no_missing_right(&kubectl)
}

/// One instance that always runs, so that a restart of it would be seen.
fn app() -> Value {
    let function = http_function("api");
    let mut played = function.clone();
    played["work"] = json!({});
    json!({
        "apiVersion": "maniple.dev/v1alpha1",
        "kind": "FunctionApp",
        "metadata": {"name": APP, "namespace": NAMESPACE},
        "spec": {
            "image": STANDIN_IMAGE,
            "port": PORT,
            "functions": [function],
            "functionAppConfig": {"scaleAndConcurrency": {
                "instanceMemoryMB": 512, "maximumInstanceCount": 40, "alwaysReady": [{"name": "http", "instanceCount": 1}],
            }},
            "appSettings": [{"name": "STANDIN_FUNCTIONS", "value": json!([played]).to_string()}],
        },
    })
}

/// Secrets of the certificates between front ends and scaler, the CA first.
const SECRETS: [&str; 3] = [
    "maniple-slots-authority",
    "maniple-front-slots",
    "maniple-scaler-slots",
];

/// The certificates.
fn certificates(kubectl: &Kubectl) -> Result<Vec<String>> {
    SECRETS
        .iter()
        .map(|name| {
            let secret = kubectl.get(&["-n", PLATFORM_NAMESPACE, "secret", name])?;
            let certificate = secret["data"]["tls.crt"].as_str();
            Ok(certificate
                .context("the Secret has a certificate")?
                .to_owned())
        })
        .collect()
}

/// Changes fields of the app's spec.
fn change(kubectl: &Kubectl, spec: &Value) -> Result<String> {
    let patch = json!({"spec": spec}).to_string();
    kubectl.run(&[
        "-n",
        NAMESPACE,
        "patch",
        "functionapp",
        APP,
        "--type=merge",
        "-p",
        &patch,
    ])
}

/// The image that the release runs, with few requests for a small node.
fn values_of_release(kubectl: &Kubectl) -> Result<Value> {
    let deployment = kubectl.get(&["-n", PLATFORM_NAMESPACE, "deployment", "maniple-operator"])?;
    let image = deployment["spec"]["template"]["spec"]["containers"][0]["image"]
        .as_str()
        .context("the container has an image")?;
    let (repository, tag) = image.rsplit_once(':').context("the image has a tag")?;
    Ok(
        json!({"image": {"repository": repository, "tag": tag}, "instances": {"requestPercent": 5}, "log": {"level": "info,maniple_scaler=debug,maniple_operator=debug"}}),
    )
}

/// Switches that any cluster can take.
fn with_switches(values: &Value) -> Value {
    let mut values = values.clone();
    values["networkPolicy"] = json!({"enabled": true, "monitoring": [{"podSelector": {}}]});
    values["additionalLabels"] = json!({"team": "platform"});
    values["additionalAnnotations"] = json!({"example.com/owner": "platform"});
    values["runAsUser"] = Value::Null;
    values["scaler"] = json!({
        "replicas": 1,
        "workloadIdentity": {"enabled": true, "clientId": "11111111-2222-3333-4444-555555555555"},
        "tolerations": [{"key": "system", "operator": "Exists"}],
        "affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{
            "weight": 1, "podAffinityTerm": {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"team": "platform"}}},
        }]}},
        "extraEnv": [{"name": "MANIPLE_KUBE_CONNECT_TIMEOUT_SECONDS", "value": "4"}],
        "podDisruptionBudget": {"maxUnavailable": "50%"},
        "topologySpread": [],
    });
    values
}

/// Waits until the operator has seen the present spec and says that the app is ready.
fn ready(kubectl: &Kubectl) -> Result<()> {
    until("the app to be ready", LIMIT, || {
        let app = kubectl.get(&["-n", NAMESPACE, "functionapp", APP])?;
        let (generation, status) = (&app["metadata"]["generation"], &app["status"]);
        anyhow::ensure!(status["observedGeneration"] == *generation, "{status}");
        let conditions = status["conditions"].as_array();
        let is_ready = conditions
            .into_iter()
            .flatten()
            .any(|c| c["type"] == "Ready" && c["status"] == "True");
        anyhow::ensure!(is_ready, "{}", status["conditions"]);
        Ok(())
    })
}

/// Name, identity and restarts of the one instance.
fn instance(kubectl: &Kubectl) -> Result<(String, String, String)> {
    let pods = kubectl.get(&[
        "-n",
        NAMESPACE,
        "pods",
        "-l",
        &format!("maniple.dev/app={APP}"),
    ])?;
    let pods = pods["items"].as_array().context("a list has items")?;
    assert_eq!(pods.len(), 1, "{pods:?}");
    let meta = &pods[0]["metadata"];
    assert!(meta["deletionTimestamp"].is_null(), "{meta}");
    Ok((
        meta["name"].to_string(),
        meta["uid"].to_string(),
        pods[0]["status"]["containerStatuses"][0]["restartCount"].to_string(),
    ))
}

fn logs_tell_of_no_missing_right(kubectl: &Kubectl) -> Result<()> {
    for component in ["operator", "scaler", "front"] {
        let selector =
            format!("app.kubernetes.io/part-of=maniple,app.kubernetes.io/component={component}");
        let logs = kubectl.run(&[
            "-n",
            PLATFORM_NAMESPACE,
            "logs",
            "-l",
            &selector,
            "--tail=-1",
            "--prefix",
        ])?;
        assert!(logs.contains(component), "{logs}");
        let refused: Vec<&str> = logs
            .lines()
            .filter(|line| {
                line.to_lowercase().contains("forbidden") || line.contains("cannot list resource")
            })
            .collect();
        assert!(refused.is_empty(), "{refused:#?}");
    }
    Ok(())
}

/// Copies a folder; what symbolic links point to becomes part of it.
fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if fs::metadata(entry.path())?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// Adds a field to the spec in a definition.
fn add_field(definition: &Path) -> Result<()> {
    let text = fs::read_to_string(definition)?;
    let line = text
        .lines()
        .find(|line| line.trim() == "appSettings:")
        .context("the definition has app settings")?;
    let indent = &line[..line.len() - line.trim_start().len()];
    let field = format!(
        "{indent}addedByUpgrade:\n{indent}  maxLength: 10\n{indent}  type: string\n{line}\n"
    );
    fs::write(definition, text.replacen(&format!("{line}\n"), &field, 1))?;
    Ok(())
}
