//! Processes of the benchmark: each on a core of its own choice, ended with the benchmark.

use std::{
    ffi::OsStr,
    fs::File,
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

/// How long a process may take until it accepts connections.
const START: Duration = Duration::from_secs(20);

/// A running process, killed when dropped.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
}

impl Process {
    /// Starts `program` on `core`; what it writes goes to `log`.
    pub(super) fn start<A: AsRef<OsStr>>(
        core: usize,
        program: impl AsRef<OsStr>,
        args: &[A],
        log: &Path,
    ) -> Result<Self> {
        let output = File::create(log)?;
        // Ends with this process, however that ends.
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "TERM", "taskset", "-c"])
            .arg(core.to_string())
            .arg(program.as_ref())
            .args(args)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("{} does not start", program.as_ref().display()))?;
        Ok(Self { child })
    }

    /// What starts the program becomes it, so this is its id.
    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until something accepts connections at `address`.
    pub(super) fn ready(&mut self, address: SocketAddr, log: &Path) -> Result<()> {
        let end = Instant::now() + START;
        while TcpStream::connect(address).is_err() {
            if let Some(status) = self.child.try_wait()? {
                let text = std::fs::read_to_string(log).unwrap_or_default();
                bail!("a process ended at its start ({status}): {text}");
            }
            if Instant::now() > end {
                bail!("nothing accepts connections at {address} after {START:?}");
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Asked first: killed outright, nginx would leave its worker behind.
        let id = nix::unistd::Pid::from_raw(self.child.id().cast_signed());
        nix::sys::signal::kill(id, nix::sys::signal::Signal::SIGTERM).ok();
        let end = Instant::now() + Duration::from_secs(2);
        while Instant::now() < end {
            if matches!(self.child.try_wait(), Ok(Some(_)) | Err(_)) {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// A loopback port that was free a moment ago.
pub(super) fn free_port() -> Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

/// Finds a program, or says which package has it.
pub(super) fn need(program: &str, package: &str) -> Result<()> {
    let found = std::env::var_os("PATH").is_some_and(|path| {
        std::env::split_paths(&path)
            .chain(["/usr/sbin".into()])
            .any(|folder| folder.join(program).is_file())
    });
    if !found {
        bail!("{program} is missing; install the Debian package {package}");
    }
    Ok(())
}
