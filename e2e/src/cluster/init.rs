//! The first process of a cluster: PID 1 of its namespaces. It starts the parts and reaps what ends.
//!
//! It knows nothing about Kubernetes. When it is killed the kernel kills everything in the PID namespace, and with the
//! last process the mounts, interfaces and packet filter rules of the cluster vanish.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::Pid;

use super::control::{Health, PartSpec, PartState, Reply, Request};
use super::mounts;
use super::paths::StateDir;

/// Limit for one health probe.
const PROBE_LIMIT: Duration = Duration::from_secs(2);

struct Part {
    spec: PartSpec,
    pid: Option<Pid>,
    ended: Option<String>,
    starts: u32,
}

#[derive(Default)]
struct Supervisor {
    parts: Mutex<BTreeMap<String, Part>>,
    changed: Condvar,
}

/// Runs as PID 1 until it is killed.
pub fn run(state: &StateDir) -> Result<()> {
    mounts::prepare(state).context("cannot prepare the cluster's file systems")?;
    let supervisor = Arc::new(Supervisor::default());
    let reaper = Arc::clone(&supervisor);
    thread::spawn(move || reaper.reap_forever());

    let socket = state.control_socket();
    let _ = fs::remove_file(&socket);
    let listener = UnixListener::bind(&socket)
        .with_context(|| format!("cannot listen at {}", socket.display()))?;
    for stream in listener.incoming() {
        let supervisor = Arc::clone(&supervisor);
        let stream = stream?;
        thread::spawn(move || {
            if let Err(error) = supervisor.serve(&stream) {
                eprintln!("request failed: {error:#}");
            }
        });
    }
    bail!("the control socket closed")
}

impl Supervisor {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Part>> {
        self.parts
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn serve(&self, stream: &UnixStream) -> Result<()> {
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line)?;
        let reply = match serde_json::from_str(&line)
            .map_err(anyhow::Error::from)
            .and_then(|r| self.answer(r))
        {
            Ok(reply) => reply,
            Err(error) => Reply::Failed(format!("{error:#}")),
        };
        let mut text = serde_json::to_string(&reply)?;
        text.push('\n');
        Ok((&*stream).write_all(text.as_bytes())?)
    }

    fn answer(&self, request: Request) -> Result<Reply> {
        match request {
            Request::Start(spec) => self.start(spec).map(Reply::Done),
            Request::StartAgain(name) => {
                let spec = self.lock().get(&name).map(|part| part.spec.clone());
                let spec = spec
                    .with_context(|| format!("{name} was never started here: run `cluster up`"))?;
                self.start(spec).map(Reply::Done)
            }
            Request::Stop { name, patience_ms } => self
                .stop(&name, Duration::from_millis(patience_ms))
                .map(Reply::Done),
            Request::List => Ok(Reply::Parts(
                self.lock()
                    .iter()
                    .map(|(name, part)| PartState {
                        name: name.clone(),
                        pid: part.pid.map(Pid::as_raw),
                        ended: part.ended.clone(),
                        starts: part.starts,
                    })
                    .collect(),
            )),
            Request::Probe(name) => {
                let health = self
                    .lock()
                    .get(&name)
                    .filter(|p| p.pid.is_some())
                    .map(|p| p.spec.health.clone());
                Ok(Reply::Healthy(match health {
                    Some(health) => probe(&health).err().map(|error| format!("{error:#}")),
                    None => Some("not running".to_owned()),
                }))
            }
        }
    }

