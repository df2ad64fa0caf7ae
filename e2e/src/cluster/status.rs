//! What `status` shows.

use std::fmt;

use anyhow::Result;

use super::config::{API_PORT, AZURITE_PORTS};
use super::options::Options;
use super::{Cluster, POD_PARTS, versions};

/// One part of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartStatus {
    /// Name, as the `part` commands take it.
    pub name: String,
    /// Plain process or pod.
    pub kind: &'static str,
    /// Why it does not serve; none when it does.
    pub problem: Option<String>,
    /// How often it was started; pods are not counted.
    pub starts: Option<u32>,
}

/// The cluster as it is now.
#[derive(Clone, Debug)]
pub struct Status {
    /// Name of the cluster.
    pub name: String,
    /// What it was started with; none when there is no such cluster.
    pub options: Option<Options>,
    /// Where its files are.
    pub folder: String,
    /// Its parts.
    pub parts: Vec<PartStatus>,
}

impl Status {
    /// Whether the cluster runs and every part serves.
    pub fn is_healthy(&self) -> bool {
        !self.parts.is_empty() && self.parts.iter().all(|part| part.problem.is_none())
    }
}

pub(super) fn read(cluster: &Cluster) -> Result<Status> {
    let options = Options::load(&cluster.state)?;
    let mut parts = Vec::new();
    if let Some(options) = options.as_ref().filter(|_| cluster.is_running()) {
        for process in cluster.processes()? {
            let problem = match process.ended {
                Some(ended) => Some(ended),
                None => cluster.probe(&process.name)?,
            };
            parts.push(PartStatus {
                name: process.name,
                kind: "process",
                problem,
                starts: Some(process.starts),
            });
        }
        let kubectl = cluster.kubectl();
        for pod in POD_PARTS
            .iter()
            .filter(|pod| pod.namespace != "keda" || options.keda)
        {
            let deployment = ["-n", pod.namespace, "deployment", pod.deployment];
            let problem = kubectl
                .has_condition(&deployment, "Available")
                .err()
                .map(|error| format!("{error:#}"));
            parts.push(PartStatus {
                name: pod.name.to_owned(),
                kind: "pod",
                problem,
                starts: None,
            });
        }
    }
    Ok(Status {
        name: cluster.name.clone(),
        options,
        folder: cluster.state.root().display().to_string(),
        parts,
    })
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(options) = &self.options else {
            return writeln!(f, "cluster {} does not exist: run `cluster up`", self.name);
        };
        let node = options.addresses.node();
        writeln!(f, "cluster     {}", self.name)?;
        writeln!(f, "folder      {}", self.folder)?;
        writeln!(f, "API server  https://{node}:{API_PORT}")?;
        writeln!(
            f,
            "addresses   {} (pods {}, services {})",
            options.addresses.whole(),
            options.addresses.pod_cidr(),
            options.addresses.service_cidr()
        )?;
        write!(
            f,
            "versions    Kubernetes {}, etcd {}, CoreDNS {}",
            options.kubernetes,
            versions::ETCD,
            versions::COREDNS
        )?;
        if options.keda {
            write!(f, ", KEDA {}", versions::KEDA)?;
        }
        if options.azurite {
            let [blob, queue, table] = AZURITE_PORTS;
            write!(
                f,
                ", Azurite {}\nAzurite     http://{node}, blob {blob}, queue {queue}, table {table}",
                versions::AZURITE
            )?;
        }
        writeln!(f)?;
        if self.parts.is_empty() {
            return writeln!(
                f,
                "it is not running: `cluster up` starts it again, `cluster down` removes it"
            );
        }
        for part in &self.parts {
            let state = part.problem.as_deref().unwrap_or("serves");
            let starts = part
                .starts
                .filter(|starts| *starts > 1)
                .map_or(String::new(), |starts| format!(", started {starts} times"));
            writeln!(f, "  {:<20}{:<9}{state}{starts}", part.name, part.kind)?;
        }
        Ok(())
    }
}
