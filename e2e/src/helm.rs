//! Helm, which puts the chart into a cluster.
//!
//! Values are one JSON object, which Helm reads as YAML. Plugins, repositories and caches of the user play no part.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::cluster::{build, command, paths};

/// Time within which everything of a release must be ready. Pods start within seconds; a busy machine is slow.
const READY_LIMIT: Duration = Duration::from_secs(300);

/// The folder of the chart in this repository.
pub fn chart() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/maniple")
}

/// Installs a release, or upgrades it to these values, and waits until all of it is ready. Returns what Helm printed, the
/// chart's notes included.
///
/// # Errors
/// When Helm cannot be built, the values are refused, the cluster refuses, or something is not ready in time.
pub fn install(
    kubeconfig: &Path,
    release: &str,
    namespace: &str,
    chart: &Path,
    values: &Value,
) -> Result<String> {
    deploy(
        kubeconfig,
        &["--install", "--create-namespace"],
        release,
        namespace,
        chart,
        values,
    )
}

/// Upgrades a release to this chart and these values, and waits until all of it is ready.
///
/// # Errors
/// As [`install`], and when there is no such release.
pub fn upgrade(
    kubeconfig: &Path,
    release: &str,
    namespace: &str,
    chart: &Path,
    values: &Value,
) -> Result<String> {
    deploy(kubeconfig, &[], release, namespace, chart, values)
}

fn deploy(
    kubeconfig: &Path,
    flags: &[&str],
    release: &str,
    namespace: &str,
    chart: &Path,
    values: &Value,
) -> Result<String> {
    let mut helm = cluster_command(kubeconfig, namespace)?;
    helm.args(["upgrade", release])
        .arg(chart)
        .args(flags)
        .args(["--wait", "--timeout", &timeout(), "--values", "-"]);
    command::run_with_input(&mut helm, Some(&values.to_string()))
        .with_context(|| format!("release {release} in namespace {namespace}"))
}

/// Uninstalls a release and waits until its objects are gone. A release that does not exist is fine.
///
/// # Errors
/// When Helm cannot be built or the cluster refuses.
pub fn uninstall(kubeconfig: &Path, release: &str, namespace: &str) -> Result<String> {
    let mut helm = cluster_command(kubeconfig, namespace)?;
    helm.args(["uninstall", release, "--ignore-not-found", "--wait"])
        .args(["--timeout", &timeout()]);
    command::run(&mut helm).with_context(|| format!("release {release} in namespace {namespace}"))
}

/// The manifests of a release as YAML, without a cluster. `apis` are API versions that the cluster is said to have.
///
/// # Errors
/// When Helm cannot be built or the values are refused.
pub fn template(
    release: &str,
    namespace: &str,
    chart: &Path,
    values: &Value,
    apis: &[&str],
) -> Result<String> {
    let mut helm = program()?;
    helm.args(["template", release, "--namespace", namespace])
        .arg(chart)
        .args(["--values", "-"]);
    for api in apis {
        helm.args(["--api-versions", api]);
    }
    command::run_with_input(&mut helm, Some(&values.to_string()))
}

/// Checks a chart with Helm's own rules, warnings included.
///
/// # Errors
/// With what Helm found.
pub fn lint(chart: &Path, values: &Value) -> Result<String> {
    let mut helm = program()?;
    helm.args(["lint", "--strict"])
        .arg(chart)
        .args(["--values", "-"]);
    command::run_with_input(&mut helm, Some(&values.to_string()))
}

fn timeout() -> String {
    format!("{}s", READY_LIMIT.as_secs())
}

fn cluster_command(kubeconfig: &Path, namespace: &str) -> Result<Command> {
    let mut helm = program()?;
    helm.arg("--kubeconfig")
        .arg(kubeconfig)
        .args(["--namespace", namespace]);
    Ok(helm)
}

/// Helm with an environment of its own. `MANIPLE_HELM` names another executable of version 4.
fn program() -> Result<Command> {
    let program = match std::env::var_os("MANIPLE_HELM") {
        Some(path) => PathBuf::from(path),
        None => build::helm()?,
    };
    let home = paths::cache_dir()?.join("helm");
    let mut helm = Command::new(program);
    for (variable, folder) in [
        ("HELM_CACHE_HOME", "cache"),
        ("HELM_CONFIG_HOME", "config"),
        ("HELM_DATA_HOME", "data"),
    ] {
        helm.env(variable, home.join(folder));
    }
    for variable in [
        "HELM_NAMESPACE",
        "HELM_KUBECONTEXT",
        "HELM_DRIVER",
        "KUBECONFIG",
    ] {
        helm.env_remove(variable);
    }
    Ok(helm)
}
