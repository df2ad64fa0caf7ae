//! The view of the file system that the cluster's processes get.
//!
//! Everything that containerd, the kubelet and CNI plugins leave in fixed places of a machine (`/run`, `/var/lib`, `/var/log`) lies
//! on file systems that only this mount namespace sees.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use nix::mount::{MsFlags, mount};

use super::options::Options;
use super::paths::StateDir;
use super::{capacity, cgroups};

/// Folders that the cluster's processes see differently; the files that we hand to them cannot lie below.
pub(super) const REPLACED: &[&str] = &["/run", "/var/run", "/var/lib", "/var/log", "/proc", "/sys"];

/// Kernel settings that the kubelet insists on, with its values. They are global, so it is shown files that hold the
/// values already instead of changing this machine.
const SETTINGS: &[(&str, &str)] = &[
    ("vm/overcommit_memory", "1"),
    ("vm/panic_on_oom", "0"),
    ("kernel/panic", "10"),
    ("kernel/panic_on_oops", "1"),
    ("kernel/keys/root_maxkeys", "1000000"),
    ("kernel/keys/root_maxbytes", "25000000"),
];

/// Prepares the mount namespace of the calling process, which must be PID 1 of a new PID namespace.
pub(super) fn prepare(state: &StateDir) -> Result<()> {
    let hierarchies = cgroups::hierarchies()?;
    // Private first, so that nothing reaches the machine; shared then, because mounts must propagate into containers.
    change("/", MsFlags::MS_PRIVATE | MsFlags::MS_REC)?;
    change("/", MsFlags::MS_SHARED | MsFlags::MS_REC)?;

    file_system("proc", "/proc", "proc", None)?;
    file_system("sysfs", "/sys", "sysfs", None)?;
    cgroups::mount_inside(&hierarchies)?;
    file_system("tmpfs", "/run", "tmpfs", Some("mode=755"))?;
    for (own, target) in [("var-log", "/var/log"), ("var-lib", "/var/lib")] {
        fs::create_dir_all(state.join(own))?;
        bind(&state.join(own), target)?;
    }

    if let Some(options) = Options::load(state)? {
        capacity::show(state, options.capacity)?;
    }
    let settings = state.join("sysctl");
    fs::create_dir_all(&settings)?;
    for (name, value) in SETTINGS {
        let target = Path::new("/proc/sys").join(name);
        if !target.exists() {
            continue;
        }
        let shown = settings.join(name.replace('/', "."));
        fs::write(&shown, format!("{value}\n"))?;
        bind(&shown, &target.display().to_string())?;
    }
    for (name, value) in [
        ("net/ipv4/ip_forward", "1"),
        ("net/ipv4/conf/all/rp_filter", "0"),
        ("net/ipv4/conf/default/rp_filter", "0"),
    ] {
        let path = Path::new("/proc/sys").join(name);
        fs::write(&path, value).with_context(|| format!("cannot set {}", path.display()))?;
    }
    Ok(())
}

fn change(target: &str, flags: MsFlags) -> Result<()> {
    mount(None::<&str>, target, None::<&str>, flags, None::<&str>)
        .with_context(|| format!("cannot change the propagation of {target}"))
}

pub(super) fn file_system(
    source: &str,
    target: &str,
    kind: &str,
    data: Option<&str>,
) -> Result<()> {
    mount(Some(source), target, Some(kind), MsFlags::empty(), data)
        .with_context(|| format!("cannot mount {kind} {source} at {target}"))
}

pub(super) fn bind(source: &Path, target: &str) -> Result<()> {
    mount(
        Some(source),
        target,
        None::<&str>,
        MsFlags::MS_BIND,
        None::<&str>,
    )
    .with_context(|| format!("cannot mount {} at {target}", source.display()))
}
