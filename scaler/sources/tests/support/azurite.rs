//! Runs Azurite, the storage emulator of Microsoft, as a child process in memory.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, ChildStdout};
use tokio::sync::watch;

use super::patiently;

/// The same as in the local cluster. (It asks for Node.js 22 and also runs on 20.)
pub const VERSION: &str = "3.37.0";
pub const ACCOUNT: &str = "devstoreaccount1";
pub const KEY: &str =
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/// A running Azurite. Ends with the value.
pub struct Azurite {
    pub queue_port: u16,
    pub blob_port: u16,
    child: Child,
    log: AccessLog,
}

impl Azurite {
    /// Starts one on free loopback ports.
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// Starts one on free loopback ports with further arguments.
    pub async fn start_with(arguments: &[&str]) -> Self {
        // Another process may take a free port between finding it and using it.
        for _ in 0..5 {
            if let Some(azurite) = Self::try_start(free_port(), free_port(), arguments).await {
                return azurite;
            }
        }
        panic!("Azurite did not start on five pairs of free ports");
    }

    /// Starts one on given ports.
    pub async fn start_on(queue_port: u16, blob_port: u16) -> Self {
        Self::try_start(queue_port, blob_port, &[])
            .await
            .expect("Azurite starts on the ports that it had before")
    }

    async fn try_start(queue_port: u16, blob_port: u16, arguments: &[&str]) -> Option<Self> {
        let program = installed();
        let mut child = tokio::process::Command::new("node")
            .arg(program)
            .args(["--inMemoryPersistence", "--skipApiVersionCheck", "--disableTelemetry"])
            .args(["--queuePort", &queue_port.to_string()])
            .args(["--blobPort", &blob_port.to_string()])
            .args(["--tablePort", &free_port().to_string()])
            .args(arguments)
            .current_dir(std::env::temp_dir())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .kill_on_drop(true)
            .spawn()
            .expect("node can be started: install Node.js 20 or newer (Debian/Ubuntu: apt-get install nodejs npm)");
        let stdout = child.stdout.take().expect("stdout is piped");
        let log = AccessLog::follow(stdout);
        let mut ready = log.ready.clone();
        let all = |services: &usize| *services == 3;
        let started = patiently("the start of Azurite", ready.wait_for(all))
            .await
            .is_ok();
        started.then_some(Self {
            queue_port,
            blob_port,
            child,
            log,
        })
    }

    /// A connection string with another key or account when given.
    pub fn connection_string(&self, account: &str, key: &str) -> String {
        format!(
            "DefaultEndpointsProtocol=http;AccountName={account};AccountKey={key};QueueEndpoint={};BlobEndpoint={}",
            self.queue_endpoint(account),
            self.blob_endpoint(account)
        )
    }

    pub fn queue_endpoint(&self, account: &str) -> String {
        format!("http://127.0.0.1:{}/{account}", self.queue_port)
    }

    pub fn blob_endpoint(&self, account: &str) -> String {
        format!("http://127.0.0.1:{}/{account}", self.blob_port)
    }

    /// Requests that Azurite has answered whose log line contains `part`.
    pub fn requests(&self, part: &str) -> usize {
        let lines = self.log.lines.lock();
        lines.iter().filter(|line| line.contains(part)).count()
    }

    /// Ends the process and waits until it is gone.
    pub async fn stop(mut self) {
        self.child.kill().await.expect("our child can be killed");
    }
}

struct AccessLog {
    lines: Arc<parking_lot::Mutex<Vec<String>>>,
    /// Number of services that listen.
    ready: watch::Receiver<usize>,
}

impl AccessLog {
    fn follow(stdout: ChildStdout) -> Self {
        let lines = Arc::<parking_lot::Mutex<Vec<String>>>::default();
        let (sender, ready) = watch::channel(0);
        let kept = lines.clone();
        tokio::spawn(async move {
            let mut reader = BufReader::new(stdout).lines();
            while let Ok(Some(line)) = reader.next_line().await {
                if line.contains("successfully listen") {
                    sender.send_modify(|services| *services += 1);
                }
                kept.lock().push(line);
            }
        });
        Self { lines, ready }
    }
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free loopback port");
    listener.local_addr().expect("a bound address").port()
}

/// The program file; installs the package into the cache when it is missing.
fn installed() -> PathBuf {
    static INSTALL: parking_lot::Mutex<()> = parking_lot::Mutex::new(());
    let _one_at_a_time = INSTALL.lock();
    let cache = cache().join(format!("azurite-{VERSION}"));
    let program = cache.join("node_modules/azurite/dist/src/azurite.js");
    if program.exists() {
        return program;
    }
    install(&cache);
    assert!(
        program.exists(),
        "{} is missing after the installation",
        program.display()
    );
    program
}

fn cache() -> PathBuf {
    if let Some(cache) = std::env::var_os("MANIPLE_CACHE") {
        return PathBuf::from(cache);
    }
    let home = std::env::var_os("HOME").expect("HOME or MANIPLE_CACHE is set");
    Path::new(&home).join(".cache/maniple")
}

/// Installs into a new folder first, so that an interrupted installation is never taken for a complete one.
fn install(target: &Path) {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let parent = target.parent().expect("the cache is below a folder");
    std::fs::create_dir_all(parent).expect("the cache folder can be made");
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let partial = parent.join(format!("azurite-{VERSION}.{}.{number}", std::process::id()));
    let package = format!("azurite@{VERSION}");
    let by_hand = format!(
        "run by hand: npm install --prefix {} {package}   (Node.js: apt-get install nodejs npm)",
        target.display()
    );
    let status = Command::new("npm")
        .args([
            "install",
            "--no-audit",
            "--no-fund",
            "--omit=dev",
            "--omit=optional",
            "--prefix",
        ])
        .arg(&partial)
        .arg(&package)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .unwrap_or_else(|error| panic!("npm cannot be started ({error}); {by_hand}"));
    assert!(
        status.success(),
        "npm install {package} failed ({status}); {by_hand}"
    );
    if std::fs::rename(&partial, target).is_err() {
        // Another test process was faster.
        let _ = std::fs::remove_dir_all(&partial);
    }
}
