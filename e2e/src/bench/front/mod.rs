//! `make bench-front`: the front end beside nginx, a naive proxy and a direct connection, on one machine in one run.
//!
//! The contestant has a core of its own; load and instances share another. What counts are requests per second of CPU time of the contestant, taken in
//! rounds in which all contestants take turns, so that a noisy machine is unfair to none of them.

mod contestants;
mod data_role;
mod load;
mod naive;
mod nginx;
mod process;
mod rate;
mod report;
mod sockets;
mod usage;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};

use contestants::{Contestant, Cores, Field};
use load::Load;
use report::{Growth, Rate, Run};

/// Arguments of the benchmark.
#[derive(Clone, Debug, clap::Args)]
pub struct FrontBenchArgs {
    /// Executable of the front end, release build. Named more than once, each is measured.
    #[arg(long, default_value = "target/release/front")]
    front: Vec<PathBuf>,
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Measurements of each contestant in each case.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Seconds of constant load during which memory is watched.
    #[arg(long, default_value_t = 60)]
    memory_seconds: u64,
    /// WebSockets that are opened.
    #[arg(long, default_value_t = 5000)]
    sockets: u32,
    /// Only these cases: small, browser, kib, mib, http2, upload, rate, sockets, memory.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Measures nothing: starts everything, tells processes and addresses, and waits until the input ends. For profilers.
    #[arg(long)]
    hold: bool,
    /// Core of the contestants.
    #[arg(long, default_value_t = 0)]
    proxy_core: usize,
    /// Core of load and instances.
    #[arg(long, default_value_t = 1)]
    load_core: usize,
}

/// A part of the benchmark that runs in a process of its own.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Part {
    /// The naive proxy.
    Naive {
        /// Where it listens.
        listen: SocketAddr,
        /// Where it proxies uploads to.
        upload: SocketAddr,
        /// Where it proxies the rest to.
        instances: Vec<SocketAddr>,
    },
    /// An instance that keeps WebSockets open and takes uploads.
    Sockets {
        /// Where it listens.
        listen: SocketAddr,
    },
}

/// The throughput cases by name.
const CASES: [(&str, &str, Load); 6] = [
    ("small", "2 bytes, HTTP/1.1", Load::Get("small")),
    (
        "browser",
        "2 bytes, HTTP/1.1, 12 headers",
        Load::Browser("small"),
    ),
    ("kib", "1 KiB, HTTP/1.1", Load::Get("kib")),
    ("mib", "1 MiB, HTTP/1.1", Load::Get("mib")),
    ("http2", "2 bytes, HTTP/2 in", Load::Http2("small")),
    ("upload", "1 MiB upload, HTTP/1.1", Load::Upload),
];

/// Requests per second of the latency case.
const RATE: u32 = 1000;

/// Runs a part until it is ended.
///
/// # Errors
/// When it cannot listen.
pub fn run_part(part: Part) -> Result<()> {
    tokio::runtime::Runtime::new()?.block_on(async {
        match part {
            Part::Naive {
                listen,
                upload,
                instances,
            } => naive::run(listen, upload, instances).await,
            Part::Sockets { listen } => sockets::serve(listen).await,
        }
    })
}

/// Runs the benchmark and prints its tables.
///
/// # Errors
/// When a tool or core is missing, or when any request fails.
pub fn run(args: &FrontBenchArgs) -> Result<()> {
    for (program, package) in [
        ("wrk", "wrk"),
        ("h2load", "nghttp2-client"),
        ("nginx", "nginx-light"),
        ("taskset", "util-linux"),
        ("setpriv", "util-linux"),
    ] {
        process::need(program, package)?;
    }
    ensure!(
        args.proxy_core != args.load_core,
        "contestants and load need different cores"
    );
    let mut fronts = Vec::new();
    for path in &args.front {
        let found = path.canonicalize().with_context(|| {
            format!(
                "{} is missing: cargo build --release -p maniple-scaler --bin front",
                path.display()
            )
        })?;
        fronts.push(found);
    }
    // What is started without a core of its own inherits this one.
    let mut core = CpuSet::new();
    core.set(args.load_core)?;
    sched_setaffinity(Pid::from_raw(0), &core).context("the load's core does not exist")?;
    let folder = std::env::temp_dir().join(format!("maniple-bench-front-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let cores = Cores {
        proxy: args.proxy_core,
        load: args.load_core,
    };
    let field = runtime.block_on(Field::start(&folder, cores, &fronts))?;
    let result = if args.hold {
        hold(&field)
    } else {
        measure(args, &field, &folder)
    };
    drop(field);
    std::fs::remove_dir_all(&folder).ok();
    result
}

fn hold(field: &Field) -> Result<()> {
    for contestant in &field.contestants {
        let id = contestant.process.as_ref().map_or(0, process::Process::id);
        println!("{} {id} {}", contestant.name, contestant.http1);
    }
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink())?;
    Ok(())
}

