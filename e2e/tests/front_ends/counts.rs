//! What instances and front ends count, read all the time while the suite runs.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use e2e::suite::Suite;
use e2e::suite::apps::PORT;
use e2e::suite::front_ends::{Slots, pods, slots};
use e2e::suite::http::get;
use e2e::suite::load::{Outcome, Sent};
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, ResourceExt as _};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::task::JoinHandle;

use super::scene::{HttpApp, Scene};

/// Time between two looks at the instances, and at the front ends.
const INSTANCES_EVERY: Duration = Duration::from_millis(500);
const FRONT_ENDS_EVERY: Duration = Duration::from_millis(250);

/// One process of an instance.
type Process = (String, String);

#[derive(Default)]
struct Seen {
    /// Most requests at a time, by app and pod.
    most: BTreeMap<(String, String), u64>,
    /// Names of the requests that ran, in order.
    runs: HashMap<Process, Vec<String>>,
    /// Since when requests of a group wait at a front end while another has a free slot.
    stranded_since: HashMap<(String, String), Instant>,
    longest_strand: Duration,
    looks: u64,
}

/// The counts so far.
pub(super) struct Counts {
    seen: Arc<Mutex<Seen>>,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for Counts {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Counts {
    /// Begins to look.
    pub(super) fn watch(suite: &Suite, namespace: &str, apps: &[HttpApp]) -> Self {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let groups: BTreeSet<String> = apps.iter().map(|app| app.group_key.clone()).collect();
        let pods_api: Api<Pod> = Api::namespaced(suite.client.clone(), namespace);
        let instances = tokio::spawn(watch_instances(pods_api, seen.clone()));
        let front_ends = tokio::spawn(watch_front_ends(groups, seen.clone()));
        Self {
            seen,
            tasks: vec![instances, front_ends],
        }
    }

    /// No instance ever ran more than it may.
    pub(super) fn within_limits(&self, scene: &Scene) -> Result<()> {
        let seen = self.seen.lock();
        ensure!(!seen.most.is_empty(), "no instance was seen");
        ensure!(seen.looks > 0, "no front end was seen");
        for app in &scene.apps {
            let of_app = seen.most.iter().filter(|((name, _), _)| *name == app.name);
            let most = of_app.clone().map(|(_, most)| *most).max();
            println!(
                "counts {:5} at most {} of {} at a time on any of {} instances",
                app.name,
                most.unwrap_or(0),
                app.concurrency,
                of_app.clone().count()
            );
            for ((_, pod), most) in of_app {
                ensure!(
                    *most <= app.concurrency,
                    "{pod} ran {most} requests at a time instead of {}",
                    app.concurrency
                );
            }
        }
        Ok(())
    }

    /// The longest time for which requests waited at one front end while another one had a free slot of the group at every look.
    pub(super) fn longest_strand(&self) -> Duration {
        self.seen.lock().longest_strand
    }

    /// No request ran twice, and none that was answered by an instance whose list is known ran nowhere.
    pub(super) fn ran_once(&self, sent: &[Sent]) -> Result<()> {
        let seen = self.seen.lock();
        let mut ran: HashMap<&str, &Process> = HashMap::new();
        for (process, names) in &seen.runs {
            for name in names {
                if let Some(other) = ran.insert(name, process) {
                    anyhow::bail!("request {name} ran at {process:?} and at {other:?}");
                }
            }
        }
        let known: HashSet<&str> = seen.runs.keys().map(|(pod, _)| pod.as_str()).collect();
        let answered = sent.iter().filter(|one| {
            matches!(&one.outcome, Outcome::Answered { instance: Some(pod), .. } if known.contains(pod.as_str()))
        });
        let (mut all, mut listed) = (0_usize, 0_usize);
        for one in answered {
            all += 1;
            listed += usize::from(ran.contains_key(one.name.as_str()));
        }
        println!(
            "counts {listed} of {all} answered requests are in the instances' lists, each once"
        );
        // An instance that dies takes the end of its list with it.
        ensure!(
            listed * 10 >= all * 8,
            "only {listed} of {all} answered requests are in the instances' lists"
        );
        Ok(())
    }
}

async fn watch_instances(api: Api<Pod>, seen: Arc<Mutex<Seen>>) {
    loop {
        let list = api.list(&ListParams::default()).await;
        let looks = list.into_iter().flatten().map(|pod| {
            let seen = seen.clone();
            async move {
                if let Some((app, ip)) = instance(&pod) {
                    // A pod that does not answer is about to come or to go.
                    drop(look(&pod.name_any(), &app, ip, &seen).await);
                }
            }
        });
        futures::future::join_all(looks).await;
        tokio::time::sleep(INSTANCES_EVERY).await;
    }
}

fn instance(pod: &Pod) -> Option<(String, IpAddr)> {
    let app = pod.labels().get(maniple_crds::names::APP_LABEL)?;
    let ip = pod.status.as_ref()?.pod_ip.as_deref()?;
    Some((app.clone(), ip.parse().ok()?))
}

async fn look(pod: &str, app: &str, ip: IpAddr, seen: &Mutex<Seen>) -> Result<()> {
    let address = SocketAddr::new(ip, u16::try_from(PORT)?);
    let json = |path: String| async move {
        let answer =
            tokio::time::timeout(Duration::from_secs(2), get(address, "localhost", &path)).await;
        let body = answer??.body;
        let start = body.find('{').context("no JSON")?;
        Ok::<Value, anyhow::Error>(serde_json::from_str(body[start..].trim_end())?)
    };
    let stats = json("/standin/stats".to_owned()).await?;
    ensure!(
        stats["instance"] == pod,
        "the address belongs to another pod"
    );
    let most = stats["process"]["maxInFlight"].as_u64().unwrap_or(0);
    {
        let mut seen = seen.lock();
        let known = seen
            .most
            .entry((app.to_owned(), pod.to_owned()))
            .or_default();
        *known = most.max(*known);
    }
    // Without knowing the process nothing can be left out, so the first look takes the head of the list only.
    let head = json("/standin/runs?from=1000000000".to_owned()).await?;
    let process = head["process"].as_str().context("no process")?.to_owned();
    let key = (pod.to_owned(), process);
    let from = seen.lock().runs.get(&key).map_or(0, Vec::len);
    let runs = json(format!("/standin/runs?from={from}")).await?;
    ensure!(runs["process"] == key.1, "it was restarted in between");
    let names = runs["names"].as_array().context("no names")?;
    let names = names.iter().filter_map(|n| Some(n.as_str()?.to_owned()));
    seen.lock().runs.entry(key).or_default().extend(names);
    Ok(())
}

async fn watch_front_ends(groups: BTreeSet<String>, seen: Arc<Mutex<Seen>>) {
    let Ok(suite) = Suite::connect().await else {
        return;
    };
    let mut fronts = Vec::new();
    let mut listed: Option<Instant> = None;
    loop {
        if listed.is_none_or(|at| at.elapsed() > Duration::from_secs(1)) {
            fronts = pods(&suite, "front").await.unwrap_or_default();
            listed = Some(Instant::now());
        }
        let told = slots(&fronts).await;
        {
            let mut seen = seen.lock();
            seen.looks += u64::from(!told.is_empty());
            strands(&groups, &told, &mut seen);
        }
        tokio::time::sleep(FRONT_ENDS_EVERY).await;
    }
}

/// A strand begins when one waits beside a free slot, and lasts for as long as every look shows it again.
fn strands(
    groups: &BTreeSet<String>,
    told: &BTreeMap<String, BTreeMap<String, Slots>>,
    seen: &mut Seen,
) {
    let now = Instant::now();
    let mut stranded = HashSet::new();
    for group in groups {
        for (front, of_front) in told {
            let waits = of_front
                .get(group)
                .is_some_and(|own| own.waiting > 0 && own.free == 0);
            let beside = told.iter().any(|(other, of_other)| {
                other != front && of_other.get(group).is_some_and(|slots| slots.free > 0)
            });
            if waits && beside {
                stranded.insert((front.clone(), group.clone()));
            }
        }
    }
    seen.stranded_since.retain(|key, _| stranded.contains(key));
    for key in stranded {
        let since = *seen.stranded_since.entry(key).or_insert(now);
        seen.longest_strand = seen.longest_strand.max(now.duration_since(since));
    }
}
