//! What the node says it has.
//!
//! Pods of realistic sizes ask for more processors and memory than a small machine has, although they use little of it;
//! the scheduler would leave most of them waiting. The kubelet reads the capacity from files, and in this mount
//! namespace those say what the cluster was started with. Pods see the real machine.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::files;
use super::mounts::bind;
use super::paths::StateDir;

/// Size of the node for the scheduler.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capacity {
    /// Processors, rounded up to a multiple of the real ones.
    pub cpus: u32,
    /// Memory in GiB.
    pub memory_gib: u32,
}

impl Default for Capacity {
    /// Enough for some dozens of instances of the middle size.
    fn default() -> Self {
        Self {
            cpus: 32,
            memory_gib: 128,
        }
    }
}

/// Shows the capacity in the files that the kubelet reads.
///
/// The kubelet puts pods on the processors whose numbers it read, so only real numbers may appear. It counts them once
/// per memory node, so there are as many memory nodes, each with all processors, as are needed.
pub(super) fn show(state: &StateDir, capacity: Capacity) -> Result<()> {
    let folder = state.join("capacity");
    fs::create_dir_all(folder.join("node"))
        .with_context(|| format!("cannot create {}", folder.display()))?;
    let meminfo = meminfo(&fs::read_to_string("/proc/meminfo")?, capacity.memory_gib);
    files::write(&folder.join("meminfo"), &meminfo)?;
    bind(&folder.join("meminfo"), "/proc/meminfo")?;

    let nodes = "/sys/devices/system/node";
    // A kernel without memory nodes has no such folder; then the processors' own folders count, and stay as they are.
    if !Path::new(nodes).exists() {
        return Ok(());
    }
    let processors = numbers(&fs::read_to_string("/sys/devices/system/cpu/online")?)?;
    for node in 0..capacity.cpus.div_ceil(u32::try_from(processors.len())?) {
        let node = folder.join(format!("node/node{node}"));
        for processor in &processors {
            let topology = node.join(format!("cpu{processor}/topology"));
            fs::create_dir_all(&topology)?;
            files::write(&topology.join("core_id"), &format!("{processor}\n"))?;
            files::write(&topology.join("physical_package_id"), "0\n")?;
        }
        files::write(&node.join("meminfo"), &meminfo)?;
        files::write(&node.join("distance"), "10\n")?;
    }
    bind(&folder.join("node"), nodes)
}

/// Reads a list as the kernel writes it, for example `0-2,5`.
fn numbers(list: &str) -> Result<Vec<u32>> {
    let mut found = Vec::new();
    for range in list.trim().split(',') {
        let (from, to) = range.split_once('-').unwrap_or((range, range));
        let parse = |text: &str| {
            text.parse::<u32>()
                .with_context(|| format!("{list:?} is not a list of processors"))
        };
        found.extend(parse(from)?..=parse(to)?);
    }
    Ok(found)
}

/// The machine's memory report with another total.
fn meminfo(real: &str, memory_gib: u32) -> String {
    let total = u64::from(memory_gib) * 1024 * 1024;
    let line = |line: &str| {
        if line.starts_with("MemTotal:") {
            format!("MemTotal:       {total} kB\n")
        } else {
            format!("{line}\n")
        }
    };
    real.lines().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_processors_are_read() {
        assert_eq!(numbers("0-2,5\n").expect("a list"), [0, 1, 2, 5]);
        assert_eq!(numbers("0").expect("a list"), [0]);
        assert!(numbers("").is_err());
    }

    #[test]
    fn only_the_total_changes() {
        let shown = meminfo("MemTotal:       100 kB\nMemFree:  50 kB\n", 2);
        assert_eq!(shown, "MemTotal:       2097152 kB\nMemFree:  50 kB\n");
    }
}
