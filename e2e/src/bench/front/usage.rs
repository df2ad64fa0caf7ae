//! What a process and its children have used.

use std::{fs, time::Duration};

use anyhow::{Context as _, Result};

/// Clock ticks per second of the numbers in /proc, the same on every Linux that Rust supports.
const TICKS: u64 = 100;

/// CPU time of `pid`, its threads and its living children, in user and kernel mode.
pub(super) fn cpu(pid: u32) -> Result<Duration> {
    let mut ticks = 0;
    for pid in family(pid)? {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        ticks += ticks_of(&stat).with_context(|| format!("/proc/{pid}/stat: {stat}"))?;
    }
    Ok(Duration::from_millis(ticks * 1000 / TICKS))
}

/// Resident memory of `pid` and its children in bytes.
pub(super) fn memory(pid: u32) -> Result<u64> {
    let mut bytes = 0;
    for pid in family(pid)? {
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        bytes += resident(&status).with_context(|| format!("/proc/{pid}/status"))?;
    }
    Ok(bytes)
}

fn family(pid: u32) -> Result<Vec<u32>> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let text = fs::read_to_string(&path).with_context(|| path.clone())?;
    let children = text.split_whitespace().map(str::parse);
    let mut all = vec![pid];
    for child in children {
        all.push(child.context(path.clone())?);
    }
    Ok(all)
}

/// Sum of utime and stime, fields 14 and 15. The name before them may contain anything.
fn ticks_of(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let kernel: u64 = fields.next()?.parse().ok()?;
    Some(user + kernel)
}

fn resident(status: &str) -> Option<u64> {
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::{resident, ticks_of};

    #[test]
    fn figures_are_read_by_position_and_name() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 3 0 5 6 7";
        assert_eq!(ticks_of(stat), Some(300));
        assert_eq!(resident("Name:\tx\nVmRSS:\t  12 kB\n"), Some(12_288));
        assert_eq!(resident("Name:\tx\n"), None);
    }
}
