//! Images of a running cluster.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::Path;
use std::process::Command;
use std::time::UNIX_EPOCH;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::command;
use super::paths::StateDir;
use crate::image::{self, Spec};

/// containerd's namespace that the kubelet uses.
const NAMESPACE: &str = "k8s.io";

/// `ctr` of the cluster's containerd, whose socket lies in the state folder.
pub(super) fn ctr(state: &StateDir) -> Command {
    let mut ctr = Command::new(command::find("ctr").unwrap_or_else(|| "ctr".into()));
    ctr.arg("--address")
        .arg(state.containerd_socket())
        .args(["--namespace", NAMESPACE]);
    ctr
}

/// What is known about an imported image.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Imported {
    digest: String,
    /// Paths, sizes and times of the files that went in.
    stamp: String,
}

/// Makes an image and imports it, unless it is there and none of its files changed. True when it was imported.
pub(super) fn load(state: &StateDir, spec: &Spec) -> Result<bool> {
    // Two commands may load images at the same time.
    let lock = File::create(state.join("images.lock"))?;
    lock.lock().context("cannot lock the list of images")?;
    let record_path = state.join("images.json");
    let mut record: BTreeMap<String, Imported> = fs::read_to_string(&record_path)
        .ok()
        .and_then(|text| serde_json::from_str(&text).ok())
        .unwrap_or_default();
    let stamp = stamp(spec)?;
    let present = names(state)?.contains(&spec.name);
    let known = record.get(&spec.name).filter(|_| present);
    if known.is_some_and(|imported| imported.stamp == stamp) {
        return Ok(false);
    }
    let archive = image::build(spec)?;
    let changed = known.is_none_or(|imported| imported.digest != archive.digest);
    if changed {
        let file = state.join(&format!("image-{}.tar", archive.digest));
        archive.write(&file)?;
        let imported = load_file(state, &file);
        let _ = fs::remove_file(&file);
        imported?;
    }
    record.insert(
        spec.name.clone(),
        Imported {
            digest: archive.digest,
            stamp,
        },
    );
    fs::write(&record_path, serde_json::to_string_pretty(&record)?)?;
    Ok(changed)
}

fn stamp(spec: &Spec) -> Result<String> {
    let mut text = format!("{spec:?}");
    for (path, _) in spec.binaries.iter().chain(&spec.files) {
        add_stamp(path, &mut text).with_context(|| format!("cannot read {}", path.display()))?;
    }
    Ok(image::sha256(text.as_bytes()))
}

fn add_stamp(path: &Path, text: &mut String) -> Result<()> {
    let metadata = fs::metadata(path)?;
    let modified = metadata
        .modified()?
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_nanos());
    write!(text, "\n{} {} {modified}", path.display(), metadata.len())?;
    if metadata.is_dir() {
        let mut entries = fs::read_dir(path)?
            .map(|entry| entry.map(|e| e.path()))
            .collect::<Result<Vec<_>, _>>()?;
        entries.sort();
        for entry in entries {
            add_stamp(&entry, text)?;
        }
    }
    Ok(())
}

/// Imports a docker or OCI archive.
pub(super) fn load_file(state: &StateDir, file: &Path) -> Result<String> {
    let imported = command::run(ctr(state).args(["images", "import"]).arg(file));
    imported.with_context(|| format!("cannot import {}", file.display()))
}

fn names(state: &StateDir) -> Result<Vec<String>> {
    let text = command::run(ctr(state).args(["images", "list", "-q"]))?;
    Ok(text.lines().map(str::to_owned).collect())
}

/// Sends SIGKILL to the containers called `container` of a Kubernetes namespace; returns how many there were.
pub(super) fn kill_containers(state: &StateDir, namespace: &str, container: &str) -> Result<usize> {
    let filter = format!(
        "labels.\"io.kubernetes.pod.namespace\"=={namespace},labels.\"io.kubernetes.container.name\"=={container}"
    );
    let ids = command::run(ctr(state).args(["containers", "list", "-q", &filter]))?;
    let mut killed = 0;
    for id in ids.lines() {
        // A container that has ended has no task; that is not an error.
        if command::run(ctr(state).args(["tasks", "kill", "--signal", "SIGKILL", id])).is_ok() {
            killed += 1;
        }
    }
    Ok(killed)
}
