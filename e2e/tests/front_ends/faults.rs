//! What is done to the processes, in random order, each kind equally often.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use e2e::cluster::ContainerOf;
use e2e::suite::PLATFORM_NAMESPACE;
use e2e::suite::front_ends::{PlatformPod, leading_scaler, pods};
use e2e::suite::wait::until;

use super::scene::Scene;

/// Container of instances.
const INSTANCE: &str = "app";
const FRONT: &str = "front";
const SCALER: &str = "scaler";
/// Longer than the front end and the scaler keep a stream on which nothing is heard.
const OUTAGE: Duration = Duration::from_secs(8);
/// Pause between two faults in milliseconds: from, to.
const PAUSE_MS: (u64, u64) = (1500, 5000);
const LIMIT: Duration = Duration::from_secs(120);

/// Kinds of faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// SIGKILL to a front end; its pod stays.
    KillFront,
    /// A front end's pod is deleted as an administrator does.
    DeleteFront,
    /// A front end is stopped in the middle of everything and goes on later.
    FreezeFront,
    /// No packet passes between a front end and the scalers.
    CutFront,
    /// SIGKILL to the leading scaler.
    KillLeader,
    /// The leading scaler's pod is deleted as an administrator does.
    DeleteLeader,
    /// SIGKILL to an instance; its pod stays.
    KillInstance,
    /// An instance's pod is deleted as an administrator does.
    DeleteInstance,
}

const KINDS: [Kind; 8] = [
    Kind::KillFront,
    Kind::DeleteFront,
    Kind::FreezeFront,
    Kind::CutFront,
    Kind::KillLeader,
    Kind::DeleteLeader,
    Kind::KillInstance,
    Kind::DeleteInstance,
];

/// One that happened.
#[derive(Clone, Debug)]
pub(super) struct Fault {
    pub(super) kind: Kind,
    /// The pod.
    pub(super) victim: String,
    /// The app, when the pod is an instance.
    pub(super) app: String,
    pub(super) at: Instant,
}

/// Faults of one run.
pub(super) struct Faults<'a> {
    scene: &'a Scene,
    coming: Vec<Kind>,
    happened: Vec<Fault>,
}

impl<'a> Faults<'a> {
    /// None yet.
    pub(super) fn new(scene: &'a Scene) -> Self {
        Self {
            scene,
            coming: Vec::new(),
            happened: Vec::new(),
        }
    }

    /// What happened.
    pub(super) fn log(&self) -> Vec<Fault> {
        self.happened.clone()
    }

    /// Does the next one and pauses. A victim that just died by itself is not a failure of the suite.
    pub(super) async fn next(&mut self, begin: Instant) -> Result<()> {
        if self.coming.is_empty() {
            self.coming = KINDS.to_vec();
            fastrand::shuffle(&mut self.coming);
        }
        let kind = self.coming.pop().expect("filled above");
        let app = fastrand::usize(..self.scene.apps.len());
        let victim = self.victim(kind, app).await?;
        if let Some(victim) = victim {
            println!(
                "{:5.1} s  {kind:?} {}",
                begin.elapsed().as_secs_f64(),
                victim.name
            );
            self.happened.push(Fault {
                kind,
                victim: victim.name.clone(),
                app: self.scene.apps[app].name.clone(),
                at: Instant::now(),
            });
            self.strike(kind, &victim).await?;
        }
        let pause = fastrand::u64(PAUSE_MS.0..=PAUSE_MS.1);
        tokio::time::sleep(Duration::from_millis(pause)).await;
        Ok(())
    }

    /// Waits until every process of the platform is back.
    pub(super) async fn settle(&self) -> Result<()> {
        for (component, count) in [(FRONT, 3), (SCALER, 2)] {
            until(
                &format!("every {component} to be back"),
                LIMIT,
                || pods(&self.scene.suite, component),
                |all| all.len() == count && all.iter().all(|pod| pod.serves),
            )
            .await?;
        }
        Ok(())
    }

    async fn victim(&self, kind: Kind, app: usize) -> Result<Option<Victim>> {
        let one = |all: Vec<PlatformPod>| {
            let serving: Vec<_> = all.into_iter().filter(|pod| pod.serves).collect();
            (!serving.is_empty()).then(|| serving[fastrand::usize(..serving.len())].name.clone())
        };
        let suite = &self.scene.suite;
        let (namespace, container, name) = match kind {
            Kind::KillFront | Kind::DeleteFront | Kind::FreezeFront | Kind::CutFront => {
                (PLATFORM_NAMESPACE, FRONT, one(pods(suite, FRONT).await?))
            }
            Kind::KillLeader | Kind::DeleteLeader => {
                (PLATFORM_NAMESPACE, SCALER, Some(leading_scaler(suite)?))
            }
            Kind::KillInstance | Kind::DeleteInstance => (
                self.scene.namespace.name.as_str(),
                INSTANCE,
                self.instance(app)?,
            ),
        };
        Ok(name.map(|name| Victim {
            namespace: namespace.to_owned(),
            name,
            container,
        }))
    }

    fn instance(&self, app: usize) -> Result<Option<String>> {
        let selector = format!(
            "{}={}",
            maniple_crds::names::APP_LABEL,
            self.scene.apps[app].name
        );
        let text = self.scene.suite.connection.kubectl().run(&[
            "get",
            "pods",
            "-n",
            &self.scene.namespace.name,
            "-l",
            &selector,
            "--field-selector",
            "status.phase=Running",
            "-o",
            "jsonpath={range .items[*]}{.metadata.name}{\"\\n\"}{end}",
        ])?;
        let names: Vec<&str> = text.lines().collect();
        Ok((!names.is_empty()).then(|| names[fastrand::usize(..names.len())].to_owned()))
    }

    async fn strike(&self, kind: Kind, victim: &Victim) -> Result<()> {
        let suite = &self.scene.suite;
        let cluster = suite.own_cluster()?;
        let container = victim.container();
        match kind {
            Kind::KillFront | Kind::KillLeader | Kind::KillInstance => {
                if let Err(error) = cluster.signal(&container, "SIGKILL") {
                    println!("         {error:#}");
                }
                Ok(())
            }
            Kind::DeleteFront | Kind::DeleteLeader | Kind::DeleteInstance => {
                let delete = ["delete", "pod", &victim.name, "-n", &victim.namespace];
                let kubectl = suite.connection.kubectl();
                kubectl
                    .run(&[delete.as_slice(), &["--wait=false", "--ignore-not-found"]].concat())
                    .map(drop)
            }
            Kind::FreezeFront => {
                cluster.signal(&container, "SIGSTOP")?;
                tokio::time::sleep(OUTAGE).await;
                cluster.signal(&container, "SIGCONT")
            }
            Kind::CutFront => {
                let scalers = pods(suite, SCALER).await.context("the scalers")?;
                let addresses: Vec<String> = scalers.iter().map(|pod| pod.ip.to_string()).collect();
                cluster.cut(&container, &addresses, true)?;
                tokio::time::sleep(OUTAGE).await;
                cluster.cut(&container, &addresses, false)
            }
        }
    }
}

struct Victim {
    namespace: String,
    name: String,
    container: &'static str,
}

impl Victim {
    fn container(&self) -> ContainerOf<'_> {
        ContainerOf {
            namespace: &self.namespace,
            pod: &self.name,
            container: self.container,
        }
    }
}
