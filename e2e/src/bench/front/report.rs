//! The tables. All figures are medians over the rounds, all ratios are taken within a round first.

use std::{fs, time::Duration};

use anyhow::Result;

use super::{FrontBenchArgs, load::Answered, rate::Latency};

/// One measurement of throughput.
#[derive(Clone, Debug)]
pub(super) struct Run {
    pub(super) name: String,
    pub(super) round: u32,
    pub(super) answered: Answered,
    /// CPU time of the contestant meanwhile.
    pub(super) cpu: Option<Duration>,
}

impl Run {
    fn per_cpu_second(&self) -> Option<f64> {
        Some(self.answered.requests as f64 / self.cpu?.as_secs_f64())
    }

    fn per_second(&self) -> f64 {
        self.answered.requests as f64 / self.answered.time.as_secs_f64()
    }
}

/// One measurement of latency.
#[derive(Clone, Debug)]
pub(super) struct Rate {
    pub(super) name: String,
    pub(super) round: u32,
    pub(super) seen: Latency,
}

/// Memory over a long run, in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Growth {
    pub(super) before: u64,
    pub(super) after: u64,
    pub(super) answered: u64,
    pub(super) time: Duration,
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}

/// Names in the order of their first measurement.
fn names<'a>(all: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut names = Vec::new();
    for name in all {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// What the figures were taken on.
pub(super) fn machine(args: &FrontBenchArgs) -> Result<()> {
    let info = fs::read_to_string("/proc/cpuinfo")?;
    let model = info
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .map_or("unknown", |rest| rest.trim_start_matches([' ', '\t', ':']));
    let load = fs::read_to_string("/proc/loadavg")?;
    println!(
        "{model}; contestant on core {}, load and instances on core {}; {} rounds of {} s; load of the machine before: {}",
        args.proxy_core,
        args.load_core,
        args.rounds,
        args.seconds,
        load.split_whitespace().next().unwrap_or("unknown"),
    );
    Ok(())
}

/// Begins the throughput table.
pub(super) fn throughput_head() {
    println!("\n| case | contestant | requests per CPU-second | of nginx | requests per second |");
    println!("|---|---|---|---|---|");
}

/// The rows of one case.
pub(super) fn throughput(title: &str, runs: &[Run]) {
    for name in names(runs.iter().map(|run| run.name.as_str())) {
        let mine = || runs.iter().filter(|run| run.name == name);
        let per_second = median(mine().map(Run::per_second).collect());
        let per_cpu: Vec<f64> = mine().filter_map(Run::per_cpu_second).collect();
        if per_cpu.is_empty() {
            println!("| {title} | {name} | - | - | {per_second:.0} |");
            continue;
        }
        let ratios = mine().filter_map(|run| {
            let nginx = runs
                .iter()
                .find(|other| other.round == run.round && other.name == "nginx")?;
            Some(run.per_cpu_second()? / nginx.per_cpu_second()?)
        });
        println!(
            "| {title} | {name} | {:.0} | {:.2} | {per_second:.0} |",
            median(per_cpu),
            median(ratios.collect()),
        );
    }
}

/// Latency at a fixed rate, and what each contestant adds to the direct connection of the same round.
pub(super) fn rate(per_second: u32, runs: &[Rate]) {
    println!(
        "\n| {per_second} requests per second | p50 µs | p99 µs | added p50 µs | added p99 µs |"
    );
    println!("|---|---|---|---|---|");
    let micros = |time: Duration| time.as_secs_f64() * 1e6;
    for name in names(runs.iter().map(|run| run.name.as_str())) {
        let column = |pick: fn(&Latency) -> Duration, floor: bool| {
            let mine = runs.iter().filter(|run| run.name == name);
            median(
                mine.filter_map(|run| {
                    let direct = runs
                        .iter()
                        .find(|other| other.round == run.round && other.name == "direct")?;
                    let below = if floor {
                        micros(pick(&direct.seen))
                    } else {
                        0.0
                    };
                    Some(micros(pick(&run.seen)) - below)
                })
                .collect(),
            )
        };
        println!(
            "| {name} | {:.0} | {:.0} | {:.0} | {:.0} |",
            column(|l| l.p50, false),
            column(|l| l.p99, false),
            column(|l| l.p50, true),
            column(|l| l.p99, true),
        );
    }
}

/// Memory of open WebSockets.
pub(super) fn sockets(count: u32, rows: &[(String, u64)]) {
    println!("\n| {count} open WebSockets | memory of each, KiB |\n|---|---|");
    for (name, each) in rows {
        println!("| {name} | {:.1} |", *each as f64 / 1024.0);
    }
}

/// Memory over a long run.
pub(super) fn memory(rows: &[(String, Growth)]) {
    println!(
        "\n| constant load | requests | after a tenth, MiB | at the end, MiB |\n|---|---|---|---|"
    );
    let mib = |bytes: u64| bytes as f64 / 1_048_576.0;
    for (name, growth) in rows {
        println!(
            "| {name}, {} s | {} | {:.1} | {:.1} |",
            growth.time.as_secs(),
            growth.answered,
            mib(growth.before),
            mib(growth.after)
        );
    }
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn the_median_is_in_the_middle() {
        assert!((median(vec![3.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
        assert!((median(vec![4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < f64::EPSILON);
        assert!(median(Vec::new()).is_nan());
    }
}
