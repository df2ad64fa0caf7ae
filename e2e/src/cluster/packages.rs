//! Programs that come from the distribution.

use std::path::Path;

use anyhow::{Result, bail};

use super::build::say;
use super::command;

/// Program or file that must exist, and the Debian package that has it.
const NEEDED: &[(&str, &str)] = &[
    ("containerd", "containerd"),
    ("ctr", "containerd"),
    ("runc", "runc"),
    ("/usr/lib/cni/bridge", "containernetworking-plugins"),
    ("iptables", "iptables"),
    ("conntrack", "conntrack"),
    ("socat", "socat"),
    ("ip", "iproute2"),
    ("nsenter", "util-linux"),
    ("mount", "mount"),
];

/// Programs that are needed only to build, with a hint how to get them.
const BUILD_TOOLS: &[(&str, &str)] = &[
    ("go", "Go 1.26 or newer from https://go.dev/dl"),
    ("npm", "Node.js 20 or newer with npm"),
];

/// Installs missing packages as root on Debian and Ubuntu, else names the command that does.
pub fn ensure() -> Result<()> {
    let mut missing: Vec<&str> = NEEDED
        .iter()
        .filter(|(file, _)| !exists(file))
        .map(|(_, package)| *package)
        .collect();
    missing.dedup();
    if missing.is_empty() {
        return Ok(());
    }
    let install = format!(
        "apt-get install -y --no-install-recommends {}",
        missing.join(" ")
    );
    let root = nix::unistd::geteuid().is_root();
    if !root || command::find("apt-get").is_none() {
        bail!(
            "these packages are missing: {}. Install them, on Debian and Ubuntu with: sudo {install}",
            missing.join(" ")
        );
    }
    say(&format!("installing {}", missing.join(" ")));
    let install = install
        .split(' ')
        .skip(1)
        .map(str::to_owned)
        .collect::<Vec<_>>();
    let apt = || {
        let mut apt = std::process::Command::new("apt-get");
        // Services of the packages must not start: the cluster runs its own.
        apt.env("DEBIAN_FRONTEND", "noninteractive")
            .env("RUNLEVEL", "1")
            .args(&install);
        command::run(&mut apt)
    };
    if apt().is_err() {
        // A fresh machine has no package lists.
        command::call("apt-get", ["update"])?;
        apt()?;
    }
    match NEEDED.iter().find(|(file, _)| !exists(file)) {
        Some((file, package)) => {
            bail!("{file} is still missing after installing {package}: install it by hand")
        }
        None => Ok(()),
    }
}

/// Fails with a hint when a tool that builds need is not there.
pub fn check_build_tools() -> Result<()> {
    match BUILD_TOOLS.iter().find(|(tool, _)| !exists(tool)) {
        Some((tool, hint)) => {
            bail!("{tool} is needed to build the cluster's parts: install {hint}")
        }
        None => Ok(()),
    }
}

fn exists(program_or_file: &str) -> bool {
    if program_or_file.starts_with('/') {
        Path::new(program_or_file).exists()
    } else {
        command::find(program_or_file).is_some()
    }
}
