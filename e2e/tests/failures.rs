//! Failures: the source goes away, processes are killed. Nothing is lost, nothing goes to zero by mistake, and the status is
//! right afterwards.

use anyhow::{Context as _, Result};
use e2e::suite::apps::{App, queue_function};
use e2e::suite::observe::{Counts, Group, condition, objects_of};
use e2e::suite::records::Records;
use e2e::suite::storage::fill;
use e2e::suite::wait::{always, until};
use e2e::suite::{PLATFORM_NAMESPACE, Suite};
use serde_json::json;
use std::collections::HashSet;
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(120);
/// How long processes are killed.
const CHAOS: Duration = Duration::from_secs(180);
/// Pause between two kills, in seconds: from, to.
const PAUSE: (u64, u64) = (4, 12);

#[tokio::test]
async fn failures_one_after_the_other() -> Result<()> {
    // One test, because each of them stops parts that the other needs.
    storage_goes_and_comes_back()
        .await
        .context("storage stopped")?;
    processes_are_killed_at_random()
        .await
        .context("processes killed")?;
    an_app_is_deleted_while_keda_is_gone()
        .await
        .context("KEDA gone")
}

async fn storage_goes_and_comes_back() -> Result<()> {
    let suite = Suite::connect().await?;
    let cluster = suite.own_cluster()?.clone();
    let ns = suite.namespace("outage").await?;
    let mut groups = Vec::new();
    for driver in ["Keda", "Native"] {
        let name = format!("outage-{}-{}", driver.to_lowercase(), ns.name);
        let queue = suite.storage.queue(&name).await?;
        let app = driver.to_lowercase();
        App::new(
            &suite,
            &ns.name,
            &app,
            &[queue_function("orders", &name)],
            json!({}),
        )?
        .with(&["image"], json!("maniple.dev/absent:none"))
        .with(&["imagePullPolicy"], json!("Never"))
        .with(&["scaling"], json!({"driver": driver, "idleSeconds": 3}))
        .apply(&suite)
        .await?;
        fill(&queue, 72, "m").await?;
        groups.push((
            app,
            Group::of(
                &suite,
                &ns.name,
                driver.to_lowercase().as_str(),
                "function:orders",
            )?,
            queue,
        ));
    }
    for (app, group, _) in &groups {
        until(
            &format!("three instances of {app}"),
            LIMIT,
            || group.counts(),
            |c| c.asked == 3,
        )
        .await?;
    }

    cluster.stop("azurite")?;
    for (app, _, _) in &groups {
        let found = until(
            &format!("the condition of {app} to name the source"),
            LIMIT,
            || condition(&suite, &ns.name, app, "TriggersResolved"),
            |c| {
                c.as_ref().is_some_and(|(status, reason, _)| {
                    status == "False" && reason == "SourceUnreadable"
                })
            },
        )
        .await?;
        let message = found.context("no condition")?.2;
        assert!(
            message.contains("function orders (queueTrigger): "),
            "{message}"
        );
    }
    // Three turns of the HPA.
    for (app, group, _) in &groups {
        always(
            &format!("the count of {app} to hold"),
            Duration::from_secs(25),
            || group.counts(),
            |c| c.asked == 3,
        )
        .await?;
    }

    cluster.start("azurite")?;
    for (app, group, queue) in &groups {
        until(
            &format!("{app} to be well again"),
            LIMIT,
            || condition(&suite, &ns.name, app, "TriggersResolved"),
            |c| c.as_ref().is_some_and(|(status, _, _)| status == "True"),
        )
        .await?;
        queue.clear_messages().await?;
        until(
            &format!("{app} at zero"),
            LIMIT,
            || group.counts(),
            |c| c.asked == 0,
        )
        .await?;
    }
    ns.remove().await
}

/// KEDA puts a finalizer on every ScaledObject; without KEDA somebody else has to let it go.
async fn an_app_is_deleted_while_keda_is_gone() -> Result<()> {
    let suite = Suite::connect().await?;
    let ns = suite.namespace("orphan").await?;
    App::new(
        &suite,
        &ns.name,
        "shop",
        &[queue_function("orders", "orphan")],
        json!({}),
    )?
    .with(&["scaling"], json!({"driver": "Keda"}))
    .apply(&suite)
    .await?;
    let kubectl = suite.connection.kubectl();
    let finalizers = || async {
        let list = kubectl.get(&["scaledobjects.keda.sh", "-n", &ns.name])?;
        Ok(list["items"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|o| o["metadata"]["finalizers"].is_array())
            .count())
    };
    until("KEDA's finalizer", LIMIT, finalizers, |count| *count == 1).await?;
    let scale = |replicas: &str| {
        let replicas = format!("--replicas={replicas}");
        kubectl
            .run(&[
                "scale",
                "deployment",
                "keda-operator",
                "-n",
                "keda",
                &replicas,
            ])
            .map(drop)
    };
    scale("0")?;
    let gone = async {
        until(
            "KEDA's pod to go",
            LIMIT,
            || async {
                kubectl.run(&[
                    "get",
                    "pods",
                    "-n",
                    "keda",
                    "-l",
                    "app=keda-operator",
                    "-o",
                    "name",
                ])
            },
            String::is_empty,
        )
        .await?;
        kubectl.run(&[
            "delete",
            "functionapp",
            "shop",
            "-n",
            &ns.name,
            "--wait=false",
        ])?;
        until(
            "everything of the app to go",
            LIMIT * 2,
            || async {
                objects_of(
                    &suite,
                    &ns.name,
                    "shop",
                    "deployments,services,secrets,scaledobjects.keda.sh",
                )
            },
            Vec::is_empty,
        )
        .await
    }
    .await;
    scale("1")?;
    gone?;
    ns.remove().await
}

