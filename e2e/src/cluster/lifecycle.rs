//! Up and down.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::build::{self, Wanted, say};
use super::config::{NODE, Setup};
use super::control::{Reply, Request};
use super::namespace::{self, InitProcess};
use super::options::Options;
use super::pki::Pki;
use super::wait::until;
use super::{Cluster, addons, cgroups, command, network, packages, paths};

/// Time within which everything in the cluster must be ready.
const READY_LIMIT: Duration = Duration::from_secs(180);

/// Prints how long the steps of a start took.
struct Steps {
    begin: Instant,
    last: Instant,
}

impl Steps {
    fn new() -> Self {
        Self {
            begin: Instant::now(),
            last: Instant::now(),
        }
    }

    fn done(&mut self, what: &str) {
        let now = Instant::now();
        say(&format!(
            "{:6.1} s  {what} ({:.1} s)",
            (now - self.begin).as_secs_f64(),
            (now - self.last).as_secs_f64()
        ));
        self.last = now;
    }
}

pub(super) fn wanted(options: &Options) -> Wanted {
    Wanted {
        kubernetes: options.kubernetes,
        keda: options.keda,
        azurite: options.azurite,
        kubectl: command::find("kubectl").is_none(),
    }
}

pub(super) fn up(cluster: &Cluster, options: &Options) -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        bail!(
            "a cluster needs root for namespaces, mounts and interfaces: use sudo, or set KUBECONFIG to use another cluster"
        );
    }
    paths::check_visible()?;
    packages::ensure()?;
    let built = build::ensure(wanted(options))?;

    let mut steps = Steps::new();
    let state = &cluster.state;
    for folder in ["run", "log", "config", "azurite"] {
        fs::create_dir_all(state.join(folder))
            .with_context(|| format!("cannot create {}", state.root().display()))?;
    }
    let _lock = lock(cluster)?;
    network::check_free(&cluster.name, options.addresses)?;
    options.save(state)?;
    let pki = Pki::ensure(state.root(), NODE, options.addresses)?;
    let setup = Setup {
        options,
        state,
        built: &built,
        pki: &pki,
    };
    setup.write()?;
    if let Ok(kubectl) = built.path("kubectl") {
        // Also for later commands, which do not look at the cache.
        let _ = fs::remove_file(state.kubectl());
        std::os::unix::fs::symlink(kubectl, state.kubectl())?;
    }
    steps.done("certificates and configuration");

    let init = first_process(cluster)?;
    network::connect(&cluster.name, options.addresses, init)?;
    steps.done("namespaces and network");

    let parts = setup.parts()?;
    let (first, rest): (Vec<_>, Vec<_>) = parts.into_iter().partition(|part| {
        ["etcd", "containerd", "azurite", "apiserver"].contains(&part.name.as_str())
    });
    for part in &first {
        start(cluster, part)?;
        if part.name == "etcd" {
            cluster.wait_for("etcd")?;
        }
    }
    cluster.wait_for("containerd")?;
    addons::load_images(state, &built, options)?;
    steps.done("etcd, containerd, images");
    cluster.wait_for("apiserver")?;
    steps.done("API server");
    for part in &rest {
        start(cluster, part)?;
    }
    let kubectl = cluster.kubectl();
    // Built-in roles and namespaces appear shortly after the server is ready.
    until(
        "the manifests to be accepted",
        Duration::from_secs(30),
        || addons::apply(&kubectl, state, &built, &pki, options),
    )?;
    steps.done("controllers, kubelet, proxy, manifests");
    for part in first.iter().chain(&rest) {
        cluster.wait_for(&part.name)?;
    }
    until("everything in the cluster to be ready", READY_LIMIT, || {
        addons::ready(&kubectl, options)
    })?;
    steps.done(if options.keda {
        "node, DNS, KEDA ready"
    } else {
        "node and DNS ready"
    });
    say(&format!(
        "export KUBECONFIG={}",
        state.kubeconfig().display()
    ));
    Ok(())
}

/// The cluster's first process, started when it is not there. One that does not answer is on its way out, or broken.
fn first_process(cluster: &Cluster) -> Result<InitProcess> {
    if let Some(init) = InitProcess::find(&cluster.state) {
        if cluster.processes().is_ok() {
            return Ok(init);
        }
        init.kill()?;
    }
    // What a killed cluster left would be in the way.
    network::disconnect(&cluster.name)?;
    until(
        "the control groups of before to be removable",
        Duration::from_secs(30),
        || cgroups::remove(&cluster.name),
    )?;
    namespace::launch(&cluster.name, &cluster.state)
}

fn start(cluster: &Cluster, part: &super::control::PartSpec) -> Result<()> {
    match cluster.ask(&Request::Start(part.clone()))? {
        Reply::Done(_) => Ok(()),
        other => bail!("the cluster's first process answered {other:?} to a start"),
    }
}

pub(super) fn down(cluster: &Cluster) -> Result<()> {
    let state = &cluster.state;
    if !state.root().exists() && leftovers(cluster)?.is_empty() {
        say(&format!("there is no cluster {}", cluster.name));
        return Ok(());
    }
    fs::create_dir_all(state.root())?;
    let _lock = lock(cluster)?;
    let begin = Instant::now();
    if let Some(init) = InitProcess::find(state) {
        init.kill()?;
    }
    network::disconnect(&cluster.name)?;
    until(
        "the cluster's control groups to be removable",
        Duration::from_secs(30),
        || cgroups::remove(&cluster.name),
    )?;
    // The last process may still be on its way out and write a file.
    until(
        "the cluster's files to be removable",
        Duration::from_secs(20),
        || {
            fs::remove_dir_all(state.root())
                .with_context(|| format!("cannot remove {}", state.root().display()))
        },
    )?;
    fs::remove_file(state.root().with_extension("lock"))?;
    let left = leftovers(cluster)?;
    if !left.is_empty() {
        bail!("the cluster left: {}", left.join(", "));
    }
    say(&format!(
        "removed cluster {} in {:.1} s",
        cluster.name,
        begin.elapsed().as_secs_f64()
    ));
    Ok(())
}

pub(super) fn leftovers(cluster: &Cluster) -> Result<Vec<String>> {
    let mut left = Vec::new();
    let root = cluster.state.root();
    if let Some(init) = InitProcess::find(&cluster.state) {
        left.push(format!("process {}", init.pid));
    }
    if root.exists() {
        left.push(root.display().to_string());
    }
    let interface = network::interface(&cluster.name);
    if network::exists(&interface) {
        left.push(format!("interface {interface}"));
    }
    left.extend(
        cgroups::existing(&cluster.name)?
            .iter()
            .map(|path| path.display().to_string()),
    );
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let below = root.display().to_string();
    left.extend(
        mounts
            .lines()
            .filter(|line| line.contains(&below))
            .map(|line| format!("mount {line}")),
    );
    Ok(left)
}

/// Only one command at a time may change a cluster. The file is removed with the cluster.
fn lock(cluster: &Cluster) -> Result<File> {
    let path = cluster.state.root().with_extension("lock");
    loop {
        let file =
            File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
        if file.try_lock().is_err() {
            say("another command is changing this cluster, waiting for it");
            file.lock()
                .with_context(|| format!("cannot lock {}", path.display()))?;
        }
        // While we waited the other command may have removed the file; then nobody else would meet our lock.
        if fs::metadata(&path)
            .is_ok_and(|now| file.metadata().is_ok_and(|own| own.ino() == now.ino()))
        {
            return Ok(file);
        }
    }
}
