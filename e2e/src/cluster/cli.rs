//! The `cluster` commands.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};

use super::address::{AddressPlan, DEFAULT_NAME};
use super::options::Options;
use super::versions::Kubernetes;
use super::{Cluster, build, init, lifecycle, namespace, packages};
use crate::image::Spec;

/// Arguments of `cluster`.
#[derive(Args, Debug)]
pub struct ClusterArgs {
    /// Name of the cluster; clusters of different names can run side by side.
    #[arg(long, global = true, env = "MANIPLE_CLUSTER", default_value = DEFAULT_NAME)]
    name: String,
    #[command(subcommand)]
    command: ClusterCommand,
}

#[derive(Args, Debug)]
struct UpArgs {
    /// Kubernetes release.
    #[arg(long, value_enum)]
    kubernetes: Option<Kubernetes>,
    /// With KEDA, also when the cluster was started without it [default: a new cluster has it, an old one keeps what it has].
    #[arg(long, conflicts_with = "no_keda")]
    keda: bool,
    /// A new cluster without KEDA, which is then not built either; one that has it keeps it.
    #[arg(long)]
    no_keda: bool,
    /// Leave Azurite out.
    #[arg(long)]
    no_azurite: bool,
    /// Seconds between two looks of the HorizontalPodAutoscaler controller [default: Kubernetes' own 15].
    #[arg(long, value_name = "SECONDS")]
    hpa_sync_period: Option<u32>,
    /// Requests per second of the controller manager [default: Kubernetes' own 20].
    #[arg(long, value_name = "QPS")]
    controller_qps: Option<u32>,
    /// Second octet of the cluster's addresses, 10.<BLOCK>.0.0/16 [default: chosen by the name].
    #[arg(long, value_name = "BLOCK")]
    address_block: Option<u8>,
    /// Processors that the node says it has [default: 32].
    #[arg(long, value_name = "COUNT")]
    node_cpus: Option<u32>,
    /// Memory that the node says it has [default: 128].
    #[arg(long, value_name = "GIB")]
    node_memory: Option<u32>,
}

