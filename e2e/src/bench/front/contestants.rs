//! What is measured: a direct connection as the floor, nginx, a naive proxy, and the front end.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use super::{
    data_role::{self, Group},
    load::{self, Load},
    nginx,
    process::{Process, free_port},
};

/// Requests at a time of each ordinary instance: 128 slots for 64 requests at a time, so that nobody waits.
const CONCURRENCY: u16 = 16;
/// The same of the instance that holds WebSockets and takes uploads.
const OTHERS: u16 = 20_000;

/// Cores of the two sides.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cores {
    /// The contestant alone.
    pub(super) proxy: usize,
    /// Load, instances, data role.
    pub(super) load: usize,
}

/// Something that requests can be sent to.
#[derive(Debug)]
pub(super) struct Contestant {
    pub(super) name: String,
    pub(super) http1: SocketAddr,
    pub(super) http2: Option<SocketAddr>,
    /// Where uploads go.
    upload: SocketAddr,
    /// None: there is no proxy.
    pub(super) process: Option<Process>,
}

/// Everything that runs during the benchmark.
#[derive(Debug)]
pub(super) struct Field {
    pub(super) contestants: Vec<Contestant>,
    _instances: Process,
    _others: Process,
}

impl Field {
    /// Starts all. `fronts` are executables of the front end, the first one is the one that is told of as `front`.
    pub(super) async fn start(folder: &Path, cores: Cores, fronts: &[PathBuf]) -> Result<Self> {
        let own = std::env::current_exe()?;
        let (instances, addresses) = nginx::instances(folder, cores.load)?;
        let (others, others_at) = part(&own, folder, cores.load, "sockets", &[])?;
        let mut contestants = vec![Contestant {
            name: "direct".to_owned(),
            http1: addresses[0],
            http2: None,
            upload: others_at,
            process: None,
        }];

        let (process, http1, http2) = nginx::proxy(folder, cores.proxy, &addresses, others_at)?;
        contestants.push(Contestant {
            name: "nginx".to_owned(),
            http1,
            http2: Some(http2),
            upload: http1,
            process: Some(process),
        });

        let targets: Vec<String> = std::iter::once(&others_at)
            .chain(&addresses)
            .map(ToString::to_string)
            .collect();
        let (process, address) = part(&own, folder, cores.proxy, "naive", &targets)?;
        contestants.push(Contestant {
            name: "naive".to_owned(),
            http1: address,
            http2: Some(address),
            upload: address,
            process: Some(process),
        });

        let groups = [
            Group {
                name: "bench/app/http",
                prefixes: &["/"],
                concurrency: CONCURRENCY,
                instances: addresses,
            },
            Group {
                name: "bench/others/http",
                prefixes: &["/socket", "/upload"],
                concurrency: OTHERS,
                instances: vec![others_at],
            },
        ];
        for (number, program) in fronts.iter().enumerate() {
            let slots = data_role::start(&Ipv4Addr::LOCALHOST.to_string(), &groups).await?;
            let name = match number {
                0 => "front".to_owned(),
                _ => format!("front-{}", number + 1),
            };
            contestants.push(front(program, &name, folder, cores.proxy, slots)?);
        }
        Ok(Self {
            contestants,
            _instances: instances,
            _others: others,
        })
    }
}

/// Starts a part of this program in a process of its own.
fn part(
    own: &Path,
    folder: &Path,
    core: usize,
    name: &str,
    more: &[String],
) -> Result<(Process, SocketAddr)> {
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()?));
    let mut args = vec![
        "bench-front-part".to_owned(),
        name.to_owned(),
        address.to_string(),
    ];
    args.extend_from_slice(more);
    let log = folder.join(format!("{name}.log"));
    let mut process = Process::start(core, own, &args, &log)?;
    process.ready(address, &log)?;
    Ok((process, address))
}

fn front(
    program: &Path,
    name: &str,
    folder: &Path,
    core: usize,
    slots: SocketAddr,
) -> Result<Contestant> {
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()?));
    let admin = SocketAddr::from(([127, 0, 0, 1], free_port()?));
    let args = [
        "--slots-insecure".to_owned(),
        format!("--slots-server={slots}"),
        format!("--listen-address={address}"),
        format!("--admin-address={admin}"),
        "--log=warn".to_owned(),
        "--stop-delay-seconds=0".to_owned(),
        "--drain-seconds=1".to_owned(),
    ];
    let log = folder.join(format!("{name}.log"));
    let mut process = Process::start(core, program, &args, &log)?;
    process.ready(address, &log)?;
    // The first routes and slots come over the stream.
    let end = Instant::now() + Duration::from_secs(20);
    while let Err(error) = load::one(address) {
        if Instant::now() > end {
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            bail!("{name} does not answer: {error:#}: {text}");
        }
        thread::sleep(Duration::from_millis(50));
    }
    Ok(Contestant {
        name: name.to_owned(),
        http1: address,
        http2: Some(address),
        upload: address,
        process: Some(process),
    })
}

impl Contestant {
    /// Where that load goes; none when it has no meaning there.
    pub(super) fn address(&self, load: Load) -> Option<SocketAddr> {
        match load {
            Load::Http2(_) => self.http2,
            Load::Get(_) | Load::Browser(_) => Some(self.http1),
            Load::Upload => Some(self.upload),
        }
    }

    /// The process of a proxy.
    pub(super) fn id(&self) -> Result<u32> {
        let process = self.process.as_ref().context("no process of its own")?;
        Ok(process.id())
    }
}
