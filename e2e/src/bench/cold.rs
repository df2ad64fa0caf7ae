//! An HTTP request from zero to its answer, beside the floor: a Deployment of the same pods that the benchmark scales itself, asked at the pod's
//! address from the moment it is known. Both in turns, on the same cluster.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use futures::StreamExt as _;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{Patch, PatchParams};
use kube::runtime::{WatchStreamExt as _, watcher};
use serde_json::{Value, json};

use super::LIMIT;
use crate::suite::Suite;
use crate::suite::apps::{App, PORT, http_function};
use crate::suite::http::{DOMAIN, front, get};
use crate::suite::observe::Group;
use crate::suite::wait::until;

/// Starts of each kind.
const ROUNDS: usize = 12;
/// Rounds whose times are not counted: images are unpacked, code is loaded.
const WARM_UP: usize = 2;
/// Pause between two connection attempts at the pod's address.
const PROBE: Duration = Duration::from_millis(2);
/// Between two starts, so that the kubelet is done with the one before; and after the apps were made.
const PAUSE: Duration = Duration::from_secs(2);
const SETTLE: Duration = Duration::from_secs(10);
const PATH: &str = "/api/hello";
/// Phases of the floor.
const FLOOR: [&str; 3] = ["pod", "address", "answer"];

/// Times of one kind of start: the whole, and the parts by name.
#[derive(Default)]
struct Starts {
    whole: Vec<Duration>,
    parts: Vec<(String, Vec<Duration>)>,
}

impl Starts {
    fn add(&mut self, whole: Duration, parts: impl IntoIterator<Item = (String, Duration)>) {
        self.whole.push(whole);
        for (name, took) in parts {
            match self.parts.iter_mut().find(|(known, _)| *known == name) {
                Some((_, times)) => times.push(took),
                None => self.parts.push((name, vec![took])),
            }
        }
    }

    fn print(&self, what: &str) {
        row(what, &self.whole);
        for (name, times) in &self.parts {
            row(&format!("· {name}"), times);
        }
    }
}

fn row(what: &str, times: &[Duration]) {
    let mut times = times.to_vec();
    times.sort_unstable();
    let at = |percent: usize| {
        let at = (times.len() * percent / 100).min(times.len() - 1);
        times[at].as_secs_f64() * 1000.0
    };
    println!(
        "| {what} | {:.1} | {:.1} | {:.1} |",
        at(50),
        at(95),
        at(100)
    );
}

fn median(times: &[Duration]) -> f64 {
    let mut times = times.to_vec();
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64() * 1000.0
}

/// Measures and prints the table.
pub(super) async fn run(suite: &Suite) -> Result<()> {
    let ns = suite.namespace("cold").await?;
    // One app for each start, because a group is small again only half a minute after its last request. Names of the same length: they are part of what is
    // created.
    let rounds = WARM_UP + ROUNDS;
    for round in 0..rounds {
        for (kind, scaling) in [
            ("ours", json!({"driver": "Native", "idleSeconds": 0})),
            ("base", json!({"driver": "Native", "mode": "Paused"})),
        ] {
            let name = format!("{kind}{round:02}");
            App::new(suite, &ns.name, &name, &[http_function("hello")], json!({}))?
                .with(&["scaling"], scaling)
                .apply(suite)
                .await?;
        }
    }
    let address = front(suite).await?;
    let host = |round: usize| format!("ours{round:02}.{}.{DOMAIN}", ns.name);
    for round in 0..rounds {
        let route = || async { get(address, &host(round), "/admin").await };
        until("the route", LIMIT, route, |a| {
            !a.body.contains("unknown-host")
        })
        .await?;
    }
    // What the new apps set going is over.
    tokio::time::sleep(SETTLE).await;

    let (mut floor, mut ours) = (Starts::default(), Starts::default());
    for round in 0..rounds {
        let (whole, parts) = floor_once(suite, &ns.name, &format!("base{round:02}")).await?;
        tokio::time::sleep(PAUSE).await;
        let answer = get(address, &host(round), PATH).await?;
        ensure!(answer.status == 200, "{answer:?}");
        tokio::time::sleep(PAUSE).await;
        if round >= WARM_UP {
            floor.add(whole, parts);
            let phases = answer.server_timing.as_deref().map(phases);
            ours.add(answer.took, phases.unwrap_or_default());
        }
    }
    ns.remove().await?;
    println!("| what | p50 ms | p95 ms | max ms |\n|---|---|---|---|");
    floor.print("floor: `/scale` written -> first answer at the pod's address");
    ours.print("request through the front end -> answer");
    println!(
        "\nAdded to the floor: {:.0} ms (p50).",
        median(&ours.whole) - median(&floor.whole)
    );
    Ok(())
}

