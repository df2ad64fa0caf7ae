//! The local cluster: bring it up, look at it, break and repair its parts, remove it.

mod addons;
pub mod address;
pub mod build;
pub mod capacity;
mod cgroups;
pub mod cli;
pub mod command;
pub mod config;
mod containers;
pub mod control;
mod files;
mod images;
pub mod init;
mod kubectl;
mod lifecycle;
mod mounts;
pub mod namespace;
mod network;
pub mod options;
pub mod packages;
pub mod paths;
mod pki;
mod status;
pub mod versions;
pub mod wait;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};

pub use addons::{POD_PARTS, PodPart};
pub use containers::ContainerOf;
use control::{PartState, Reply, Request, ask};
pub use kubectl::Kubectl;
use namespace::InitProcess;
use options::Options;
use paths::StateDir;
pub use status::{PartStatus, Status};
use wait::until;

/// Time that a part gets to end by itself before it is killed.
const STOP_PATIENCE: Duration = Duration::from_secs(20);
/// Time within which a started part must serve.
const START_LIMIT: Duration = Duration::from_secs(60);

/// The cluster that a suite uses.
#[derive(Clone, Debug)]
pub struct Connection {
    /// How to reach it.
    pub kubeconfig: PathBuf,
    /// The cluster when it is one of ours, so that its parts can be stopped; none for a cluster of the user.
    pub own: Option<Cluster>,
}

impl Connection {
    /// kubectl for this cluster.
    pub fn kubectl(&self) -> Kubectl {
        self.own
            .as_ref()
            .map_or_else(|| Kubectl::new(None, &self.kubeconfig), Cluster::kubectl)
    }
}

/// A cluster of our own.
#[derive(Clone, Debug)]
pub struct Cluster {
    name: String,
    state: StateDir,
}

impl Cluster {
    /// The cluster of that name, whether it runs or not.
    pub fn named(name: &str) -> Result<Self> {
        Ok(Self {
            name: name.to_owned(),
            state: StateDir::of(name)?,
        })
    }

