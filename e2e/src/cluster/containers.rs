//! Processes of single containers, for tests of failures.

use anyhow::{Context as _, Result, bail};

use super::images::ctr;
use super::namespace::InitProcess;
use super::paths::StateDir;
use super::{Cluster, command};

/// One container of a pod.
#[derive(Clone, Debug)]
pub struct ContainerOf<'a> {
    /// Kubernetes namespace.
    pub namespace: &'a str,
    /// Name of the pod.
    pub pod: &'a str,
    /// Name of the container.
    pub container: &'a str,
}

impl Cluster {
    /// Sends a signal (`SIGKILL`, `SIGSTOP`, …) to the first process of a container.
    ///
    /// # Errors
    /// When the container does not run.
    pub fn signal(&self, container: &ContainerOf<'_>, signal: &str) -> Result<()> {
        let (id, _) = running(self.state(), container)?;
        command::run(ctr(self.state()).args(["tasks", "kill", "--signal", signal, &id]))
            .with_context(|| format!("{signal} to {container:?}"))
            .map(drop)
    }

    /// Drops every packet between a pod and these addresses, or lets them through again. The packet filter is the pod's own: it vanishes with the pod.
    ///
    /// # Errors
    /// When the container does not run or the packet filter refuses.
    pub fn cut(
        &self,
        container: &ContainerOf<'_>,
        addresses: &[String],
        is_cut: bool,
    ) -> Result<()> {
        let (_, pid) = running(self.state(), container)?;
        let init = InitProcess::find(self.state()).context("the cluster is not running")?;
        let action = if is_cut { "-A" } else { "-D" };
        for address in addresses {
            for (chain, side) in [("OUTPUT", "-d"), ("INPUT", "-s")] {
                let mut enter = init.command("nsenter");
                enter.args(["-t", &pid, "-n", "--", "iptables", "-w", action, chain]);
                command::run(enter.args([side, address, "-j", "DROP"]))
                    .with_context(|| format!("packets between {container:?} and {address}"))?;
            }
        }
        Ok(())
    }
}

/// Id and process (as the cluster counts) of a running container.
fn running(state: &StateDir, container: &ContainerOf<'_>) -> Result<(String, String)> {
    let filter = format!(
        "labels.\"io.kubernetes.pod.namespace\"=={},labels.\"io.kubernetes.pod.name\"=={},labels.\"io.kubernetes.container.name\"=={}",
        container.namespace, container.pod, container.container
    );
    let ids = command::run(ctr(state).args(["containers", "list", "-q", &filter]))?;
    let tasks = command::run(ctr(state).args(["tasks", "list"]))?;
    let Some(found) = find_running(&ids, &tasks) else {
        bail!("{container:?} does not run");
    };
    Ok(found)
}

/// The first of the ids that the table of tasks shows as running.
fn find_running(ids: &str, tasks: &str) -> Option<(String, String)> {
    tasks.lines().find_map(|line| {
        let mut columns = line.split_whitespace();
        let (id, pid, status) = (columns.next()?, columns.next()?, columns.next()?);
        let is_one = ids.lines().any(|known| known == id);
        (is_one && status == "RUNNING").then(|| (id.to_owned(), pid.to_owned()))
    })
}

#[cfg(test)]
mod tests {
    use super::find_running;

    #[test]
    fn a_container_that_ended_is_not_found() {
        let tasks = "TASK    PID     STATUS\nold     100     STOPPED\nnew     200     RUNNING\nother   300     RUNNING\n";
        let found = find_running("old\nnew\n", tasks);
        assert_eq!(found, Some(("new".to_owned(), "200".to_owned())));
        assert_eq!(find_running("old\n", tasks), None);
    }
}
