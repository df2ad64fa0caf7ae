//! Starting and ending the namespaces of a cluster.
//!
//! `launch` runs two hidden commands of the harness: the first enters new namespaces, starts the second as PID 1 and
//! ends; the second is [`super::init`].

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::cgroups;
use super::command;
use super::control::{Request, ask};
use super::paths::StateDir;
use super::wait::until;

/// Hidden command: enter new namespaces.
pub const ENTER: &str = "enter-namespaces";
/// Hidden command: be PID 1.
pub const INIT: &str = "init";

/// The first process of a cluster as this machine sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InitProcess {
    /// Process id on this machine.
    pub pid: i32,
    /// Start time in clock ticks since boot: a later process with the same id has another one.
    start_time: u64,
}

impl InitProcess {
    /// The running first process of the cluster, if there is one.
    pub fn find(state: &StateDir) -> Option<Self> {
        let text = fs::read_to_string(state.join("init.json")).ok()?;
        let init: Self = serde_json::from_str(&text).ok()?;
        (start_time(init.pid) == Some(init.start_time)).then_some(init)
    }

    /// Ends it, and with it every process of the cluster.
    pub fn kill(self) -> Result<()> {
        match kill(Pid::from_raw(self.pid), Signal::SIGKILL) {
            // It may end by itself at this moment.
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(error) => return Err(error).context("cannot end the cluster's first process"),
        }
        until(
            "the cluster's processes to end",
            Duration::from_secs(60),
            || {
                if start_time(self.pid) == Some(self.start_time) {
                    bail!("process {} still exists", self.pid)
                }
                Ok(())
            },
        )
    }

    /// A command that runs `program` inside the cluster's mount, network and PID namespaces.
    pub fn command(self, program: &str) -> Command {
        let mut nsenter =
            Command::new(command::find("nsenter").unwrap_or_else(|| "nsenter".into()));
        nsenter.args(["-t", &self.pid.to_string(), "-m", "-n", "-p", "--", program]);
        nsenter
    }

    /// A command that runs `program` of this machine with the cluster's network only.
    pub fn network_command(self, program: &str) -> Command {
        let mut nsenter =
            Command::new(command::find("nsenter").unwrap_or_else(|| "nsenter".into()));
        nsenter.args(["-t", &self.pid.to_string(), "-n", "--", program]);
        nsenter
    }
}

/// Starts the namespaces of a cluster and waits until its first process answers.
pub fn launch(cluster: &str, state: &StateDir) -> Result<InitProcess> {
    let log = fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(state.log("init"))?;
    let output = Command::new(harness()?)
        .args(["cluster", "--name", cluster, ENTER])
        .arg(state.root())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .output()
        .context("cannot start the harness for the namespaces")?;
    if !output.status.success() {
        bail!(
            "cannot enter new namespaces, see {}: {}",
            state.log("init").display(),
            tail(state, "init")
        );
    }
    let pid: i32 = String::from_utf8_lossy(&output.stdout)
        .trim()
        .parse()
        .context("the harness did not name the first process")?;
    let Some(start_time) = start_time(pid) else {
        bail!(
            "the cluster's first process ended at once, see {}: {}",
            state.log("init").display(),
            tail(state, "init")
        );
    };
    let init = InitProcess { pid, start_time };
    fs::write(state.join("init.json"), serde_json::to_string(&init)?)?;
    until(
        "the cluster's first process to answer",
        Duration::from_secs(10),
        || {
            if InitProcess::find(state).is_none() {
                bail!("it ended: {}", tail(state, "init"));
            }
            ask(&state.control_socket(), &Request::List).map(drop)
        },
    )?;
    Ok(init)
}

/// The hidden command [`ENTER`]: prints the process id of the first process as this machine sees it.
pub fn enter(cluster: &str, state: &StateDir) -> Result<()> {
    // A session of its own: signals of the terminal must not reach the cluster.
    nix::unistd::setsid().context("cannot start a session")?;
    cgroups::enter(cluster)?;
    unshare(
        CloneFlags::CLONE_NEWNS
            | CloneFlags::CLONE_NEWNET
            | CloneFlags::CLONE_NEWPID
            | CloneFlags::CLONE_NEWIPC
            | CloneFlags::CLONE_NEWUTS
            | CloneFlags::CLONE_NEWCGROUP,
    )
    .context("the kernel refuses new namespaces; root with CAP_SYS_ADMIN is needed")?;
    nix::unistd::sethostname(cluster).context("cannot set the host name")?;
    let log = fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(state.log("init"))?;
    let child = Command::new(std::env::current_exe()?)
        .args(["cluster", "--name", cluster, INIT])
        .arg(state.root())
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .context("cannot start the cluster's first process")?;
    println!("{}", child.id());
    Ok(())
}

/// The harness' executable: this program, or the one beside a test program.
fn harness() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("MANIPLE_E2E_BIN") {
        return Ok(path.into());
    }
    let current = std::env::current_exe()?;
    current
        .ancestors()
        .map(|folder| {
            if folder == current {
                current.clone()
            } else {
                folder.join("e2e")
            }
        })
        .find(|candidate| {
            candidate.is_file() && candidate.file_name().is_some_and(|name| name == "e2e")
        })
        .context(
            "the harness' program is not built: run `cargo build -p e2e` or set MANIPLE_E2E_BIN",
        )
}

/// Field 22 of `/proc/<pid>/stat`; none for a process that does not exist or is a zombie.
fn start_time(pid: i32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may contain anything.
    let (_, rest) = text.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

/// The end of a part's log.
pub fn tail(state: &StateDir, part: &str) -> String {
    let text = fs::read(state.log(part)).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_time_tells_processes_apart() {
        let own = i32::try_from(std::process::id()).expect("fits");
        assert!(start_time(own).is_some_and(|time| time > 0));
        assert_eq!(start_time(own), start_time(own));
        assert_eq!(start_time(i32::MAX), None);
    }
}
