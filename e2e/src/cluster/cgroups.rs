//! Control groups: every cluster lives below a group of its own, `/maniple-e2e-<name>`, in each hierarchy.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use nix::mount::{MsFlags, mount};

use super::mounts::file_system;

const ROOT: &str = "/sys/fs/cgroup";

/// One mounted hierarchy of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hierarchy {
    mount_point: PathBuf,
    /// cgroup v2 has one hierarchy without a controller in its name.
    unified: bool,
    /// Mount options that choose the controllers of a v1 hierarchy.
    controllers: String,
}

/// The hierarchies of this machine.
pub(super) fn hierarchies() -> Result<Vec<Hierarchy>> {
    let found = parse(&fs::read_to_string("/proc/self/mountinfo")?);
    if found.is_empty() {
        bail!(
            "no control groups are mounted below {ROOT}: mount them, or use a machine that has them"
        );
    }
    Ok(found)
}

fn parse(mountinfo: &str) -> Vec<Hierarchy> {
    let mut found: Vec<Hierarchy> = Vec::new();
    for line in mountinfo.lines() {
        let Some((left, right)) = line.split_once(" - ") else {
            continue;
        };
        let right: Vec<&str> = right.split(' ').collect();
        let (Some(mount_point), [kind, _, options, ..]) =
            (left.split(' ').nth(4), right.as_slice())
        else {
            continue;
        };
        if !mount_point.starts_with(ROOT) || !matches!(*kind, "cgroup" | "cgroup2") {
            continue;
        }
        let hierarchy = Hierarchy {
            mount_point: PathBuf::from(mount_point),
            unified: *kind == "cgroup2",
            controllers: options
                .split(',')
                .filter(|option| {
                    !matches!(
                        *option,
                        "rw" | "ro"
                            | "xattr"
                            | "nsdelegate"
                            | "memory_recursiveprot"
                            | "clone_children"
                    )
                })
                .filter(|option| !option.starts_with("release_agent="))
                .collect::<Vec<_>>()
                .join(","),
        };
        // A mount that covers another one is listed later.
        found.retain(|other| other.mount_point != hierarchy.mount_point);
        found.push(hierarchy);
    }
    found
}

fn group(name: &str) -> String {
    format!("maniple-e2e-{name}")
}

/// Moves the calling process into the cluster's own groups, which it creates.
pub(super) fn enter(cluster: &str) -> Result<()> {
    for hierarchy in hierarchies()? {
        let own = hierarchy.mount_point.join(group(cluster));
        fs::create_dir_all(&own)
            .with_context(|| format!("cannot create the control group {}", own.display()))?;
        // A new v1 cpuset is empty and accepts no process.
        for file in ["cpuset.cpus", "cpuset.mems"] {
            if hierarchy.controllers.split(',').any(|c| c == "cpuset") {
                fs::write(
                    own.join(file),
                    fs::read_to_string(hierarchy.mount_point.join(file))?,
                )?;
            }
        }
        if hierarchy.unified && hierarchy.mount_point == Path::new(ROOT) {
            enable_all(&hierarchy.mount_point)?;
        }
        fs::write(own.join("cgroup.procs"), std::process::id().to_string())
            .with_context(|| format!("cannot enter the control group {}", own.display()))?;
    }
    Ok(())
}

/// Hands every available controller of a v2 group to its children.
fn enable_all(group: &Path) -> Result<()> {
    for controller in fs::read_to_string(group.join("cgroup.controllers"))?.split_whitespace() {
        fs::write(
            group.join("cgroup.subtree_control"),
            format!("+{controller}"),
        )
        .with_context(|| {
            format!(
                "cannot enable the controller {controller} below {}",
                group.display()
            )
        })?;
    }
    Ok(())
}

/// Mounts the hierarchies anew inside a cgroup namespace, where the cluster's group is the root.
pub(super) fn mount_inside(hierarchies: &[Hierarchy]) -> Result<()> {
    if let [only] = hierarchies
        && only.unified
        && only.mount_point == Path::new(ROOT)
    {
        file_system("cgroup2", ROOT, "cgroup2", None)?;
        // Controllers can be handed down only by a group without processes.
        let own = Path::new(ROOT).join("init");
        fs::create_dir_all(&own)?;
        for process in fs::read_to_string(Path::new(ROOT).join("cgroup.procs"))?.split_whitespace()
        {
            fs::write(own.join("cgroup.procs"), process)?;
        }
        return enable_all(Path::new(ROOT));
    }
    file_system("tmpfs", ROOT, "tmpfs", Some("mode=755"))?;
    for hierarchy in hierarchies {
        fs::create_dir_all(&hierarchy.mount_point)?;
        let kind = if hierarchy.unified {
            "cgroup2"
        } else {
            "cgroup"
        };
        let data = (!hierarchy.unified).then_some(hierarchy.controllers.as_str());
        mount(
            Some(kind),
            &hierarchy.mount_point,
            Some(kind),
            MsFlags::empty(),
            data,
        )
        .with_context(|| {
            format!(
                "cannot mount {kind} {} at {}",
                hierarchy.controllers,
                hierarchy.mount_point.display()
            )
        })?;
    }
    Ok(())
}

/// Removes the cluster's groups. They must be free of processes.
pub(super) fn remove(cluster: &str) -> Result<()> {
    for hierarchy in hierarchies()? {
        remove_tree(&hierarchy.mount_point.join(group(cluster)))?;
    }
    Ok(())
}

/// The groups of a cluster that exist.
pub(super) fn existing(cluster: &str) -> Result<Vec<PathBuf>> {
    Ok(hierarchies()?
        .iter()
        .map(|h| h.mount_point.join(group(cluster)))
        .filter(|path| path.exists())
        .collect())
}

fn remove_tree(group: &Path) -> Result<()> {
    let Ok(entries) = fs::read_dir(group) else {
        return Ok(());
    };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&entry.path())?;
        }
    }
    fs::remove_dir(group)
        .with_context(|| format!("cannot remove the control group {}", group.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hierarchies_are_read_with_their_controllers() {
        let text = "30 24 0:26 / /sys/fs/cgroup ro,nosuid - tmpfs tmpfs ro,mode=755\n\
                    31 30 0:27 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
                    32 30 0:28 / /sys/fs/cgroup/systemd rw shared:9 - cgroup cgroup rw,xattr,name=systemd\n\
                    33 30 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate\n\
                    34 24 0:30 / /proc rw - proc proc rw\n";
        let found = parse(text);
        let seen: Vec<(&str, bool)> = found
            .iter()
            .map(|h| (h.controllers.as_str(), h.unified))
            .collect();
        assert_eq!(
            seen,
            [("cpu,cpuacct", false), ("name=systemd", false), ("", true)]
        );
    }

    #[test]
    fn a_later_mount_covers_an_earlier_one() {
        let text = "1 0 0:1 / /sys/fs/cgroup rw - cgroup2 a rw\n2 0 0:2 / /sys/fs/cgroup rw - cgroup2 b rw\n";
        assert_eq!(parse(text).len(), 1);
    }
}
