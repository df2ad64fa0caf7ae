//! Instance counts on a real cluster: from zero to N and back, exactly N, by KEDA and by the scaler itself.

use anyhow::Result;
use e2e::suite::apps::{App, queue_function};
use e2e::suite::observe::{Counts, Group};
use e2e::suite::records::{Record, Records};
use e2e::suite::storage::fill;
use e2e::suite::wait::until;
use e2e::suite::{PLATFORM_NAMESPACE, Suite};
use maniple_crds::report::AppReport;
use maniple_sources::storage::QueueClient;
use serde_json::json;
use std::collections::HashSet;
use std::time::Duration;

/// The HPA looks every 15 s; a slow machine takes a few of its turns.
const LIMIT: Duration = Duration::from_secs(120);
/// Work that an instance of 512 MB takes at a time: `batchSize` 16 + `newBatchThreshold` 8 for one core.
const TARGET: usize = 24;
/// Backlogs in this order. Between 240 and 264, and 480 and 456, lie steps of less than 10 %, which an HPA would ignore.
const BACKLOGS: [usize; 7] = [1, 240, 264, 480, 456, 25, 0];

/// Sets the number of messages in a queue.
async fn set_length(queue: &QueueClient, now: usize, wanted: usize) -> Result<()> {
    if wanted > now {
        return fill(queue, wanted - now, "m").await;
    }
    let mut left = now - wanted;
    while left > 0 {
        let messages = queue
            .get_messages(Duration::from_secs(60), u32::try_from(left.min(32))?)
            .await?;
        for message in &messages {
            queue.delete_message(&message.receipt()).await?;
        }
        left -= messages.len();
    }
    Ok(())
}

/// The counts follow the formula at every step. The image does not exist, so nobody takes messages from the queue.
async fn counts_follow_the_backlog(driver: &str) -> Result<()> {
    let suite = Suite::connect().await?;
    let ns = suite.namespace("counts").await?;
    let name = format!("counts-{}", ns.name);
    let queue = suite.storage.queue(&name).await?;
    App::new(
        &suite,
        &ns.name,
        "shop",
        &[queue_function("orders", &name)],
        json!({}),
    )?
    .with(&["image"], json!("maniple.dev/absent:none"))
    .with(&["imagePullPolicy"], json!("Never"))
    .with(&["scaling"], json!({"driver": driver, "idleSeconds": 3}))
    .apply(&suite)
    .await?;
    let orders = Group::of(&suite, &ns.name, "shop", "function:orders")?;
    until("zero at rest", LIMIT, || orders.counts(), |c| c.asked == 0).await?;
    let mut length = 0;
    for backlog in BACKLOGS {
        set_length(&queue, length, backlog).await?;
        length = backlog;
        let wanted = i32::try_from(backlog.div_ceil(TARGET))?;
        let timeline = orders.record();
        until(
            &format!("{wanted} instances for {backlog} messages by {driver}"),
            LIMIT,
            || orders.counts(),
            |c| c.asked == wanted,
        )
        .await?;
        println!(
            "{driver}: {backlog:4} messages -> {wanted:3} instances after {:.1} s",
            timeline.started.elapsed().as_secs_f64()
        );
    }
    queue.delete_queue().await?;
    ns.remove().await
}

#[tokio::test]
async fn counts_follow_the_backlog_through_keda() -> Result<()> {
    counts_follow_the_backlog("Keda").await
}

#[tokio::test]
async fn counts_follow_the_backlog_natively() -> Result<()> {
    counts_follow_the_backlog("Native").await
}

