//! The binary: ports, signals and exit codes.

#![allow(clippy::unwrap_used, reason = "a test says what is wrong by failing")]

mod support;

use std::process::{ExitStatus, Stdio};

use support::{Client, app, patiently};
use tokio::process::{Child, Command};

struct Process {
    child: Child,
    client: Client,
}

async fn spawn(variables: &[(&str, &str)]) -> Process {
    let probe = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = probe.local_addr().unwrap();
    drop(probe);
    let child = Command::new(env!("CARGO_BIN_EXE_function-host-standin"))
        .env_clear()
        .env("ASPNETCORE_URLS", format!("http://{address}"))
        .env("AzureFunctionsWebHost__hostid", "labapp")
        .env("STANDIN_FUNCTIONS", app().to_string())
        .env("MINUTELY", "0 * * * * *")
        .env("AzureFunctionsJobHost__functions__0", "slow")
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let client = Client::new(format!("http://{address}"));
    Process { child, client }
}

impl Process {
    async fn wait_open(&self) {
        patiently("an open port", async {
            while self
                .client
                .send("GET", "/admin/host/ping", &[])
                .await
                .is_err()
            {
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        })
        .await;
    }

    async fn terminate(&self) {
        let id = self.child.id().unwrap().to_string();
        assert!(
            Command::new("kill")
                .args(["-TERM", &id])
                .status()
                .await
                .unwrap()
                .success()
        );
    }

    async fn end(self) -> (ExitStatus, String) {
        let output = patiently("the end of the process", self.child.wait_with_output())
            .await
            .unwrap();
        (
            output.status,
            String::from_utf8_lossy(&output.stdout).into_owned(),
        )
    }
}

#[tokio::test]
async fn sigterm_lets_requests_end_and_exits_with_zero() {
    let process = spawn(&[("ASPNETCORE_SHUTDOWNTIMEOUTSECONDS", "30")]).await;
    process.wait_open().await;
    let client = process.client.clone();
    let request = tokio::spawn(async move { client.get("/api/slow?ms=800").await.status });
    process
        .client
        .wait_for("a run", |stats| stats["process"]["inFlight"] == 1)
        .await;
    process.terminate().await;
    assert_eq!(request.await.unwrap(), 200);
    let (status, log) = process.end().await;
    assert_eq!(status.code(), Some(0));
    assert!(
        log.contains("stand-in for the Azure Functions host"),
        "the log says what this is"
    );
    let last = log.lines().last().unwrap();
    assert!(
        last.contains("\"maxInFlight\":1"),
        "the last line holds the counters: {last}"
    );
}

#[tokio::test]
async fn sigterm_during_the_start_exits_with_zero() {
    let process = spawn(&[("STANDIN_START_MS", "60000")]).await;
    patiently("the first line", async {
        // The handler of the signal is in place before anything is written.
        let mut process = process;
        let stdout = process.child.stdout.take().unwrap();
        let mut lines = tokio::io::AsyncBufReadExt::lines(tokio::io::BufReader::new(stdout));
        lines.next_line().await.unwrap().unwrap();
        process.terminate().await;
        assert_eq!(process.end().await.0.code(), Some(0));
    })
    .await;
}

#[tokio::test]
async fn a_host_that_gives_up_exits_with_zero_too() {
    let process = spawn(&[("STANDIN_FAULT", "exit-after=100")]).await;
    let (status, log) = process.end().await;
    assert_eq!(status.code(), Some(0));
    assert!(log.contains("giving up"));
}

#[tokio::test]
async fn a_wrong_definition_is_an_error_of_the_stand_in_itself() {
    let process = spawn(&[("STANDIN_FUNCTIONS", "[{}]")]).await;
    assert_eq!(process.end().await.0.code(), Some(1));
}