fn measure(args: &FrontBenchArgs, field: &Field, folder: &Path) -> Result<()> {
    let wanted = |name: &str| args.only.is_empty() || args.only.iter().any(|only| only == name);
    let time = Duration::from_secs(args.seconds);
    report::machine(args)?;
    report::throughput_head();
    for (name, title, load) in CASES {
        if wanted(name) {
            let runs = throughput(args, field, load, time, folder)?;
            report::throughput(title, &runs);
        }
    }
    if wanted("rate") {
        report::rate(RATE, &latency(args, field, time)?);
    }
    if wanted("sockets") {
        let mut rows = Vec::new();
        // The naive proxy knows no upgrades.
        for contestant in proxies(field).filter(|c| c.name != "naive") {
            let each = sockets::measure(contestant.id()?, contestant.http1, args.sockets)?;
            rows.push((contestant.name.clone(), each));
        }
        report::sockets(args.sockets, &rows);
    }
    if wanted("memory") {
        let mut rows = Vec::new();
        for contestant in proxies(field).filter(|c| c.name.starts_with("front")) {
            rows.push((contestant.name.clone(), growth(args, contestant, folder)?));
        }
        report::memory(&rows);
    }
    Ok(())
}

fn proxies(field: &Field) -> impl Iterator<Item = &Contestant> {
    field.contestants.iter().filter(|c| c.process.is_some())
}

fn throughput(
    args: &FrontBenchArgs,
    field: &Field,
    load: Load,
    time: Duration,
    folder: &Path,
) -> Result<Vec<Run>> {
    let mut runs = Vec::new();
    for round in 0..=args.rounds {
        for contestant in &field.contestants {
            let Some(address) = contestant.address(load) else {
                continue;
            };
            // The first round opens connections and fills caches.
            let time = if round == 0 {
                Duration::from_secs(1)
            } else {
                time
            };
            let id = contestant.process.as_ref().map(process::Process::id);
            let before = id.map(usage::cpu).transpose()?;
            let answered = load::run(load, address, time, folder)
                .with_context(|| format!("case {load:?}, {}", contestant.name))?;
            let after = id.map(usage::cpu).transpose()?;
            if round > 0 {
                runs.push(Run {
                    name: contestant.name.clone(),
                    round,
                    answered,
                    cpu: after
                        .zip(before)
                        .map(|(after, before)| after.saturating_sub(before)),
                });
            }
        }
    }
    Ok(runs)
}

fn latency(args: &FrontBenchArgs, field: &Field, time: Duration) -> Result<Vec<Rate>> {
    let mut runs = Vec::new();
    for round in 0..=args.rounds {
        for contestant in &field.contestants {
            let seen = rate::run(contestant.http1, "/small", RATE, time)
                .with_context(|| format!("{RATE} requests per second, {}", contestant.name))?;
            if round > 0 {
                runs.push(Rate {
                    name: contestant.name.clone(),
                    round,
                    seen,
                });
            }
        }
    }
    Ok(runs)
}

/// Memory after a tenth of the time, by when all buffers have their size, and at the end.
fn growth(args: &FrontBenchArgs, contestant: &Contestant, folder: &Path) -> Result<Growth> {
    let first = Duration::from_secs((args.memory_seconds / 10).max(1));
    let rest = Duration::from_secs(args.memory_seconds).saturating_sub(first);
    let id = contestant.id()?;
    let mut answered = load::run(Load::Get("kib"), contestant.http1, first, folder)?.requests;
    let before = usage::memory(id)?;
    answered += load::run(Load::Get("kib"), contestant.http1, rest, folder)?.requests;
    Ok(Growth {
        before,
        after: usage::memory(id)?,
        answered,
        time: first + rest,
    })
}