    fn start(&self, spec: PartSpec) -> Result<bool> {
        let name = spec.name.clone();
        let differs = match self.lock().get(&name) {
            Some(part) if part.pid.is_some() && part.spec == spec => return Ok(false),
            Some(part) => part.pid.is_some(),
            None => false,
        };
        if differs {
            self.stop(&name, Duration::from_secs(20))?;
        }
        // The lock is held over the spawn, so that the reaper finds every process that it reaps.
        let mut parts = self.lock();
        let starts = match parts.get(&name) {
            Some(part) if part.pid.is_some() => return Ok(false),
            Some(part) => part.starts,
            None => 0,
        };
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&spec.log);
        let log = log.with_context(|| format!("cannot open {}", spec.log.display()))?;
        let (program, args) = spec.argv.split_first().context("a part needs a program")?;
        let child = Command::new(program)
            .args(args)
            .envs(&spec.env)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {program}"))?;
        let pid = Pid::from_raw(i32::try_from(child.id()).context("process ids are positive")?);
        parts.insert(
            name,
            Part {
                spec,
                pid: Some(pid),
                ended: None,
                starts: starts + 1,
            },
        );
        Ok(true)
    }

    fn stop(&self, name: &str, patience: Duration) -> Result<bool> {
        let mut parts = self.lock();
        let Some(part) = parts.get(name) else {
            bail!("{name} was never started here: run `cluster up`")
        };
        let Some(pid) = part.pid else {
            return Ok(false);
        };
        if !patience.is_zero() {
            let _ = kill(pid, Signal::SIGTERM);
            parts = self.wait_for_end(parts, name, pid, patience);
        }
        if parts.get(name).is_some_and(|part| part.pid == Some(pid)) {
            let _ = kill(pid, Signal::SIGKILL);
            parts = self.wait_for_end(parts, name, pid, Duration::from_secs(20));
        }
        if parts.get(name).is_some_and(|part| part.pid == Some(pid)) {
            bail!("{name} (process {pid} of the cluster) does not end, not even by SIGKILL");
        }
        Ok(true)
    }

    fn wait_for_end<'a>(
        &'a self,
        mut parts: MutexGuard<'a, BTreeMap<String, Part>>,
        name: &str,
        pid: Pid,
        limit: Duration,
    ) -> MutexGuard<'a, BTreeMap<String, Part>> {
        let until = Instant::now() + limit;
        while parts.get(name).is_some_and(|part| part.pid == Some(pid)) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            parts = match self.changed.wait_timeout(parts, left) {
                Ok((parts, _)) => parts,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
        parts
    }

    fn reap_forever(&self) {
        loop {
            // First only look, then reap under the lock: a failed spawn collects its own child.
            match waitid(Id::All, WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT) {
                Ok(status) => {
                    let Some(pid) = status.pid() else { continue };
                    let mut parts = self.lock();
                    if let Ok(status) = waitpid(pid, Some(WaitPidFlag::WNOHANG))
                        && let Some(part) = parts.values_mut().find(|part| part.pid == Some(pid))
                    {
                        part.pid = None;
                        part.ended = Some(describe(status));
                    }
                    drop(parts);
                    self.changed.notify_all();
                }
                Err(Errno::ECHILD) => thread::sleep(Duration::from_millis(50)),
                Err(_) => {}
            }
        }
    }
}

fn describe(status: WaitStatus) -> String {
    match status {
        WaitStatus::Exited(_, code) => format!("ended with code {code}"),
        WaitStatus::Signaled(_, signal, _) => format!("ended by {signal}"),
        other => format!("{other:?}"),
    }
}

fn probe(health: &Health) -> Result<()> {
    match health {
        Health::Unix(path) => UnixStream::connect(path)
            .map(drop)
            .with_context(|| format!("{} refuses", path.display())),
        Health::Tcp(address) => connect(address).map(drop),
        Health::Http(address, path) => {
            let mut stream = connect(address)?;
            write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
            let mut head = [0_u8; 12];
            stream.read_exact(&mut head)?;
            if &head[9..] != b"200" {
                bail!(
                    "{address}{path} answers {}",
                    String::from_utf8_lossy(&head[9..])
                );
            }
            Ok(())
        }
    }
}

fn connect(address: &str) -> Result<TcpStream> {
    let target = address
        .parse()
        .with_context(|| format!("{address} is not an address"))?;
    let stream = TcpStream::connect_timeout(&target, PROBE_LIMIT)
        .with_context(|| format!("{address} refuses"))?;
    stream.set_read_timeout(Some(PROBE_LIMIT))?;
    Ok(stream)
}

/// Reads the folder name that the harness hands to the hidden commands.
pub fn state_argument(path: &Path) -> StateDir {
    StateDir::at(path.to_owned())
}