#[derive(Subcommand, Debug)]
enum ClusterCommand {
    /// Build what is missing, start the cluster or repair it, wait until everything serves.
    Up(UpArgs),
    /// Remove the cluster and everything it left, in whatever state it is.
    Down,
    /// Show parts, versions, addresses and health; fails when something does not serve.
    Status,
    /// Build the parts without starting anything.
    Build(UpArgs),
    /// Print the path of the administrator's kubeconfig.
    Kubeconfig {
        /// Print the text instead of the path.
        #[arg(long)]
        raw: bool,
    },
    /// Put an image on the node: an archive (.tar), or executables that become an image.
    LoadImage {
        /// One archive, or executables; each lies at `/<file name>` in the image.
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// Name with tag, needed with executables.
        #[arg(long)]
        tag: Option<String>,
        /// Program and arguments to start [default: the first executable].
        #[arg(long)]
        entrypoint: Vec<String>,
    },
    /// Stop, start or kill one part, for tests of failures.
    Part {
        /// What to do.
        #[arg(value_enum)]
        action: PartAction,
        /// Name of the part as `status` shows it.
        part: String,
    },
    /// Run a command inside the cluster's namespaces.
    Exec {
        /// Program and arguments.
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
    #[command(name = namespace::ENTER, hide = true)]
    Enter { state: PathBuf },
    #[command(name = namespace::INIT, hide = true)]
    Init { state: PathBuf },
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum PartAction {
    /// End it as an administrator would.
    Stop,
    /// Start it again and wait until it serves.
    Start,
    /// End it by SIGKILL.
    Kill,
    /// Kill and start.
    Restart,
}

/// Runs a `cluster` command.
pub fn run(args: &ClusterArgs) -> Result<()> {
    let cluster = Cluster::named(&args.name)?;
    match &args.command {
        ClusterCommand::Up(up) => cluster.up(&options(&cluster, up)?),
        ClusterCommand::Down => cluster.down(),
        ClusterCommand::Status => {
            let status = cluster.status()?;
            print!("{status}");
            if !status.is_healthy() {
                bail!(
                    "cluster {} is not healthy: `cluster up` repairs it",
                    args.name
                );
            }
            Ok(())
        }
        ClusterCommand::Build(up) => {
            packages::check_build_tools()?;
            build::ensure(lifecycle::wanted(&options(&cluster, up)?)).map(drop)
        }
        ClusterCommand::Kubeconfig { raw } => {
            cluster.options()?;
            let path = cluster.kubeconfig();
            if *raw {
                print!(
                    "{}",
                    std::fs::read_to_string(&path)
                        .with_context(|| format!("cannot read {}", path.display()))?
                );
            } else {
                println!("{}", path.display());
            }
            Ok(())
        }
        ClusterCommand::LoadImage {
            files,
            tag,
            entrypoint,
        } => load_image(&cluster, files, tag.as_deref(), entrypoint),
        ClusterCommand::Part { action, part } => match action {
            PartAction::Stop => cluster.stop(part),
            PartAction::Start => cluster.start(part),
            PartAction::Kill => cluster.kill(part),
            PartAction::Restart => {
                cluster.kill(part)?;
                cluster.start(part)
            }
        },
        ClusterCommand::Exec { command } => {
            let init = namespace::InitProcess::find(cluster.state())
                .context("the cluster is not running: run `cluster up`")?;
            let (program, arguments) = command.split_first().context("a command is required")?;
            let status = init
                .command(program)
                .args(arguments)
                .status()
                .context("cannot start nsenter")?;
            std::process::exit(status.code().unwrap_or(1));
        }
        ClusterCommand::Enter { state } => {
            namespace::enter(&args.name, &init::state_argument(state))
        }
        ClusterCommand::Init { state } => init::run(&init::state_argument(state)),
    }
}

/// What was asked for, over what the cluster has, over the defaults.
fn options(cluster: &Cluster, up: &UpArgs) -> Result<Options> {
    let mut options = match Options::load(cluster.state())? {
        Some(options) => options,
        None => Options {
            keda: !up.no_keda,
            ..Options::for_name(cluster.name())
        },
    };
    options.kubernetes = up.kubernetes.unwrap_or(options.kubernetes);
    options.keda |= up.keda;
    options.azurite &= !up.no_azurite;
    options.hpa_sync_seconds = up.hpa_sync_period.or(options.hpa_sync_seconds);
    options.controller_qps = up.controller_qps.or(options.controller_qps);
    options.capacity.cpus = up.node_cpus.unwrap_or(options.capacity.cpus);
    options.capacity.memory_gib = up.node_memory.unwrap_or(options.capacity.memory_gib);
    if let Some(block) = up.address_block {
        options.addresses = AddressPlan { block };
    }
    Ok(options)
}

fn load_image(
    cluster: &Cluster,
    files: &[PathBuf],
    tag: Option<&str>,
    entrypoint: &[String],
) -> Result<()> {
    if let [archive] = files
        && archive
            .extension()
            .is_some_and(|extension| extension == "tar")
    {
        return cluster.load_archive(archive);
    }
    let name = tag
        .context("executables need a name for their image: add --tag name:tag")?
        .to_owned();
    let binaries = files
        .iter()
        .map(|file| {
            let base = file
                .file_name()
                .with_context(|| format!("{} is not a file", file.display()))?;
            Ok((file.clone(), format!("/{}", base.to_string_lossy())))
        })
        .collect::<Result<Vec<_>>>()?;
    let entrypoint = if entrypoint.is_empty() {
        vec![binaries[0].1.clone()]
    } else {
        entrypoint.to_vec()
    };
    let imported = cluster.load_image(&Spec {
        name: name.clone(),
        binaries,
        files: Vec::new(),
        entrypoint,
    })?;
    println!(
        "{name} {}",
        if imported {
            "imported"
        } else {
            "is there already"
        }
    );
    Ok(())
}
