//! maniple itself in the cluster: builds the programs, makes the images without a registry, installs the chart.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::cluster::{Cluster, command};
use crate::suite::{PLATFORM_NAMESPACE, PLATFORM_RELEASE, STANDIN_IMAGE};
use crate::{helm, image};

/// Image with the programs of the platform, without its tag.
const IMAGE: &str = "maniple.dev/maniple";
/// Programs of the platform's image; each lies at `/<name>`.
const PROGRAMS: [(&str, &str); 3] = [
    ("maniple-operator", "operator"),
    ("maniple-scaler", "scaler"),
    ("maniple-scaler", "front"),
];
/// The stand-in for the Functions host.
const STANDIN: (&str, &str) = ("function-host-standin", "function-host-standin");

/// maniple in the cluster.
#[derive(Args, Debug)]
pub struct PlatformArgs {
    #[command(subcommand)]
    command: PlatformCommand,
}

#[derive(Subcommand, Debug)]
enum PlatformCommand {
    /// Builds the programs and images and installs or upgrades the chart. Again with nothing changed it changes nothing.
    Install {
        /// Optimised programs, as users run them. Takes minutes to build.
        #[arg(long)]
        release: bool,
    },
    /// Uninstalls the chart. FunctionApps and their instances stay.
    Uninstall,
    /// Writes the image of the platform as an archive for `docker load` or `ctr images import`.
    Image {
        /// Optimised programs.
        #[arg(long)]
        release: bool,
        /// The file.
        #[arg(long, default_value = "maniple.tar")]
        output: PathBuf,
    },
}

/// Runs a command.
///
/// # Errors
/// When a build, an import or the installation fails.
pub fn run(args: &PlatformArgs) -> Result<()> {
    match &args.command {
        PlatformCommand::Install { release } => install(*release),
        PlatformCommand::Uninstall => {
            let connection = Cluster::connect()?;
            println!(
                "{}",
                helm::uninstall(&connection.kubeconfig, PLATFORM_RELEASE, PLATFORM_NAMESPACE)?
            );
            Ok(())
        }
        PlatformCommand::Image { release, output } => {
            build(*release)?;
            let archive = image::build(&platform_image(*release)?)?;
            archive.write(output)?;
            println!("{}: {}", output.display(), archive.name);
            Ok(())
        }
    }
}

fn install(release: bool) -> Result<()> {
    let connection = Cluster::connect()?;
    let started = Instant::now();
    build(release)?;
    println!("built in {:.0} s", started.elapsed().as_secs_f64());
    let platform = platform_image(release)?;
    let Some(own) = &connection.own else {
        bail!(
            "cannot put images into a cluster of yours: load `{}` and `{STANDIN_IMAGE}` there yourself (see e2e/README.md) and install charts/maniple",
            platform.name
        );
    };
    let started = Instant::now();
    for spec in [&platform, &standin_image(release)?] {
        if own.load_image(spec)? {
            println!(
                "loaded {} in {:.1} s",
                spec.name,
                started.elapsed().as_secs_f64()
            );
        }
    }
    let started = Instant::now();
    let (repository, tag) = platform
        .name
        .split_once(':')
        .context("the image has no tag")?;
    helm::install(
        &connection.kubeconfig,
        PLATFORM_RELEASE,
        PLATFORM_NAMESPACE,
        &helm::chart(),
        &values(repository, tag),
    )?;
    println!(
        "maniple runs in namespace {PLATFORM_NAMESPACE}, installed in {:.1} s",
        started.elapsed().as_secs_f64()
    );
    Ok(())
}

/// Values of the installation in a cluster of one small node.
fn values(repository: &str, tag: &str) -> Value {
    json!({
        "image": {"repository": repository, "tag": tag},
        "instances": {"requestPercent": 5},
        // The benchmark of cold starts reads it.
        "front": {"coldStartHeader": true},
        "log": {"format": "text", "level": "info,maniple_scaler=debug,maniple_operator=debug"},
    })
}

fn build(release: bool) -> Result<()> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.arg("build").arg("--quiet").current_dir(workspace());
    for (package, program) in PROGRAMS.iter().chain([&STANDIN]) {
        cargo.args(["--package", package, "--bin", program]);
    }
    if release {
        cargo.arg("--release");
    }
    // Progress is cargo's own, on its standard error.
    let status = cargo.status().context("cargo could not be started")?;
    if !status.success() {
        bail!("the programs could not be built");
    }
    Ok(())
}

/// The tag names the content, so that a changed program rolls out and an unchanged one does not.
fn platform_image(release: bool) -> Result<image::Spec> {
    let binaries = binaries(PROGRAMS.iter().map(|(_, program)| *program), release)?;
    let mut content = Vec::new();
    for (file, _) in &binaries {
        let meta = file
            .metadata()
            .with_context(|| file.display().to_string())?;
        content.extend(format!("{}:{:?};", meta.len(), meta.modified()?).into_bytes());
    }
    let tag = &image::sha256(&content)[..12];
    Ok(image::Spec {
        name: format!("{IMAGE}:dev-{tag}"),
        entrypoint: vec!["/operator".into()],
        binaries,
        files: Vec::new(),
    })
}

fn standin_image(release: bool) -> Result<image::Spec> {
    Ok(image::Spec {
        name: STANDIN_IMAGE.into(),
        entrypoint: vec![format!("/{}", STANDIN.1)],
        binaries: binaries([STANDIN.1].into_iter(), release)?,
        files: Vec::new(),
    })
}

/// Programs without their debug information, which is most of their size.
fn binaries<'a>(
    programs: impl Iterator<Item = &'a str>,
    release: bool,
) -> Result<Vec<(PathBuf, String)>> {
    let target = target_folder()?;
    let built = target.join(if release { "release" } else { "debug" });
    let stripped = target.join("image");
    std::fs::create_dir_all(&stripped)?;
    programs
        .map(|program| {
            let (from, to) = (built.join(program), stripped.join(program));
            let modified = from
                .metadata()
                .with_context(|| format!("{} was not built", from.display()))?
                .modified()?;
            let current = to.metadata().ok().and_then(|m| m.modified().ok()) == Some(modified);
            if !current {
                std::fs::copy(&from, &to)?;
                if command::find("strip").is_some() {
                    command::run(Command::new("strip").arg("--strip-debug").arg(&to))?;
                }
                // The time of the source, so that the next look can compare.
                std::fs::File::options()
                    .write(true)
                    .open(&to)?
                    .set_modified(modified)?;
            }
            Ok((to, format!("/{program}")))
        })
        .collect()
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn target_folder() -> Result<PathBuf> {
    if let Some(folder) = std::env::var_os("CARGO_TARGET_DIR") {
        return Ok(folder.into());
    }
    Ok(workspace().canonicalize()?.join("target"))
}
