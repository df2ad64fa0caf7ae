//! Building Go commands.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use super::Progress;

/// Builds `package` in the module at `work` into the file `output`.
pub(super) fn build(
    work: &Path,
    package: &str,
    ldflags: &str,
    output: &Path,
    progress: &Progress,
) -> Result<()> {
    let mut go = Command::new("go");
    go.current_dir(work)
        .env("CGO_ENABLED", "0")
        .env_remove("GOFLAGS")
        .args(["build", "-v", "-trimpath", "-ldflags", ldflags, "-o"])
        .arg(output)
        .arg(package);
    progress.run(&mut go).map(drop)
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Downloaded {
    dir: PathBuf,
    sum: String,
}

/// A writable copy of a published module, checked against its checksum.
///
/// Modules whose `go.mod` replaces others cannot be built from outside; copied, their own `go.mod` is the main one.
pub(super) fn writable_copy(
    cache: &Path,
    module: &str,
    sum: &str,
    progress: &Progress,
) -> Result<PathBuf> {
    let name: String = module
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || c == '.' {
                c
            } else {
                '-'
            }
        })
        .collect();
    let target = cache.join("src").join(name);
    if target.exists() {
        return Ok(target);
    }
    let parent = target.parent().context("the copy lies in the cache")?;
    fs::create_dir_all(parent)?;
    let mut go = Command::new("go");
    // Outside of any module, so that none is changed.
    go.current_dir(parent)
        .env_remove("GOFLAGS")
        .args(["mod", "download", "-json", module]);
    let found: Downloaded = serde_json::from_str(&progress.run(&mut go)?)
        .context("go mod download did not answer as expected")?;
    if found.sum != sum {
        bail!(
            "{module} has checksum {} but {sum} is pinned: somebody changed the module or the pin",
            found.sum
        );
    }
    let partial = target.with_extension("partial");
    super::remove(&partial)?;
    copy_tree(&found.dir, &partial)
        .with_context(|| format!("cannot copy {}", found.dir.display()))?;
    fs::rename(&partial, &target)?;
    Ok(target)
}

/// Copies files without their read-only mode, which the module cache sets.
pub(in crate::cluster) fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_tree(&entry.path(), &target)?;
        } else {
            fs::write(&target, fs::read(entry.path())?)?;
        }
    }
    Ok(())
}
