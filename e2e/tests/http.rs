//! HTTP from zero with exact concurrency: through the Service of the front end, counted by the instances themselves.

use anyhow::{Context as _, Result, ensure};
use e2e::suite::apps::{App, PORT, http_function};
use e2e::suite::http::{Answer, Counted, DOMAIN, counted, front, get};
use e2e::suite::load::{Clients, Door, Doors, Habit};
use e2e::suite::observe::{Counts, Group};
use e2e::suite::wait::until;
use e2e::suite::{PLATFORM_NAMESPACE, Suite};
use futures::future::join_all;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(120);
/// Requests that an instance gets at a time.
const C: u64 = 4;
/// Instances that the app may have.
const INSTANCES: u64 = 6;
/// Requests of a burst.
const BURST: usize = 200;
const NO_INSTANCE: Counts = Counts { asked: 0, ready: 0 };

struct Scene {
    suite: Suite,
    namespace: String,
    host: String,
    group: Group,
}

impl Scene {
    /// An app with one HTTP function that takes 200 ms, at rest.
    async fn new(suite: Suite, namespace: &str) -> Result<Self> {
        App::new(
            &suite,
            namespace,
            "web",
            &[http_function("hello")],
            serde_json::json!({"sleepMs": 200}),
        )?
        .with(
            &["functionAppConfig", "scaleAndConcurrency", "triggers"],
            serde_json::json!({"http": {"perInstanceConcurrency": C}}),
        )
        .with(
            &[
                "functionAppConfig",
                "scaleAndConcurrency",
                "maximumInstanceCount",
            ],
            serde_json::json!(INSTANCES),
        )
        .with(&["scaling"], serde_json::json!({"idleSeconds": 10}))
        .apply(&suite)
        .await?;
        let group = Group::of(&suite, namespace, "web", "http")?;
        until(
            "zero at rest",
            LIMIT,
            || group.counts(),
            |c| *c == NO_INSTANCE,
        )
        .await?;
        Ok(Self {
            suite,
            host: format!("web.{namespace}.{DOMAIN}"),
            namespace: namespace.to_owned(),
            group,
        })
    }

    async fn get(&self, path: &str) -> Result<Answer> {
        get(front(&self.suite).await?, &self.host, path).await
    }

    /// What the instances counted; fails when one ran more than it may.
    async fn within_the_limit(&self) -> Result<Vec<Counted>> {
        let port = u16::try_from(PORT)?;
        let counted = counted(&self.suite, &self.namespace, "web", port).await?;
        for instance in &counted {
            ensure!(instance.most <= C, "more than {C} at a time: {instance:?}");
        }
        Ok(counted)
    }
}

#[tokio::test]
async fn http_from_zero_with_exact_concurrency() -> Result<()> {
    let suite = Suite::connect().await?;
    let ns = suite.namespace("http").await?;
    let scene = Scene::new(suite, &ns.name).await?;
    closed_and_unknown(&scene).await.context("what is closed")?;
    burst_from_zero(&scene).await.context("burst")?;
    scale_in_cuts_nothing(&scene).await.context("scale-in")?;
    processes_die_under_load(&scene)
        .await
        .context("processes killed")?;
    ns.remove().await
}

/// Nothing of this starts an instance.
async fn closed_and_unknown(scene: &Scene) -> Result<()> {
    let address = front(&scene.suite).await?;
    let routed = || async { get(address, &scene.host, "/admin/host/status").await };
    let closed = until("the route", LIMIT, routed, |a| {
        !a.body.contains("unknown-host")
    })
    .await?;
    ensure!(closed.status == 404, "{closed:?}");
    let unknown = get(address, "nobody.example", "/").await?;
    ensure!(
        unknown.status == 404 && unknown.body.contains("unknown-host"),
        "{unknown:?}"
    );
    ensure!(scene.group.counts().await? == NO_INSTANCE);
    Ok(())
}

/// The first request is answered from zero, then many at once, each of them once.
async fn burst_from_zero(scene: &Scene) -> Result<()> {
    let first = scene.get("/api/hello").await?;
    ensure!(first.status == 200 && first.instance.is_some(), "{first:?}");
    println!(
        "http: first answer from zero after {:.0} ms",
        first.took.as_secs_f64() * 1000.0
    );
    let answers = join_all((0..BURST).map(|_| scene.get("/api/hello"))).await;
    for answer in answers {
        let answer = answer?;
        ensure!(answer.status == 200, "{answer:?}");
    }
    let counted = scene.within_the_limit().await?;
    println!("http: burst of {BURST}: {counted:?}");
    let runs: u64 = counted.iter().map(|c| c.started).sum();
    ensure!(
        runs == BURST as u64 + 1,
        "{runs} runs of {} requests: {counted:?}",
        BURST + 1
    );
    ensure!(counted.len() > 1, "one instance did everything");
    until(
        "zero after the burst",
        LIMIT,
        || scene.group.counts(),
        |c| *c == NO_INSTANCE,
    )
    .await?;
    Ok(())
}

