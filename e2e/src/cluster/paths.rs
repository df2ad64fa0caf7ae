//! Where built parts and running clusters keep their files, both outside of the repository.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::mounts::REPLACED;

/// Built artefacts, shared by all clusters: `MANIPLE_CACHE`, else `~/.cache/maniple`.
pub fn cache_dir() -> Result<PathBuf> {
    if let Some(dir) = std::env::var_os("MANIPLE_CACHE") {
        return Ok(PathBuf::from(dir));
    }
    let home = std::env::var_os("HOME").context(
        "neither MANIPLE_CACHE nor HOME is set: set MANIPLE_CACHE to a folder for built parts",
    )?;
    Ok(Path::new(&home).join(".cache/maniple"))
}

/// Root folder of all running clusters: `MANIPLE_STATE`, else `clusters` in the cache.
pub fn state_root() -> Result<PathBuf> {
    std::env::var_os("MANIPLE_STATE").map_or_else(
        || Ok(cache_dir()?.join("clusters")),
        |dir| Ok(PathBuf::from(dir)),
    )
}

/// Fails for folders that the processes of a cluster would not see as this machine does.
pub fn check_visible() -> Result<()> {
    for (variable, dir) in [
        ("MANIPLE_CACHE", cache_dir()?),
        ("MANIPLE_STATE", state_root()?),
    ] {
        if let Some(replaced) = REPLACED.iter().find(|replaced| dir.starts_with(replaced)) {
            bail!(
                "{} lies below {replaced}, which the cluster replaces by its own: set {variable} to another folder",
                dir.display()
            );
        }
    }
    Ok(())
}

/// Files of one cluster.
#[derive(Clone, Debug)]
pub struct StateDir(PathBuf);

impl StateDir {
    /// The folder of the cluster called `name`. Nothing is created.
    pub fn of(name: &str) -> Result<Self> {
        check_name(name)?;
        Ok(Self(state_root()?.join(name)))
    }

    /// Wraps a folder that is already known.
    pub fn at(root: PathBuf) -> Self {
        Self(root)
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.0
    }

    /// A path below the folder.
    pub fn join(&self, relative: &str) -> PathBuf {
        self.0.join(relative)
    }

    /// Kubeconfig of the cluster administrator.
    pub fn kubeconfig(&self) -> PathBuf {
        self.join("kubeconfig")
    }

    /// kubectl of our own build, on machines that have none.
    pub fn kubectl(&self) -> PathBuf {
        self.join("kubectl")
    }

    /// Control socket of the cluster's first process.
    pub fn control_socket(&self) -> PathBuf {
        self.join("run/init.sock")
    }

    /// containerd's socket.
    pub fn containerd_socket(&self) -> PathBuf {
        self.join("run/containerd.sock")
    }

    /// Log file of a part.
    pub fn log(&self, part: &str) -> PathBuf {
        self.join("log").join(format!("{part}.log"))
    }
}

/// Longest cluster name: it becomes part of an interface name, which Linux limits to 15 bytes.
const NAME_MAX: usize = 10;

fn check_name(name: &str) -> Result<()> {
    let valid = !name.is_empty()
        && name.len() <= NAME_MAX
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && name.as_bytes()[0].is_ascii_lowercase()
        && !name.ends_with('-');
    if !valid {
        bail!(
            "cluster name {name:?} is not usable: give 1 to {NAME_MAX} lower-case letters, digits or dashes, starting with a letter"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_fit_an_interface_are_accepted() {
        for name in ["maniple", "t1", "a-b", "abcdefghij"] {
            assert!(StateDir::of(name).is_ok(), "{name}");
        }
        for name in ["", "1a", "a-", "../x", "A", "abcdefghijk", "a b"] {
            assert!(StateDir::of(name).is_err(), "{name}");
        }
    }
}
