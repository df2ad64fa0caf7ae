//! h2spec: HTTP/2 clients that break rules.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use e2e::cluster::build;
use e2e::front_alone::{App, FrontAlone};
use serde::Deserialize;

use crate::client::get;
use crate::recorder::Recorder;
use crate::{encrypted, programs};

/// Cases of the pinned version, strict ones included.
const CASES: usize = 146;

/// Cases that fail, each with its reason.
const EXCEPTIONS: [(&str, &str); 1] = [(
    "http2/3.5 Sends invalid connection preface",
    "the ports serve HTTP/1.1 too and see by the first bytes which one comes: what is no HTTP/2 preface is answered with 400 in HTTP/1.1 before the connection is closed, and \
     h2spec expects nothing but the close",
)];

#[derive(Debug, Deserialize)]
struct Report {
    #[serde(rename = "testsuite", default)]
    suites: Vec<Suite>,
}

#[derive(Debug, Deserialize)]
struct Suite {
    #[serde(rename = "testcase", default)]
    cases: Vec<Case>,
}

#[derive(Debug, Deserialize)]
struct Case {
    #[serde(rename = "@package")]
    package: String,
    #[serde(rename = "@classname")]
    title: String,
    failure: Option<Text>,
    error: Option<Text>,
    skipped: Option<Text>,
}

#[derive(Debug, Deserialize)]
struct Text {
    #[serde(rename = "$text", default)]
    text: String,
}

/// Runs all cases; the number of cases, and those that did not pass with what h2spec says.
fn run(address: SocketAddr, arguments: &[&str]) -> Result<(usize, Vec<(String, String)>)> {
    let folder = tempfile::tempdir()?;
    let report = folder.path().join("report.xml");
    let output = Command::new(build::h2spec()?)
        .args(["--host", &address.ip().to_string()])
        .args(["--port", &address.port().to_string()])
        // Slow machines answer late.
        // Cases on flow control need a body of several bytes, and the instance sends the path.
        .args(["--path", "/some-bytes", "--strict"])
        .args(["--timeout", "10", "--junit-report"])
        .arg(&report)
        .args(arguments)
        .output()
        .context("h2spec does not start")?;
    let text = fs::read_to_string(&report).with_context(|| {
        format!(
            "h2spec wrote no report; it said:\n{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        )
    })?;
    let report: Report = quick_xml::de::from_str(&text).context("h2spec's report")?;
    let cases: Vec<Case> = report.suites.into_iter().flat_map(|s| s.cases).collect();
    let number = cases.len();
    let failed = cases
        .into_iter()
        .filter_map(|case| {
            let why = case.failure.or(case.error).or(case.skipped)?;
            Some((format!("{} {}", case.package, case.title), why.text))
        })
        .collect();
    Ok((number, failed))
}

fn check(
    front: &mut FrontAlone,
    recorder: &Recorder,
    address: SocketAddr,
    tls: bool,
) -> Result<()> {
    let (number, failed) = run(address, if tls { &["--tls", "--insecure"] } else { &[] })?;
    println!("h2spec, TLS {tls}: {number} cases, {} failed", failed.len());
    for (case, why) in &failed {
        println!("{case}: {why}");
    }
    let names: Vec<&str> = failed.iter().map(|(name, _)| name.as_str()).collect();
    let known = EXCEPTIONS.map(|(name, _)| name);
    assert_eq!(number, CASES, "another version has other cases");
    assert_eq!(names, known, "{failed:#?}");

    // Nothing of it harms the process, or those that come after.
    ensure!(front.is_running()?, "the front end ended");
    assert_eq!(get(front.address(), "/after")?.status, 200);
    let seen = recorder.take();
    assert!(seen.wrong.is_empty(), "{:?}", seen.wrong);
    Ok(())
}

#[test]
fn h2spec_passes() -> Result<()> {
    let recorder = Recorder::start()?;
    let app = App::at("web", recorder.address, 64);
    let mut front = FrontAlone::start(&programs()?, &[app], &[])?;
    let address = front.address();
    check(&mut front, &recorder, address, false)
}

#[test]
fn h2spec_passes_with_tls() -> Result<()> {
    let recorder = Recorder::start()?;
    let (_folder, arguments) = encrypted()?;
    let arguments = arguments.each_ref().map(String::as_str);
    let app = App::at("web", recorder.address, 64);
    let mut front = FrontAlone::start(&programs()?, &[app], &arguments)?;
    let address = front.tls_address()?;
    check(&mut front, &recorder, address, true)
}