/// What is killed. The containers come back by the kubelet, the API server by the suite.
const VICTIMS: [&str; 4] = ["scaler", "operator", "keda-operator", "apiserver"];

async fn processes_are_killed_at_random() -> Result<()> {
    let suite = Suite::connect().await?;
    let ns = suite.namespace("chaos").await?;
    let mut apps = Vec::new();
    for driver in ["Keda", "Native"] {
        let name = driver.to_lowercase();
        let (input, output) = (
            format!("in-{name}-{}", ns.name),
            format!("out-{name}-{}", ns.name),
        );
        let queue = suite.storage.queue(&input).await?;
        let records = Records::from(suite.storage.queue(&output).await?);
        App::new(
            &suite,
            &ns.name,
            &name,
            &[queue_function("orders", &input)],
            json!({"sleepMs": 1000}),
        )?
        .setting("STANDIN_RESULTS_QUEUE", &output)
        // An instance that is cut gives its messages back soon, so that the suite need not wait for ten minutes.
        .setting("STANDIN_INVISIBLE_SECONDS", "20")
        .setting(
            "AzureFunctionsJobHost__extensions__queues__maxPollingInterval",
            "00:00:01",
        )
        // A message that is cut five times would be given up; here that is not a fault of the message.
        .setting(
            "AzureFunctionsJobHost__extensions__queues__maxDequeueCount",
            "100",
        )
        .with(
            &[
                "functionAppConfig",
                "scaleAndConcurrency",
                "maximumInstanceCount",
            ],
            json!(4),
        )
        .with(&["scaling"], json!({"driver": driver, "idleSeconds": 30}))
        .apply(&suite)
        .await?;
        let group = Group::of(&suite, &ns.name, &name, "function:orders")?;
        until(
            &format!("{name} at rest"),
            LIMIT,
            || group.counts(),
            |c| c.asked == 0,
        )
        .await?;
        apps.push((name, group, queue, records));
    }

    let mut put = 0;
    let batch = 40;
    let started = Instant::now();
    let mut kills = 0;
    let mut recorders = Vec::new();
    while started.elapsed() < CHAOS {
        for (_, _, queue, _) in &apps {
            for index in put..put + batch {
                fill(queue, 1, &format!("m{index}")).await?;
            }
        }
        put += batch;
        if recorders.is_empty() {
            for (name, group, _, _) in &apps {
                until(
                    &format!("{name} to wake"),
                    LIMIT,
                    || group.counts(),
                    |c| c.asked > 0,
                )
                .await?;
                recorders.push(group.record());
            }
        }
        let victim = VICTIMS[fastrand::usize(..VICTIMS.len())];
        println!("{:5.0} s  kill {victim}", started.elapsed().as_secs_f64());
        kill(&suite, victim)?;
        kills += 1;
        tokio::time::sleep(Duration::from_secs(fastrand::u64(PAUSE.0..=PAUSE.1))).await;
    }
    // New work never stopped, so no group may have been at zero.
    for (recorder, (name, _, _, _)) in recorders.iter().zip(&apps) {
        println!("{name}: instances (ready/asked): {}", recorder.summary());
        let zero = recorder.changes().iter().any(|c| c.counts.asked == 0);
        assert!(
            !zero,
            "{name} went to zero while there was work: {}",
            recorder.summary()
        );
    }
    println!("{kills} kills, {put} messages for each app");
    for (name, group, _, records) in &mut apps {
        let bodies = |seen: &[e2e::suite::records::Record]| -> usize {
            seen.iter()
                .filter(|r| r.is_done_message())
                .map(|r| r.body.as_str())
                .collect::<HashSet<_>>()
                .len()
        };
        records
            .until(&format!("every message of {name}"), LIMIT * 2, |seen| {
                bodies(seen) == put
            })
            .await?;
        until(
            &format!("{name} back at zero"),
            LIMIT * 2,
            || group.counts(),
            |c| *c == Counts { asked: 0, ready: 0 },
        )
        .await?;
        until(
            &format!("{name} to be ready"),
            LIMIT,
            || condition(&suite, &ns.name, name, "Ready"),
            |c| c.as_ref().is_some_and(|(status, _, _)| status == "True"),
        )
        .await?;
    }
    ns.remove().await
}

fn kill(suite: &Suite, victim: &str) -> Result<()> {
    match victim {
        "apiserver" => {
            let cluster = suite.own_cluster()?;
            cluster.kill("apiserver")?;
            cluster.start("apiserver")
        }
        "keda-operator" => kill_pod(suite, "keda", "app=keda-operator"),
        component => kill_pod(
            suite,
            PLATFORM_NAMESPACE,
            &format!("app.kubernetes.io/component={component}"),
        ),
    }
}

/// Removes one pod without any grace. Killing its process instead would make the kubelet wait longer after every kill.
fn kill_pod(suite: &Suite, namespace: &str, selector: &str) -> Result<()> {
    let kubectl = suite.connection.kubectl();
    let text = kubectl.run(&["get", "pods", "-n", namespace, "-l", selector, "-o", "name"])?;
    let names: Vec<&str> = text.lines().collect();
    let name = names
        .get(fastrand::usize(..names.len().max(1)))
        .with_context(|| format!("no pod {selector} to kill"))?;
    kubectl
        .run(&[
            "delete",
            name,
            "-n",
            namespace,
            "--grace-period=0",
            "--force",
            "--wait=false",
        ])
        .map(drop)
}
