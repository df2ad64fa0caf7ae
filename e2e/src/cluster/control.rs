//! The language between the harness and the first process of a cluster: one JSON line each way over a Unix socket.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

/// A program that runs inside the cluster's namespaces.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartSpec {
    /// Name of the part, also of its log file.
    pub name: String,
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Additional environment.
    pub env: BTreeMap<String, String>,
    /// Standard output and error are appended here.
    pub log: PathBuf,
    /// How to see that it serves.
    pub health: Health,
    /// Digest of files that it reads at start, so that a changed file counts as a changed part.
    pub inputs: String,
}

/// How to see that a part serves, tried from inside the cluster's namespaces.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Health {
    /// The address accepts connections.
    Tcp(String),
    /// A GET of the path is answered with 200.
    Http(String, String),
    /// The Unix socket accepts connections.
    Unix(PathBuf),
}

/// What the harness asks.
#[derive(Debug, Serialize, Deserialize)]
pub enum Request {
    /// Start a part, or do nothing when it runs with the same specification. A changed one is restarted.
    Start(PartSpec),
    /// Start a part again as it was started last.
    StartAgain(String),
    /// Send SIGTERM, after `patience_ms` SIGKILL, and wait for the end.
    Stop {
        /// Name of the part.
        name: String,
        /// Milliseconds between the signals; 0 sends SIGKILL at once.
        patience_ms: u64,
    },
    /// All parts that were ever started.
    List,
    /// Try a part's health once.
    Probe(String),
}

/// What comes back.
#[derive(Debug, Serialize, Deserialize)]
pub enum Reply {
    /// Done; true when something had to be done.
    Done(bool),
    /// The parts by name.
    Parts(Vec<PartState>),
    /// The part serves, or why it does not.
    Healthy(Option<String>),
    /// It did not work.
    Failed(String),
}

/// How a part is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartState {
    /// Name of the part.
    pub name: String,
    /// Process id inside the cluster's PID namespace while it runs.
    pub pid: Option<i32>,
    /// How it ended when it does not run.
    pub ended: Option<String>,
    /// How often it has been started.
    pub starts: u32,
}

/// Longest time that a request may take: a stop with patience plus some.
const REPLY_WITHIN: Duration = Duration::from_secs(90);

/// Sends one request to the first process of a cluster.
pub fn ask(socket: &Path, request: &Request) -> Result<Reply> {
    let stream = UnixStream::connect(socket).with_context(|| {
        format!(
            "nothing answers at {}: the cluster is not up, run `cluster up`",
            socket.display()
        )
    })?;
    stream.set_read_timeout(Some(REPLY_WITHIN))?;
    let mut line = serde_json::to_string(request)?;
    line.push('\n');
    (&stream).write_all(line.as_bytes())?;
    let mut answer = String::new();
    BufReader::new(&stream).read_line(&mut answer)?;
    match serde_json::from_str(&answer)
        .with_context(|| format!("{} closed without an answer", socket.display()))?
    {
        Reply::Failed(reason) => bail!("{reason}"),
        reply => Ok(reply),
    }
}