    /// The cluster for suites: the one of `KUBECONFIG` when that is set, else our own called `MANIPLE_CLUSTER`
    /// (`maniple`), which must be up.
    pub fn connect() -> Result<Connection> {
        let name =
            std::env::var("MANIPLE_CLUSTER").unwrap_or_else(|_| address::DEFAULT_NAME.to_owned());
        let own = Self::named(&name)?;
        let kubeconfig = own.state.kubeconfig();
        if let Some(path) = std::env::var_os("KUBECONFIG").filter(|path| !path.is_empty()) {
            let path = PathBuf::from(path);
            let is_own = path == kubeconfig && own.is_running();
            return Ok(Connection {
                kubeconfig: path,
                own: is_own.then_some(own),
            });
        }
        if !own.is_running() {
            bail!(
                "no cluster: run `cargo run -p e2e -- cluster up`, or set KUBECONFIG to use another one"
            );
        }
        Ok(Connection {
            kubeconfig,
            own: Some(own),
        })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Folder of its files; logs of the plain processes are in `log/`.
    pub fn state(&self) -> &StateDir {
        &self.state
    }

    /// Kubeconfig of the administrator.
    pub fn kubeconfig(&self) -> PathBuf {
        self.state.kubeconfig()
    }

    /// kubectl for this cluster.
    pub fn kubectl(&self) -> Kubectl {
        let own = self.state.kubectl();
        Kubectl::new(own.exists().then_some(own.as_path()), &self.kubeconfig())
    }

    /// Whether its first process runs.
    pub fn is_running(&self) -> bool {
        InitProcess::find(&self.state).is_some()
    }

    /// What it was started with.
    pub fn options(&self) -> Result<Options> {
        Options::load(&self.state)?
            .with_context(|| format!("there is no cluster {}: run `cluster up`", self.name))
    }

    /// Starts the cluster, or repairs it, and waits until everything serves.
    pub fn up(&self, options: &Options) -> Result<()> {
        lifecycle::up(self, options)
    }

    /// Removes the cluster and everything it left, in whatever state it is.
    pub fn down(&self) -> Result<()> {
        lifecycle::down(self)
    }

    /// What a removed cluster would have left behind; empty when there is nothing.
    pub fn leftovers(&self) -> Result<Vec<String>> {
        lifecycle::leftovers(self)
    }

    /// How it is.
    pub fn status(&self) -> Result<Status> {
        status::read(self)
    }

    /// Stops a part: a plain process by SIGTERM, a pod part by scaling its Deployment to zero.
    pub fn stop(&self, part: &str) -> Result<()> {
        if let Some(pod) = pod_part(part) {
            return self.scale(pod, 0);
        }
        let patience_ms = u64::try_from(STOP_PATIENCE.as_millis())?;
        self.ask(&Request::Stop {
            name: part.to_owned(),
            patience_ms,
        })
        .map(drop)
    }

    /// Ends a part by SIGKILL. A plain process stays away until it is started; a pod's container is restarted by the
    /// kubelet with its usual back-off.
    pub fn kill(&self, part: &str) -> Result<()> {
        if let Some(pod) = pod_part(part) {
            return match self.kill_containers(pod.namespace, pod.container)? {
                0 => bail!("{part} has no running container"),
                _ => Ok(()),
            };
        }
        self.ask(&Request::Stop {
            name: part.to_owned(),
            patience_ms: 0,
        })
        .map(drop)
    }

    /// Starts a stopped part and waits until it serves.
    pub fn start(&self, part: &str) -> Result<()> {
        if let Some(pod) = pod_part(part) {
            self.scale(pod, 1)?;
            let deployment = ["-n", pod.namespace, "deployment", pod.deployment];
            return until(&format!("{part} to be available"), START_LIMIT, || {
                self.kubectl().has_condition(&deployment, "Available")
            });
        }
        self.ask(&Request::StartAgain(part.to_owned()))?;
        self.wait_for(part)
    }

    /// The plain processes.
    pub fn processes(&self) -> Result<Vec<PartState>> {
        match self.ask(&Request::List)? {
            Reply::Parts(parts) => Ok(parts),
            other => bail!("the cluster's first process answered {other:?} to a list"),
        }
    }

    /// Sends SIGKILL to the containers of that name in a namespace and says how many there were.
    pub fn kill_containers(&self, namespace: &str, container: &str) -> Result<usize> {
        images::kill_containers(&self.state, namespace, container)
    }

    /// Makes an image and puts it on the node, unless exactly this one is there. True when it was imported.
    pub fn load_image(&self, spec: &crate::image::Spec) -> Result<bool> {
        images::load(&self.state, spec)
    }

    /// Puts the images of a docker or OCI archive on the node.
    pub fn load_archive(&self, file: &Path) -> Result<()> {
        images::load_file(&self.state, file).map(drop)
    }

    fn ask(&self, request: &Request) -> Result<Reply> {
        ask(&self.state.control_socket(), request)
    }

    /// Why a part does not serve, if it does not.
    fn probe(&self, part: &str) -> Result<Option<String>> {
        match self.ask(&Request::Probe(part.to_owned()))? {
            Reply::Healthy(problem) => Ok(problem),
            other => bail!("the cluster's first process answered {other:?} to a probe"),
        }
    }

    fn wait_for(&self, part: &str) -> Result<()> {
        let result = until(&format!("{part} to serve"), START_LIMIT, || {
            match self.probe(part)? {
                Some(problem) => bail!("{problem}"),
                None if part == "apiserver" => self.kubectl().raw("/readyz").map(drop),
                None => Ok(()),
            }
        });
        result.with_context(|| {
            format!(
                "end of {}:\n{}",
                self.state.log(part).display(),
                namespace::tail(&self.state, part)
            )
        })
    }

    fn scale(&self, pod: &PodPart, replicas: u32) -> Result<()> {
        let replicas = format!("--replicas={replicas}");
        self.kubectl()
            .run(&[
                "-n",
                pod.namespace,
                "scale",
                "deployment",
                pod.deployment,
                &replicas,
            ])
            .map(drop)
    }
}

fn pod_part(name: &str) -> Option<&'static PodPart> {
    POD_PARTS.iter().find(|part| part.name == name)
}
