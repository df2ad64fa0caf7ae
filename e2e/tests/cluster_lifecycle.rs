//! Life of a cluster: up, up again, parts killed and restarted, first process killed, down.
//!
//! Uses a cluster of its own, which can run beside another one. Needs root, and the parts that `cluster build` makes.

#![allow(clippy::unwrap_used)] // The helpers below belong to the test.

use std::fs;
use std::process::Command;

use e2e::cluster::Cluster;
use e2e::cluster::options::Options;

const NAME: &str = "lifecycle";

/// Removes the cluster also when an assertion fails.
struct Removed(Cluster);

impl Drop for Removed {
    fn drop(&mut self) {
        let _ = self.0.down();
    }
}

/// What the machine has that a cluster could change: mounts, interfaces, packet filter rules, kernel settings.
fn machine() -> Vec<String> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mut seen: Vec<String> = mounts
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(|point| format!("mount {point}"))
        .collect();
    let own = |line: &&str| line.contains(NAME) || !line.contains("mnp-");
    let links = output("ip", &["-o", "link", "show"]);
    seen.extend(
        links
            .lines()
            .filter(own)
            .filter_map(|line| line.split(": ").nth(1))
            .map(|link| format!("link {link}")),
    );
    let rules = output("iptables-save", &[]);
    seen.extend(
        rules
            .lines()
            .filter(|line| line.starts_with([':', '-']))
            .map(|line| line.split(" [").next().unwrap().to_owned()),
    );
    for setting in [
        "kernel/panic",
        "vm/overcommit_memory",
        "net/ipv4/ip_forward",
    ] {
        let value = fs::read_to_string(format!("/proc/sys/{setting}")).unwrap();
        seen.push(format!("{setting} {}", value.trim()));
    }
    seen.sort();
    seen
}

fn output(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().unwrap();
    assert!(
        output.status.success(),
        "{program}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// Processes whose command line or executable belongs to the cluster's folder.
fn processes_of(cluster: &Cluster) -> Vec<String> {
    let folder = cluster.state().root().display().to_string();
    fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| fs::read(entry.path().join("cmdline")).ok())
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .filter(|line| line.contains(&folder))
        .collect()
}

fn pid(cluster: &Cluster, part: &str) -> Option<i32> {
    cluster
        .processes()
        .unwrap()
        .into_iter()
        .find(|p| p.name == part)
        .unwrap()
        .pid
}

fn first_process(cluster: &Cluster) -> String {
    let text = fs::read_to_string(cluster.state().join("init.json")).unwrap();
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    value["pid"].to_string()
}

#[test]
fn a_cluster_starts_is_repaired_and_leaves_nothing() {
    let cluster = Removed(Cluster::named(NAME).unwrap());
    let cluster = &cluster.0;
    cluster.down().unwrap();
    let before = machine();
    let options = Options {
        keda: false,
        ..Options::for_name(NAME)
    };

    cluster.up(&options).unwrap();
    let status = cluster.status().unwrap();
    assert!(status.is_healthy(), "{status}");
    let pids = cluster.processes().unwrap();
    assert!(!processes_of(cluster).is_empty());

    // Up again changes nothing.
    cluster.up(&options).unwrap();
    assert_eq!(cluster.processes().unwrap(), pids);

    // Another release is refused, with the way out.
    let other = Options {
        kubernetes: e2e::cluster::versions::Kubernetes::V1_35,
        ..options.clone()
    };
    let refused = other.save(cluster.state()).unwrap_err().to_string();
    assert!(refused.contains("cluster down"), "{refused}");

    // A killed part stays away and is named, until it is started.
    let api = pid(cluster, "apiserver");
    cluster.kill("apiserver").unwrap();
    assert_eq!(pid(cluster, "apiserver"), None);
    assert!(!cluster.status().unwrap().is_healthy());
    cluster.start("apiserver").unwrap();
    assert_ne!(pid(cluster, "apiserver"), api);
    cluster.kubectl().raw("/readyz").unwrap();

    // Up repairs what is half gone.
    for part in ["kubelet", "scheduler", "etcd"] {
        cluster.kill(part).unwrap();
    }
    cluster.up(&options).unwrap();
    assert!(cluster.status().unwrap().is_healthy());

    // Also after a crash of everything, with the objects of before.
    cluster
        .kubectl()
        .run(&["create", "configmap", "kept"])
        .unwrap();
    output("kill", &["-9", &first_process(cluster)]);
    cluster.up(&options).unwrap();
    assert!(cluster.status().unwrap().is_healthy());
    cluster
        .kubectl()
        .run(&["get", "configmap", "kept"])
        .unwrap();

    // Down after a crash, with everything gone.
    output("kill", &["-9", &first_process(cluster)]);
    cluster.down().unwrap();
    assert_eq!(cluster.leftovers().unwrap(), Vec::<String>::new());
    assert_eq!(processes_of(cluster), Vec::<String>::new());
    assert_eq!(machine(), before);
    // Down of nothing is fine.
    cluster.down().unwrap();
}
