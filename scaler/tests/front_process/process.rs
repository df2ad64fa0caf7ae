//! The program, started as a child.

use std::{net::SocketAddr, process::Stdio, sync::Arc};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use parking_lot::Mutex;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

use crate::{get, soon, until};

/// A front end. It is killed when this is dropped.
pub(crate) struct Front {
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
    /// Where it takes requests.
    pub(crate) address: SocketAddr,
    admin: SocketAddr,
}

impl Front {
    fn command(scaler: SocketAddr, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_front"));
        command
            .args(["--slots-insecure", "--log-format=json"])
            .args([
                "--listen-address=127.0.0.1:0",
                "--admin-address=127.0.0.1:0",
            ])
            .args(["--tls-listen-address=127.0.0.1:0"])
            .arg(format!("--slots-server={scaler}"))
            .args(arguments)
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    /// What it says of arguments with which it does not start.
    pub(crate) async fn refused(arguments: &[&str]) -> String {
        let mut command = Self::command(([127, 0, 0, 1], 1).into(), arguments);
        let output = soon("its end", command.output()).await.unwrap();
        assert!(!output.status.success(), "it ended well");
        String::from_utf8(output.stderr).unwrap()
    }

    pub(crate) async fn start(scaler: SocketAddr, arguments: &[&str]) -> Self {
        let mut child = Self::command(scaler, arguments).spawn().unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        let (kept, mut lines) = (
            log.clone(),
            BufReader::new(child.stderr.take().unwrap()).lines(),
        );
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                kept.lock().push(line);
            }
        });
        let mut front = Self {
            child,
            log,
            address: ([127, 0, 0, 1], 0).into(),
            admin: ([127, 0, 0, 1], 0).into(),
        };
        front.admin = front.told("\"message\":\"admin server\"").await;
        front.address = front.told("\"tls\":false").await;
        front
    }

    /// The address in the log line with `part`.
    pub(crate) async fn told(&self, part: &str) -> SocketAddr {
        let line = self.line(part).await;
        let (_, rest) = line.split_once("\"address\":\"").unwrap();
        rest.split('"').next().unwrap().parse().unwrap()
    }

    /// The first log line with `part`.
    pub(crate) async fn line(&self, part: &str) -> String {
        until(part, async || self.count(part) > 0).await;
        let log = self.log.lock();
        log.iter().find(|line| line.contains(part)).unwrap().clone()
    }

    /// Log lines with `part`.
    pub(crate) fn count(&self, part: &str) -> usize {
        self.log
            .lock()
            .iter()
            .filter(|line| line.contains(part))
            .count()
    }

    async fn admin(&self, path: &str) -> (u16, String) {
        let response = get(self.admin, path).await;
        let status = response.status().as_u16();
        let body = http_body_util::BodyExt::collect(response.into_body()).await;
        (
            status,
            String::from_utf8(body.unwrap().to_bytes().into()).unwrap(),
        )
    }

    pub(crate) async fn readiness(&self) -> (u16, String) {
        self.admin("/ready").await
    }

    pub(crate) async fn until_ready(&self, ready: bool) {
        let status = if ready { 200 } else { 503 };
        until("readiness", async || self.readiness().await.0 == status).await;
    }

    /// Value of the metric with these labels; 0 when there is none.
    pub(crate) async fn metric(&self, name: &str) -> u64 {
        let (_, text) = self.admin("/metrics").await;
        let value = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.map_or(0, |value| value.parse().unwrap())
    }

    pub(crate) fn terminate(&self) {
        let id = i32::try_from(self.child.id().unwrap()).unwrap();
        kill(Pid::from_raw(id), Signal::SIGTERM).unwrap();
    }

    /// Waits for its end.
    pub(crate) async fn ended(&mut self) {
        let status = soon("the end of the process", self.child.wait()).await;
        let status = status.unwrap();
        assert!(status.success(), "{status}: {:#?}", self.log.lock());
    }
}
