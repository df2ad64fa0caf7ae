//! Three apps of different concurrency, three front ends, and clients for each app.

use std::time::Duration;

use anyhow::{Context as _, Result};
use e2e::suite::apps::{App, http_function};
use e2e::suite::front_ends::{deployment, pods};
use e2e::suite::http::{DOMAIN, front, get};
use e2e::suite::load::{Clients, Door, Doors, Habit, Sent};
use e2e::suite::observe::Group;
use e2e::suite::wait::until;
use e2e::suite::{PLATFORM_NAMESPACE, Suite, TestNamespace};
use parking_lot::Mutex;
use serde_json::json;
use tokio::task::JoinHandle;

use super::counts::Counts;

/// Concurrency and largest number of instances of each app.
const APPS: [(u64, u64); 3] = [(1, 5), (4, 3), (16, 2)];
/// Front ends of the suite, and what it leaves.
const FRONT_ENDS: (&str, &str) = ("--replicas=3", "--replicas=2");
/// Time that a request takes.
const WORK: (Duration, Duration) = (Duration::from_millis(150), Duration::from_millis(450));
/// Longest run of a function: so long are slots of a dead front end kept.
const FUNCTION_TIMEOUT: &str = "00:00:10";
const REQUEST_TIMEOUT_SECONDS: u64 = 20;
const LIMIT: Duration = Duration::from_secs(150);

/// One app with its clients.
pub(super) struct HttpApp {
    pub(super) name: String,
    /// Requests that an instance may have at a time.
    pub(super) concurrency: u64,
    most_instances: u64,
    pub(super) group: Group,
    /// As the metrics name it.
    pub(super) group_key: String,
    pub(super) load: Clients,
}

impl HttpApp {
    /// Instances that it may have.
    pub(super) fn most_instances(&self) -> u64 {
        self.most_instances
    }
}

/// Everything.
pub(super) struct Scene {
    pub(super) suite: Suite,
    pub(super) namespace: TestNamespace,
    pub(super) apps: Vec<HttpApp>,
    pub(super) counts: Counts,
    doors: Doors,
    follower: Mutex<Option<JoinHandle<()>>>,
}

impl Scene {
    /// Three front ends, three apps at zero with their routes known everywhere, clients that wait.
    pub(super) async fn new() -> Result<Self> {
        let suite = Suite::connect().await?;
        // Signals and packet filters need the machine of the cluster.
        suite.own_cluster()?;
        let kubectl = suite.connection.kubectl();
        let front_deployment = deployment();
        kubectl.run(&[
            "scale",
            "deployment",
            &front_deployment,
            FRONT_ENDS.0,
            "-n",
            PLATFORM_NAMESPACE,
        ])?;
        let namespace = suite.namespace("fronts").await?;
        let doors = Doors::default();
        let mut apps = Vec::new();
        for (concurrency, most_instances) in APPS {
            apps.push(app(&suite, &namespace.name, &doors, concurrency, most_instances).await?);
        }
        for app in &apps {
            until(
                "zero at rest",
                LIMIT,
                || app.group.counts(),
                |c| c.asked == 0 && c.ready == 0,
            )
            .await?;
        }
        let fronts = until(
            "three front ends",
            LIMIT,
            || pods(&suite, "front"),
            |all| all.len() == 3 && all.iter().all(|pod| pod.serves),
        )
        .await?;
        for pod in &fronts {
            for app in &apps {
                let host = format!("{}.{}.{DOMAIN}", app.name, namespace.name);
                let address = pod.door().address;
                until(
                    "the route",
                    LIMIT,
                    || get(address, &host, "/admin"),
                    |a| !a.body.contains("unknown-host"),
                )
                .await?;
            }
        }
        let counts = Counts::watch(&suite, &namespace.name, &apps);
        let scene = Self {
            suite,
            namespace,
            apps,
            counts,
            doors,
            follower: Mutex::default(),
        };
        scene.through_pods();
        Ok(scene)
    }

