//! `make bench`: figures that say something about the work itself, each with what it was measured beside.

mod cold;
pub mod front;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use clap::{Args, ValueEnum};
use futures::stream::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams};
use maniple_crds::FunctionApp;
use serde_json::json;

use crate::suite::apps::{App, queue_function};
use crate::suite::observe::Group;
use crate::suite::storage::fill;
use crate::suite::wait::until;
use crate::suite::{PLATFORM_NAMESPACE, Suite};

const LIMIT: Duration = Duration::from_secs(300);
/// Wake-ups that are timed for each driver.
const WAKES: usize = 20;
/// Apps of the scale benchmark.
const APPS: usize = 1000;
/// Queues that they share, 20 apps each.
const QUEUES: usize = 50;
/// How long the cluster is watched at rest.
const REST: Duration = Duration::from_secs(60);

/// Arguments of the benchmarks.
#[derive(Args, Clone, Debug)]
pub struct BenchArgs {
    /// Only these parts [default: all].
    #[arg(value_enum)]
    parts: Vec<Part>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// HTTP from zero to the first answer.
    Cold,
    /// Message to replica count.
    Wake,
    /// 1,000 apps.
    Many,
}

impl BenchArgs {
    fn runs(&self, part: Part) -> bool {
        self.parts.is_empty() || self.parts.contains(&part)
    }
}

/// Runs the benchmarks and prints a table for each.
///
/// # Errors
/// When the cluster or maniple does not do what is measured.
pub async fn run(args: BenchArgs) -> Result<()> {
    let suite = Suite::connect().await?;
    if args.runs(Part::Cold) {
        println!("\n## HTTP from zero to the first answer\n");
        cold::run(&suite).await?;
    }
    if args.runs(Part::Wake) {
        wake(&suite).await?;
    }
    if args.runs(Part::Many) {
        println!("\n## {APPS} FunctionApps of one queue function each, at zero\n");
        many(&suite).await?;
    }
    Ok(())
}

async fn wake(suite: &Suite) -> Result<()> {
    println!("\n## Wake-up: message put into an idle queue -> replica count written\n");
    println!("| what | p50 ms | p95 ms | max ms |\n|---|---|---|---|");
    row(
        "floor: a /scale write seen by the same watch",
        floor(suite).await?,
    );
    for driver in ["Native", "Keda"] {
        row(
            &format!("driver {driver}, {WAKES} idle queues"),
            wakes(suite, driver).await?,
        );
    }
    Ok(())
}

fn row(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let at = |percent: usize| times[(times.len() * percent / 100).min(times.len() - 1)].as_millis();
    println!("| {what} | {} | {} | {} |", at(50), at(95), at(100));
}

/// An app whose instances never run, because its image does not exist.
fn idle_app(
    suite: &Suite,
    namespace: &str,
    name: &str,
    queues: &[String],
    driver: &str,
) -> Result<App> {
    let functions: Vec<_> = queues
        .iter()
        .enumerate()
        .map(|(i, q)| queue_function(&format!("f{i}"), q))
        .collect();
    Ok(App::new(suite, namespace, name, &functions, json!({}))?
        .with(&["image"], json!("maniple.dev/absent:none"))
        .with(&["imagePullPolicy"], json!("Never"))
        .with(&["scaling"], json!({"driver": driver, "idleSeconds": 0})))
}

/// Time from a write of ours to its sight in a watch.
async fn floor(suite: &Suite) -> Result<Vec<Duration>> {
    let ns = suite.namespace("floor").await?;
    let queue = format!("floor-{}", ns.name);
    suite.storage.queue(&queue).await?;
    let paused = idle_app(suite, &ns.name, "floor", &[queue], "Native")?
        .with(&["scaling", "mode"], json!("Paused"));
    paused.apply(suite).await?;
    let group = Group::of(suite, &ns.name, "floor", "function:f0")?;
    until("the Deployment", LIMIT, || group.counts(), |_| true).await?;
    let api: Api<Deployment> = Api::namespaced(suite.client.clone(), &ns.name);
    let timeline = group.record();
    let mut times = Vec::new();
    for turn in 0..WAKES {
        let wanted = i32::from(turn % 2 == 0);
        let started = Instant::now();
        api.patch_scale(
            &group.deployment,
            &PatchParams::default(),
            &Patch::Merge(json!({"spec": {"replicas": wanted}})),
        )
        .await?;
        times.push(seen(&timeline, started, wanted).await?);
    }
    ns.remove().await?;
    Ok(times)
}

async fn wakes(suite: &Suite, driver: &str) -> Result<Vec<Duration>> {
    let ns = suite.namespace("wake").await?;
    let queues: Vec<String> = (0..WAKES).map(|i| format!("w{i}-{}", ns.name)).collect();
    let mut clients = Vec::new();
    for queue in &queues {
        clients.push(suite.storage.queue(queue).await?);
    }
    idle_app(suite, &ns.name, "wake", &queues, driver)?
        .apply(suite)
        .await?;
    let mut times = Vec::new();
    let groups: Vec<Group> = (0..WAKES)
        .map(|i| Group::of(suite, &ns.name, "wake", &format!("function:f{i}")))
        .collect::<Result<_>>()?;
    for group in &groups {
        until(
            "a group at rest",
            LIMIT,
            || group.counts(),
            |c| c.asked == 0,
        )
        .await?;
    }
    // Idle long enough for the slow poll.
    tokio::time::sleep(Duration::from_secs(40)).await;
    for (group, queue) in groups.iter().zip(&clients) {
        let timeline = group.record();
        until(
            "the watch",
            LIMIT,
            || async { Ok(timeline.changes().len()) },
            |n| *n > 0,
        )
        .await?;
        let started = Instant::now();
        fill(queue, 1, "m").await?;
        times.push(seen(&timeline, started, 1).await?);
    }
    ns.remove().await?;
    Ok(times)
}

