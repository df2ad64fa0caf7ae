//! The real front end without Kubernetes: the process `front`, and beside it the real data role over a cluster whose instances are given.
//!
//! Both are processes of their own on loopback ports, joined by a real stream. Only what would come from the API server is played
//! (`scaler/examples/fixed_cluster`).

mod process;

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

pub use process::Process;

/// Time for something to start on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(60);

/// The executables.
#[derive(Clone, Debug)]
pub struct Programs {
    front: PathBuf,
    cluster: PathBuf,
}

impl Programs {
    /// Builds them with the profile of the program that asks, or takes those in the folder `MANIPLE_FRONT_PROGRAMS`.
    ///
    /// # Errors
    /// When they do not build, or are not there.
    pub fn build() -> Result<Self> {
        if let Some(folder) = std::env::var_os("MANIPLE_FRONT_PROGRAMS") {
            let folder = Path::new(&folder);
            return Self::at(folder.join("front"), folder.join("fixed_cluster"));
        }
        // This program lies in <target>/<profile> or <target>/<profile>/deps.
        let own = std::env::current_exe()?;
        let folder = own
            .ancestors()
            .skip(1)
            .find(|folder| !folder.ends_with("deps"))
            .context("a program lies in a folder")?;
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut build = Command::new(cargo);
        build
            .args(["build", "--quiet", "--package", "maniple-scaler"])
            .args(["--bin", "front", "--example", "fixed_cluster"])
            .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."));
        if folder.ends_with("release") {
            build.arg("--release");
        }
        ensure!(build.status()?.success(), "the front end does not build");
        Self::at(folder.join("front"), folder.join("examples/fixed_cluster"))
    }

    fn at(front: PathBuf, cluster: PathBuf) -> Result<Self> {
        for program in [&front, &cluster] {
            ensure!(program.is_file(), "{} is missing", program.display());
        }
        Ok(Self { front, cluster })
    }
}

/// An app with one HTTP group.
#[derive(Clone, Debug)]
pub struct App {
    name: &'static str,
    spec: Value,
    addresses: Vec<IpAddr>,
}

impl App {
    /// An app that answers at `127.0.0.1` with one instance of `concurrency` at this address of the loopback interface.
    pub fn at(name: &'static str, instance: SocketAddr, concurrency: u16) -> Self {
        let spec = json!({
            "host": "Plain",
            "image": "none",
            "port": instance.port(),
            "functions": [{"name": "f", "bindings": [{"type": "httpTrigger", "direction": "in"}]}],
            "functionAppConfig": {"scaleAndConcurrency": {"triggers": {"http": {"perInstanceConcurrency": concurrency}}}},
            "http": {"hosts": [Ipv4Addr::LOCALHOST.to_string()]},
        });
        Self {
            name,
            spec,
            addresses: vec![instance.ip()],
        }
    }

    /// Sets a field of `spec.http`.
    #[must_use]
    pub fn http(mut self, field: &str, value: impl Into<Value>) -> Self {
        self.spec["http"][field] = value.into();
        self
    }
}

/// A running front end. Its processes end with it.
#[derive(Debug)]
pub struct FrontAlone {
    front: Process,
    cluster: Process,
    address: SocketAddr,
    admin: SocketAddr,
}

impl FrontAlone {
    /// Starts a front end for these apps and waits until it has their routes. `arguments` are further ones of `front`.
    ///
    /// # Errors
    /// When one of the processes does not start in time; with what they said.
    pub fn start(programs: &Programs, apps: &[App], arguments: &[&str]) -> Result<Self> {
        let apps: Vec<Value> = apps
            .iter()
            .map(|app| json!({"name": app.name, "spec": app.spec, "podIps": app.addresses}))
            .collect();
        let mut command = Command::new(&programs.cluster);
        command
            .args(["--slots-address", "127.0.0.1:0", "--slots-insecure"])
            .args(["--apps", &Value::from(apps).to_string()]);
        let cluster = Process::start("fixed_cluster", &mut command)?;
        let slots: SocketAddr = cluster.wait("its port", START_LIMIT, |line| {
            line.strip_prefix("slots=")?.parse().ok()
        })?;

        let mut command = Command::new(&programs.front);
        command
            .args(["--listen-address", "127.0.0.1:0"])
            .args(["--admin-address", "127.0.0.1:0"])
            .args(["--slots-server", &slots.to_string(), "--slots-insecure"])
            .args(["--log-format", "json", "--stop-delay-seconds", "0"])
            .args(arguments);
        let front = Process::start("front", &mut command)?;
        let address = front.wait("its port", START_LIMIT, |line| {
            logged(line, "takes requests")
        })?;
        let admin = front.wait("its admin port", START_LIMIT, |line| {
            logged(line, "admin server")
        })?;
        let alone = Self {
            front,
            cluster,
            address,
            admin,
        };
        let limit = Instant::now() + START_LIMIT;
        while !alone.admin("/ready")?.starts_with("HTTP/1.1 200") {
            if Instant::now() > limit {
                bail!(
                    "the front end got no routes; it said:\n{}\nand the data role:\n{}",
                    alone.front.said(),
                    alone.cluster.said()
                );
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(alone)
    }

    /// Where it takes encrypted requests.
    ///
    /// # Errors
    /// When it was started without a certificate.
    pub fn tls_address(&self) -> Result<SocketAddr> {
        self.front
            .wait("its encrypted port", START_LIMIT, |line| opened(line, true))
    }

    /// Where it takes requests.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What the process has written.
    pub fn said(&self) -> String {
        self.front.said()
    }

    /// Whether the process still runs.
    ///
    /// # Errors
    /// When that cannot be found out.
    pub fn is_running(&mut self) -> Result<bool> {
        self.front.is_running()
    }

    /// The value of one line of its metrics, named with its labels as they are written; none when there is no such line.
    ///
    /// # Errors
    /// When the admin server does not answer.
    pub fn metric(&self, line: &str) -> Result<Option<f64>> {
        let text = self.admin("/metrics")?;
        let found = text
            .lines()
            .find_map(|text| text.strip_prefix(line)?.strip_prefix(' ')?.parse().ok());
        Ok(found)
    }

    fn admin(&self, path: &str) -> Result<String> {
        let mut stream = TcpStream::connect(self.admin)?;
        stream.set_read_timeout(Some(START_LIMIT))?;
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n"
        )?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    }
}

/// The address in the log line with this message.
fn logged(line: &str, message: &str) -> Option<SocketAddr> {
    let line: Value = serde_json::from_str(line).ok()?;
    if line["message"] != message {
        return None;
    }
    line["address"].as_str()?.parse().ok()
}

/// The address in the log line about the port with or without encryption.
fn opened(line: &str, tls: bool) -> Option<SocketAddr> {
    let address = logged(line, "takes requests")?;
    let line: Value = serde_json::from_str(line).ok()?;
    (line["tls"] == tls).then_some(address)
}