/// Most clients go: the count only falls, instance by instance, and no request of those that stay is cut.
async fn scale_in_cuts_nothing(scene: &Scene) -> Result<()> {
    let doors = Doors::default();
    doors.set(vec![Door {
        name: "service".to_owned(),
        address: front(&scene.suite).await?,
    }]);
    let habit = Habit {
        host: scene.host.clone(),
        path: "/api/hello".to_owned(),
        work: (Duration::from_millis(100), Duration::from_millis(600)),
        reuse: 10,
        leaves_percent: 0,
    };
    let slots = usize::try_from(C * INSTANCES)?;
    let clients = Clients::start(slots, &habit, &doors);
    clients.all();
    until(
        "all instances",
        LIMIT,
        || scene.group.counts(),
        |c| c.ready == INSTANCES as i32,
    )
    .await?;
    let timeline = scene.group.record();
    until(
        "the timeline",
        LIMIT,
        || async { Ok(timeline.changes().len()) },
        |seen| *seen > 0,
    )
    .await?;
    // Fewer than one instance takes, and always spread anew over the front ends.
    clients.so_many(usize::try_from(C)? - 1);
    until(
        "one instance",
        LIMIT,
        || scene.group.counts(),
        |c| *c == Counts { asked: 1, ready: 1 },
    )
    .await?;
    clients.none();
    until(
        "the last answer",
        LIMIT,
        || async { Ok(clients.busy()) },
        |busy| *busy == 0,
    )
    .await?;
    println!("http: scale-in (ready/asked): {}", timeline.summary());
    let asked: Vec<i32> = timeline.changes().iter().map(|c| c.counts.asked).collect();
    ensure!(
        asked.is_sorted_by(|before, after| before >= after),
        "the count went up while demand fell: {}",
        timeline.summary()
    );
    let sent = clients.take();
    for one in &sent {
        ensure!(one.is_answered(), "a request was not answered: {one:?}");
    }
    println!("http: {} requests meanwhile, all answered", sent.len());
    scene.within_the_limit().await?;
    until(
        "zero after scale-in",
        LIMIT,
        || scene.group.counts(),
        |c| *c == NO_INSTANCE,
    )
    .await
    .map(drop)
}

/// Requests of clients that go on while a front end and the leading scaler die: only those that the dead front end had are lost.
async fn processes_die_under_load(scene: &Scene) -> Result<()> {
    const CLIENTS: usize = 12;
    const REQUESTS: usize = 60;
    let client = || async {
        let mut lost = 0_usize;
        for _ in 0..REQUESTS {
            match scene.get("/api/hello").await {
                Ok(answer) => ensure!(answer.status == 200, "{answer:?}"),
                // Not answered: it was with the front end that died, or on its way there.
                Err(_) => lost += 1,
            }
        }
        Ok(lost)
    };
    let kills = async {
        let kubectl = scene.suite.connection.kubectl();
        let delete = |pod: &str| {
            kubectl.run(&[
                "delete",
                "pod",
                pod,
                "-n",
                PLATFORM_NAMESPACE,
                "--force",
                "--grace-period=0",
            ])
        };
        until(
            "load on two instances",
            LIMIT,
            || scene.group.counts(),
            |c| c.ready >= 2,
        )
        .await?;
        let fronts = kubectl.get(&[
            "pods",
            "-n",
            PLATFORM_NAMESPACE,
            "-l",
            "app.kubernetes.io/component=front",
        ])?;
        let victim = fronts["items"][0]["metadata"]["name"].as_str();
        delete(victim.context("there is no front end")?)?;
        let lease = kubectl.get(&["lease", "maniple-scaler", "-n", PLATFORM_NAMESPACE])?;
        let holder = lease["spec"]["holderIdentity"].as_str().unwrap_or_default();
        let pod = holder.split('/').next().unwrap_or_default();
        delete(pod)?;
        scene.within_the_limit().await
    };
    let (lost, killed) = tokio::join!(join_all((0..CLIENTS).map(|_| client())), kills);
    killed?;
    let lost: usize = lost.into_iter().sum::<Result<usize>>()?;
    scene.within_the_limit().await?;
    println!(
        "http: {lost} of {} requests were with the front end that died",
        CLIENTS * REQUESTS
    );
    // One request at a time for each client; some need two tries until the Service has forgotten the address.
    ensure!(lost <= CLIENTS * 4, "{lost} requests were lost");
    Ok(())
}
