//! gRPC's interoperability cases through the front end.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::cluster::build;
use e2e::front_alone::{App, FrontAlone, Process};

use crate::{encrypted, programs};

/// All cases that need neither credentials nor a load balancer.
const CASES: [&str; 14] = [
    "empty_unary",
    "large_unary",
    "client_streaming",
    "server_streaming",
    "ping_pong",
    "empty_stream",
    "timeout_on_sleeping_server",
    "cancel_after_begin",
    "cancel_after_first_response",
    "custom_metadata",
    "status_code_and_message",
    "special_status_message",
    "unimplemented_method",
    "unimplemented_service",
];

/// Time for the server to start on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(60);

fn run(suite: &Path, how: &str, address: SocketAddr, case: &str) -> Result<()> {
    let output = Command::new(suite)
        .args([how, &address.to_string(), case])
        .output()
        .context("the suite does not start")?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

#[test]
fn grpc_is_the_same_through_the_front_end() -> Result<()> {
    let suite = build::grpc_interop()?;
    let server = Process::start("grpc-interop", Command::new(&suite).arg("serve"))?;
    let direct: SocketAddr = server.wait("its port", START_LIMIT, |line| {
        line.strip_prefix("listening on ")?.parse().ok()
    })?;
    let app = App::at("grpc", direct, 64).http("appProtocol", "H2c");
    let (_folder, arguments) = encrypted()?;
    let arguments = arguments.each_ref().map(String::as_str);
    let mut front = FrontAlone::start(&programs()?, &[app], &arguments)?;
    let ways = [("run", front.address()), ("run-tls", front.tls_address()?)];
    let mut failed = Vec::new();
    for case in CASES {
        // What the suite itself cannot do here says nothing about the front end.
        run(&suite, "run", direct, case).with_context(|| format!("{case}, direct"))?;
        for (how, address) in ways {
            if let Err(error) = run(&suite, how, address, case) {
                failed.push(format!("{how} {case}: {error:#}"));
            }
        }
    }
    println!("gRPC: twice {} cases, {} failed", CASES.len(), failed.len());
    assert!(failed.is_empty(), "{}\n{}", failed.join("\n"), front.said());
    ensure!(front.is_running()?, "the front end ended");
    Ok(())
}
