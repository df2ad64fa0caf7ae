//! How many processors the process sees, as .NET counts them: a CPU limit is rounded up.

use std::fs::read_to_string;

use crate::environment::Environment;

/// The number that defaults of host.json depend on. `DOTNET_PROCESSOR_COUNT` wins, as in .NET.
pub fn visible(environment: &Environment) -> u32 {
    let set = environment.number("DOTNET_PROCESSOR_COUNT", 0) as u32;
    if set > 0 {
        return set;
    }
    let allowed = read_to_string("/proc/self/status")
        .ok()
        .and_then(|status| allowed_of(&status))
        .unwrap_or_else(|| {
            std::thread::available_parallelism().map_or(1, |cores| cores.get() as u32)
        });
    limit().map_or(allowed, |limit| allowed.min(limit)).max(1)
}

/// The CPU limit of the container, rounded up. `None`: no limit.
fn limit() -> Option<u32> {
    if let Ok(text) = read_to_string("/sys/fs/cgroup/cpu.max") {
        let (quota, period) = text.trim().split_once(' ')?;
        return rounded_up(quota, period);
    }
    let part = |name: &str| read_to_string(format!("/sys/fs/cgroup/cpu/cpu.cfs_{name}_us")).ok();
    rounded_up(&part("quota")?, &part("period")?)
}

fn rounded_up(quota: &str, period: &str) -> Option<u32> {
    // "max" and -1 are no numbers of this type: no limit.
    let quota: u32 = quota.trim().parse().ok()?;
    let period: u32 = period.trim().parse().ok()?;
    (period > 0).then(|| quota.div_ceil(period).max(1))
}

/// Counts the processors of a list like `0-3,8`.
fn allowed_of(status: &str) -> Option<u32> {
    let list = status
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
    list.trim()
        .split(',')
        .map(|range| {
            let (from, to) = range.split_once('-').unwrap_or((range, range));
            let (from, to) = (from.parse::<u32>().ok()?, to.parse::<u32>().ok()?);
            to.checked_sub(from).map(|more| more + 1)
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_rounded_up() {
        assert_eq!(rounded_up("25000", "100000"), Some(1));
        assert_eq!(rounded_up("150000", "100000\n"), Some(2));
        assert_eq!(rounded_up("200000", "100000"), Some(2));
        assert_eq!(rounded_up("max", "100000"), None);
        assert_eq!(rounded_up("-1", "100000"), None);
        assert_eq!(allowed_of("Name:\tx\nCpus_allowed_list:\t0-3,8\n"), Some(5));
        let set = Environment::from_pairs([("DOTNET_PROCESSOR_COUNT", "3")]);
        assert_eq!(visible(&set), 3);
    }
}
