//! The cases of the Autobahn|Testsuite, which break the WebSocket protocol in every way, once directly and once through the front end.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::cluster::build;
use e2e::front_alone::{App, FrontAlone, Process};
use serde::Deserialize;

use crate::programs;

/// Cases of the pinned version.
const ALL: usize = 517;
/// Without most of the long ones.
const QUICK: usize = 337;
/// Sizes and window sizes of compressed messages, a thousand messages each: the first of the seven and of the five kinds is enough for
/// every day.
const LONG: [&str; 10] = [
    "12.2.*", "12.3.*", "12.4.*", "12.5.*", "13.2.*", "13.3.*", "13.4.*", "13.5.*", "13.6.*",
    "13.7.*",
];
/// Cases at a time.
const AT_ONCE: &str = "16";
/// Time for the server to start on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(60);

/// What the suite says of a case.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Verdict {
    behavior: String,
    behavior_close: String,
    remote_close_code: Option<u16>,
}

impl Verdict {
    fn passed(&self) -> bool {
        let good = |text: &str| matches!(text, "OK" | "NON-STRICT" | "INFORMATIONAL");
        good(&self.behavior) && good(&self.behavior_close)
    }
}

fn python(packages: &Path) -> Command {
    let mut python = Command::new("python3");
    python
        .env("PYTHONPATH", packages)
        .env("PYTHONDONTWRITEBYTECODE", "1");
    python
}

fn run(packages: &Path, address: SocketAddr, all: bool) -> Result<BTreeMap<String, Verdict>> {
    let folder = tempfile::tempdir()?;
    let mut suite = python(packages);
    suite
        .args(["-c", "from kosoku._cli import main; main()"])
        .args(["--parallelism", AT_ONCE, "--outdir"])
        .arg(folder.path())
        .arg(address.to_string());
    if !all {
        suite.args(LONG.iter().flat_map(|cases| ["--exclude", cases]));
    }
    // Its code tells that a case failed; the report tells which.
    let output = suite.output().context("python3 does not start")?;
    let index = folder.path().join("index.json");
    let text = std::fs::read_to_string(&index).with_context(|| {
        format!(
            "the suite wrote no report; it said:\n{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        )
    })?;
    let mut agents: BTreeMap<String, BTreeMap<String, Verdict>> = serde_json::from_str(&text)?;
    ensure!(
        agents.len() == 1,
        "several servers answered: {:?}",
        agents.keys()
    );
    agents
        .pop_first()
        .map(|(_, cases)| cases)
        .context("no server answered")
}

#[test]
fn websockets_are_the_same_through_the_front_end() -> Result<()> {
    let all = std::env::var("MANIPLE_WEBSOCKET_CASES").is_ok_and(|value| value == "all");
    let packages = build::websocket_suite()?;
    let echo = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/websocket/echo.py");
    let server = Process::start("echo", python(&packages).arg(echo))?;
    let direct: SocketAddr = server.wait("its port", START_LIMIT, |line| {
        line.strip_prefix("listening on ")?.parse().ok()
    })?;
    let expected = run(&packages, direct, all)?;
    let app = App::at("echo", direct, 64);
    let mut front = FrontAlone::start(&programs()?, &[app], &[])?;
    let seen = run(&packages, front.address(), all)?;

    let different: Vec<String> = expected
        .iter()
        .filter(|(case, verdict)| seen.get(*case) != Some(verdict))
        .map(|(case, verdict)| format!("{case}: {:?} instead of {verdict:?}", seen.get(case)))
        .collect();
    let passed = |cases: &BTreeMap<String, Verdict>| cases.values().filter(|v| v.passed()).count();
    println!(
        "WebSocket: {} cases, passed directly {}, through the front end {}, different {}",
        seen.len(),
        passed(&expected),
        passed(&seen),
        different.len()
    );
    assert!(different.is_empty(), "{}", different.join("\n"));
    assert_eq!(seen.len(), if all { ALL } else { QUICK });
    assert!(
        passed(&expected) > seen.len() * 9 / 10,
        "the echo server is broken"
    );
    ensure!(front.is_running()?, "the front end ended");
    Ok(())
}