/// Waits until the count is asked for and says how long after `started` it was seen.
async fn seen(
    timeline: &crate::suite::observe::Timeline,
    started: Instant,
    asked: i32,
) -> Result<Duration> {
    let find = || {
        timeline
            .changes()
            .into_iter()
            .find(|c| c.at >= started && c.counts.asked == asked)
    };
    until(
        "the count in the watch",
        LIMIT,
        || async { Ok(find().map(|c| c.at)) },
        Option::is_some,
    )
    .await?;
    Ok(find().context("no change")?.at.duration_since(started))
}

async fn many(suite: &Suite) -> Result<()> {
    let ns = suite.namespace("many").await?;
    let queues: Vec<String> = (0..QUEUES)
        .map(|i| format!("many{i}-{}", ns.name))
        .collect();
    for queue in &queues {
        suite.storage.queue(queue).await?;
    }
    let before = figures(suite).await?;
    let started = Instant::now();
    futures::stream::iter(0..APPS)
        .map(|i| {
            let (ns, queue) = (&ns.name, &queues[i % QUEUES]);
            async move {
                idle_app(
                    suite,
                    ns,
                    &format!("app{i}"),
                    std::slice::from_ref(queue),
                    "Native",
                )?
                .apply(suite)
                .await
                .map(drop)
            }
        })
        .buffer_unordered(16)
        .try_for_each(|()| async { Ok(()) })
        .await?;
    let applied = started.elapsed();
    let apps: Api<FunctionApp> = Api::namespaced(suite.client.clone(), &ns.name);
    until(
        "every app to be ready",
        LIMIT * 3,
        || async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let list = apps.list(&ListParams::default()).await?;
            let ready = |a: &FunctionApp| {
                a.status
                    .iter()
                    .flat_map(|s| &s.conditions)
                    .any(|c| c.type_ == "Ready" && c.status == "True")
            };
            Ok(list.items.iter().filter(|a| ready(a)).count())
        },
        |ready| *ready == APPS,
    )
    .await?;
    let ready = started.elapsed();
    // Status of the first minutes settles.
    tokio::time::sleep(Duration::from_secs(90)).await;
    let rest = figures(suite).await?;
    tokio::time::sleep(REST).await;
    let after = figures(suite).await?;

    println!("| figure | value |\n|---|---|");
    println!("| applied by the suite | {:.0} s |", applied.as_secs_f64());
    println!(
        "| all ready | {:.0} s, {:.0} apps/s |",
        ready.as_secs_f64(),
        APPS as f64 / ready.as_secs_f64()
    );
    for (name, value) in &after.memory {
        let empty = before.memory.get(name).copied().unwrap_or(0.0);
        println!(
            "| memory of {name} | {:.0} MiB (before the apps: {:.0} MiB) |",
            value / 1_048_576.0,
            empty / 1_048_576.0
        );
    }
    let writes = after.writes - rest.writes;
    println!(
        "| API writes of the whole cluster at rest | {:.1} per second |",
        writes / REST.as_secs_f64()
    );
    println!(
        "| of them by maniple | {:.2} per second |",
        (after.own_writes - rest.own_writes) / REST.as_secs_f64()
    );
    ns.remove().await
}

/// What the processes and the API server tell of themselves.
struct Figures {
    memory: BTreeMap<String, f64>,
    writes: f64,
    own_writes: f64,
}

async fn figures(suite: &Suite) -> Result<Figures> {
    let pods: Api<Pod> = Api::namespaced(suite.client.clone(), PLATFORM_NAMESPACE);
    let mut memory = BTreeMap::new();
    let mut own_writes = 0.0;
    for pod in pods.list(&ListParams::default()).await? {
        let name = pod.metadata.name.context("a pod without name")?;
        let path =
            format!("/api/v1/namespaces/{PLATFORM_NAMESPACE}/pods/{name}:9990/proxy/metrics");
        let text = suite.connection.kubectl().raw(&path)?;
        memory.insert(name, sum(&text, "process_resident_memory_bytes", ""));
        own_writes += sum(&text, "maniple_operator_writes_total", "")
            + sum(&text, "maniple_scale_writes_total", "");
    }
    let text = suite.connection.kubectl().raw("/metrics")?;
    let writes = ["POST", "PUT", "PATCH", "DELETE", "APPLY"]
        .iter()
        .map(|verb| {
            sum(
                &text,
                "apiserver_request_total",
                &format!("verb=\"{verb}\""),
            )
        })
        .sum();
    Ok(Figures {
        memory,
        writes,
        own_writes,
    })
}

/// Sum of all samples of a metric whose labels contain a text.
fn sum(text: &str, metric: &str, label: &str) -> f64 {
    text.lines()
        .filter(|l| {
            l.strip_prefix(metric)
                .is_some_and(|rest| rest.starts_with(['{', ' ']))
                && l.contains(label)
        })
        .filter_map(|l| l.rsplit(' ').next()?.parse::<f64>().ok())
        .sum()
}

#[cfg(test)]
mod tests {
    use super::sum;

    #[test]
    fn samples_are_summed_by_name_and_label() {
        let text = "a_total{verb=\"POST\"} 2\na_total{verb=\"GET\"} 3\na_total_other 7\nb 1.5e3\n";
        assert!((sum(text, "a_total", "verb=\"POST\"") - 2.0).abs() < f64::EPSILON);
        assert!((sum(text, "a_total", "") - 5.0).abs() < f64::EPSILON);
        assert!((sum(text, "b", "") - 1500.0).abs() < f64::EPSILON);
    }
}