/// Every message is worked on, the count stays below the limit, and the group ends at zero.
async fn work_is_done_and_the_group_ends_at_zero(driver: &str) -> Result<()> {
    const MESSAGES: usize = 300;
    const MOST: i32 = 5;
    let suite = Suite::connect().await?;
    let ns = suite.namespace("work").await?;
    let (input, output) = (format!("work-{}", ns.name), format!("done-{}", ns.name));
    let queue = suite.storage.queue(&input).await?;
    let mut records = Records::from(suite.storage.queue(&output).await?);
    App::new(
        &suite,
        &ns.name,
        "shop",
        &[queue_function("orders", &input)],
        json!({"sleepMs": 1500}),
    )?
    .setting("STANDIN_RESULTS_QUEUE", &output)
    .with(
        &[
            "functionAppConfig",
            "scaleAndConcurrency",
            "maximumInstanceCount",
        ],
        json!(MOST),
    )
    .with(&["scaling"], json!({"driver": driver, "idleSeconds": 5}))
    .apply(&suite)
    .await?;
    let orders = Group::of(&suite, &ns.name, "shop", "function:orders")?;
    until("zero at rest", LIMIT, || orders.counts(), |c| c.asked == 0).await?;
    let timeline = orders.record();
    fill(&queue, MESSAGES, "order").await?;
    let bodies = |seen: &[Record]| -> HashSet<String> {
        seen.iter()
            .filter(|r| r.is_done_message())
            .map(|r| r.body.clone())
            .collect()
    };
    records
        .until("every message to be done", LIMIT, |seen| {
            bodies(seen).len() == MESSAGES
        })
        .await?;
    until(
        "zero after the work",
        LIMIT,
        || orders.counts(),
        |c| *c == Counts { asked: 0, ready: 0 },
    )
    .await?;
    println!("{driver}: {MESSAGES} messages: {}", timeline.summary());
    let asked = timeline
        .changes()
        .iter()
        .map(|c| c.counts.asked)
        .max()
        .unwrap_or(0);
    assert_eq!(
        asked, MOST,
        "300 messages want 13 instances, the limit is {MOST}"
    );
    let poison = format!("{input}-poison");
    assert_eq!(
        suite
            .storage
            .queue(&poison)
            .await?
            .approximate_count()
            .await?,
        0,
        "messages were given up"
    );
    ns.remove().await
}

#[tokio::test]
async fn work_is_done_through_keda() -> Result<()> {
    work_is_done_and_the_group_ends_at_zero("Keda").await
}

#[tokio::test]
async fn work_is_done_natively() -> Result<()> {
    work_is_done_and_the_group_ends_at_zero("Native").await
}

#[tokio::test]
async fn both_replicas_of_the_scaler_give_the_same_answers() -> Result<()> {
    let suite = Suite::connect().await?;
    let ns = suite.namespace("same").await?;
    let name = format!("same-{}", ns.name);
    let queue = suite.storage.queue(&name).await?;
    App::new(
        &suite,
        &ns.name,
        "shop",
        &[queue_function("orders", &name)],
        json!({}),
    )?
    .with(&["image"], json!("maniple.dev/absent:none"))
    .with(&["imagePullPolicy"], json!("Never"))
    .apply(&suite)
    .await?;
    for backlog in [72, 0, 25] {
        queue.clear_messages().await?;
        fill(&queue, backlog, "m").await?;
        // At zero messages one instance stays through the idle window.
        let wanted = backlog.div_ceil(TARGET).max(1);
        until(
            &format!("both replicas to say {wanted} for {backlog} messages"),
            LIMIT,
            || async { reports(&suite, &ns.name, "shop") },
            |reports: &Vec<AppReport>| {
                reports.len() >= 2
                    && reports.iter().all(|r| *r == reports[0])
                    && reports[0]
                        .groups
                        .iter()
                        .all(|g| g.desired.is_some_and(|d| d as usize == wanted))
            },
        )
        .await?;
    }
    queue.delete_queue().await?;
    ns.remove().await
}

/// What each replica of the scaler says of an app.
fn reports(suite: &Suite, namespace: &str, app: &str) -> Result<Vec<AppReport>> {
    let kubectl = suite.connection.kubectl();
    let selector = "app.kubernetes.io/component=scaler";
    let pods = kubectl.run(&[
        "get",
        "pods",
        "-n",
        PLATFORM_NAMESPACE,
        "-l",
        selector,
        "-o",
        "name",
    ])?;
    pods.lines()
        .map(|pod| {
            let pod = pod.trim_start_matches("pod/");
            let path = format!("/api/v1/namespaces/{PLATFORM_NAMESPACE}/pods/{pod}:8082/proxy/v1/apps/{namespace}/{app}");
            Ok(serde_json::from_str(&kubectl.raw(&path)?)?)
        })
        .collect()
}
