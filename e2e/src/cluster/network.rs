//! The wire between this machine and a cluster: one pair of interfaces and one route.

use std::time::Duration;

use anyhow::{Result, bail};

use super::address::AddressPlan;
use super::command::{self, call};
use super::namespace::InitProcess;
use super::wait::until;

/// Name of the interface on this machine's side.
pub(super) fn interface(cluster: &str) -> String {
    format!("mnp-{cluster}")
}

/// Fails when this machine uses the cluster's addresses for something else.
pub(super) fn check_free(cluster: &str, plan: AddressPlan) -> Result<()> {
    let mut used = call("ip", ["-4", "-o", "addr", "show"])?;
    used.push_str(&call("ip", ["-4", "route", "show", "table", "all"])?);
    plan.check_collision(&used, &interface(cluster))
}

/// Connects the cluster's network namespace with this machine, or leaves it when it is connected.
pub(super) fn connect(cluster: &str, plan: AddressPlan, init: InitProcess) -> Result<()> {
    let outside = interface(cluster);
    let node = plan.node().to_string();
    if !inside_is_up(init, &node) || !exists(&outside) {
        disconnect(cluster)?;
        call(
            "ip",
            [
                "link",
                "add",
                &outside,
                "type",
                "veth",
                "peer",
                "name",
                "eth0",
                "netns",
                &init.pid.to_string(),
            ],
        )?;
    }
    call(
        "ip",
        [
            "addr",
            "replace",
            &format!("{}/30", plan.host()),
            "dev",
            &outside,
        ],
    )?;
    call("ip", ["link", "set", &outside, "up"])?;
    call(
        "ip",
        [
            "route",
            "replace",
            &plan.whole(),
            "via",
            &node,
            "dev",
            &outside,
            "onlink",
        ],
    )?;
    inside(init, &["link", "set", "lo", "up"])?;
    inside(
        init,
        &["addr", "replace", &format!("{node}/30"), "dev", "eth0"],
    )?;
    inside(init, &["link", "set", "eth0", "up"])?;
    inside(
        init,
        &[
            "route",
            "replace",
            "default",
            "via",
            &plan.host().to_string(),
        ],
    )?;
    Ok(())
}

fn inside(init: InitProcess, args: &[&str]) -> Result<String> {
    let mut ip = init.network_command("ip");
    ip.args(args);
    command::run(&mut ip)
}

fn inside_is_up(init: InitProcess, node: &str) -> bool {
    inside(init, &["-4", "-o", "addr", "show", "dev", "eth0"])
        .is_ok_and(|text| text.contains(&format!("{node}/")))
}

/// Whether this machine has the interface.
pub(super) fn exists(name: &str) -> bool {
    call("ip", ["-o", "link", "show", name]).is_ok()
}

/// Removes the pair of interfaces and with it the route.
pub(super) fn disconnect(cluster: &str) -> Result<()> {
    let outside = interface(cluster);
    if exists(&outside) {
        // The kernel removes it by itself when the namespace ends, possibly at this moment.
        let _ = call("ip", ["link", "delete", &outside]);
    }
    until(
        "the cluster's interface to vanish",
        Duration::from_secs(20),
        || {
            if exists(&outside) {
                bail!("{outside} is still there: remove it with `ip link delete {outside}`")
            }
            Ok(())
        },
    )
}