    /// Requests go straight to the front ends that serve: then it is known which of them had a request.
    fn through_pods(&self) {
        let (client, connection, doors) = (
            self.suite.client.clone(),
            self.suite.connection.clone(),
            self.doors.clone(),
        );
        let follower = tokio::spawn(async move {
            let Ok(mut suite) = Suite::connect().await else {
                return;
            };
            (suite.client, suite.connection) = (client, connection);
            loop {
                if let Ok(all) = pods(&suite, "front").await {
                    let open = all.iter().filter(|pod| pod.serves);
                    doors.set(
                        open.map(e2e::suite::front_ends::PlatformPod::door)
                            .collect(),
                    );
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        });
        *self.follower.lock() = Some(follower);
    }

    /// Requests go to the Service.
    pub(super) async fn through_the_service(&self) -> Result<()> {
        if let Some(follower) = self.follower.lock().take() {
            follower.abort();
        }
        self.doors.set(vec![Door {
            name: "service".to_owned(),
            address: front(&self.suite).await?,
        }]);
        Ok(())
    }

    /// Ready instances of each app.
    pub(super) async fn instances(&self) -> Result<Vec<u64>> {
        let mut ready = Vec::new();
        for app in &self.apps {
            ready.push(u64::try_from(app.group.counts().await?.ready)?);
        }
        Ok(ready)
    }

    /// Replica counts of each app.
    pub(super) async fn asked(&self) -> Result<Vec<i32>> {
        let mut asked = Vec::new();
        for app in &self.apps {
            asked.push(app.group.counts().await?.asked);
        }
        Ok(asked)
    }

    /// What clients sent since the last call, by app.
    pub(super) fn take(&self) -> Vec<Vec<Sent>> {
        self.apps.iter().map(|app| app.load.take()).collect()
    }

    /// Waits until no client has a request under way.
    pub(super) async fn at_rest(&self) -> Result<()> {
        until(
            "the last answer",
            LIMIT,
            || async { Ok(self.apps.iter().map(|app| app.load.busy()).sum::<usize>()) },
            |busy| *busy == 0,
        )
        .await
        .map(drop)
    }

    /// Replaces the pods of a Deployment one after the other.
    pub(super) async fn roll(&self, deployment: &str) -> Result<()> {
        let kubectl = self.suite.connection.kubectl();
        let name = format!("deployment/{deployment}");
        let component = deployment.rsplit('-').next().context("a name")?.to_owned();
        let before = pods(&self.suite, &component).await?;
        kubectl.run(&["rollout", "restart", &name, "-n", PLATFORM_NAMESPACE])?;
        // kubectl would block a thread that serves clients.
        until(
            "only new pods",
            LIMIT,
            || pods(&self.suite, &component),
            |now| {
                now.len() == before.len()
                    && now.iter().all(|pod| pod.serves)
                    && now
                        .iter()
                        .all(|pod| before.iter().all(|old| old.uid != pod.uid))
            },
        )
        .await
        .map(drop)
    }

    /// As many front ends as before.
    pub(super) fn restore(&self) -> Result<()> {
        let front_deployment = deployment();
        let kubectl = self.suite.connection.kubectl();
        let args = [
            "scale",
            "deployment",
            &front_deployment,
            FRONT_ENDS.1,
            "-n",
            PLATFORM_NAMESPACE,
        ];
        kubectl.run(&args).map(drop)
    }

    /// Removes what was made.
    pub(super) async fn remove(self) -> Result<()> {
        self.namespace.remove().await
    }
}

async fn app(
    suite: &Suite,
    namespace: &str,
    doors: &Doors,
    concurrency: u64,
    most_instances: u64,
) -> Result<HttpApp> {
    let name = format!("web{concurrency}");
    App::new(
        suite,
        namespace,
        &name,
        &[http_function("work")],
        json!({"sleepMs": 200}),
    )?
    .with(
        &["functionAppConfig", "scaleAndConcurrency", "triggers"],
        json!({"http": {"perInstanceConcurrency": concurrency}}),
    )
    .with(
        &[
            "functionAppConfig",
            "scaleAndConcurrency",
            "maximumInstanceCount",
        ],
        json!(most_instances),
    )
    .with(
        &["http"],
        json!({"requestTimeoutSeconds": REQUEST_TIMEOUT_SECONDS}),
    )
    .with(
        &["hostConfig"],
        json!({"functionTimeout": FUNCTION_TIMEOUT}),
    )
    .with(&["scaling"], json!({"idleSeconds": 5}))
    .apply(suite)
    .await?;
    let habit = Habit {
        host: format!("{name}.{namespace}.{DOMAIN}"),
        path: "/api/work".to_owned(),
        work: WORK,
        reuse: 8,
        leaves_percent: 5,
    };
    let clients = usize::try_from(concurrency * most_instances)?;
    Ok(HttpApp {
        group: Group::of(suite, namespace, &name, "http")?,
        group_key: format!("{namespace}/{name}/http"),
        load: Clients::start(clients, &habit, doors),
        name,
        concurrency,
        most_instances,
    })
}