/// Phases of the header `server-timing`, without the whole.
fn phases(text: &str) -> Vec<(String, Duration)> {
    let entries = text.split(", ").filter_map(|entry| {
        let (name, took) = entry.split_once(";dur=")?;
        let milliseconds: f64 = took.parse().ok()?;
        (name != "cold-start").then(|| {
            (
                name.to_owned(),
                Duration::from_secs_f64(milliseconds / 1000.0),
            )
        })
    });
    entries.collect()
}

async fn floor_once(
    suite: &Suite,
    namespace: &str,
    app: &str,
) -> Result<(Duration, Vec<(String, Duration)>)> {
    let group = Group::of(suite, namespace, app, "http")?;
    until("the Deployment", LIMIT, || group.counts(), |_| true).await?;
    let pods: Api<Pod> = Api::namespaced(suite.client.clone(), namespace);
    let selector = format!("{}={app}", maniple_crds::names::APP_LABEL);
    let config = watcher::Config::default().labels(&selector);
    let mut events = std::pin::pin!(watcher(pods, config).default_backoff());
    // The first list, empty, has been read.
    while !matches!(
        events.next().await.context("the watch ended")?,
        Ok(watcher::Event::InitDone)
    ) {}
    let started = Instant::now();
    scale(suite, namespace, &group.deployment, 1).await?;
    let mut seen = None;
    let ip: IpAddr = loop {
        let event = events.next().await.context("the watch ended")?;
        let Ok(watcher::Event::Apply(pod)) = event else {
            continue;
        };
        seen.get_or_insert_with(Instant::now);
        let ip = pod.status.and_then(|status| status.pod_ip);
        if let Some(ip) = ip {
            break ip.parse()?;
        }
    };
    let addressed = Instant::now();
    let instance = SocketAddr::new(ip, u16::try_from(PORT)?);
    let answered = loop {
        match get(instance, "localhost", PATH).await {
            Ok(answer) if answer.status == 200 => break Instant::now(),
            _ => tokio::time::sleep(PROBE).await,
        }
        ensure!(addressed.elapsed() < LIMIT, "{instance} does not answer");
    };
    let seen = seen.context("no pod was seen")?;
    let ends = [seen, addressed, answered];
    let mut before = started;
    let parts = FLOOR.iter().zip(ends).map(|(name, end)| {
        let took = end.duration_since(before);
        before = end;
        ((*name).to_owned(), took)
    });
    let parts = parts.collect();
    scale(suite, namespace, &group.deployment, 0).await?;
    Ok((answered.duration_since(started), parts))
}

async fn scale(suite: &Suite, namespace: &str, deployment: &str, replicas: u32) -> Result<()> {
    let api: Api<Deployment> = Api::namespaced(suite.client.clone(), namespace);
    let patch: Patch<Value> = Patch::Merge(json!({"spec": {"replicas": replicas}}));
    api.patch_scale(deployment, &PatchParams::default(), &patch)
        .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::phases;
    use std::time::Duration;

    #[test]
    fn phases_are_read_from_the_header() {
        let text = "cold-start;dur=31.5, decision;dur=1.0, pod;dur=30.5";
        let wanted = [
            ("decision".to_owned(), Duration::from_millis(1)),
            ("pod".to_owned(), Duration::from_micros(30_500)),
        ];
        assert_eq!(phases(text), wanted);
    }
}
