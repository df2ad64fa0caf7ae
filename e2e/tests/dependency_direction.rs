//! Dependencies between the packages point inwards (docs/architecture.md).

use anyhow::{Context as _, Result};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

/// Which packages of ours a package may use. Everything that is not listed here is refused.
const ALLOWED: &[(&str, &[&str])] = &[
    ("maniple-core", &[]),
    ("maniple-crds", &[]),
    ("maniple-proto", &[]),
    ("maniple-runtime", &[]),
    ("maniple-sources", &["maniple-core"]),
    ("maniple-front", &["maniple-core"]),
    ("maniple-slot-model", &["maniple-core"]),
    ("maniple-sim", &["maniple-core"]),
    ("maniple-operator", &["maniple-crds", "maniple-runtime"]),
    (
        "maniple-scaler",
        &[
            "maniple-core",
            "maniple-crds",
            "maniple-front",
            "maniple-proto",
            "maniple-runtime",
            "maniple-sources",
        ],
    ),
    (
        "function-host-standin",
        &["maniple-core", "maniple-sources"],
    ),
    (
        "e2e",
        &[
            "maniple-core",
            "maniple-crds",
            "maniple-proto",
            "maniple-runtime",
            "maniple-sources",
        ],
    ),
];

#[test]
fn dependencies_point_inwards() -> Result<()> {
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--no-deps",
            "--format-version",
            "1",
            "--offline",
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()?;
    let metadata: Value = serde_json::from_slice(&output.stdout).context("cargo metadata")?;
    let packages = metadata["packages"].as_array().context("packages")?;
    let name = |v: &Value| v["name"].as_str().unwrap_or_default().to_owned();
    let ours: BTreeSet<String> = packages.iter().map(name).collect();
    let allowed: BTreeMap<&str, &[&str]> = ALLOWED.iter().copied().collect();
    for package in packages {
        let package_name = name(package);
        let allowed = allowed
            .get(package_name.as_str())
            .with_context(|| format!("{package_name} is not in the list"))?;
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let used = name(dependency);
            // Tests of a package may use what they like.
            if dependency["kind"] == "dev" || !ours.contains(&used) {
                continue;
            }
            assert!(
                allowed.contains(&used.as_str()),
                "{package_name} must not use {used}"
            );
        }
    }
    Ok(())
}
