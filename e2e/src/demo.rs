//! `make demo`: an app with a queue function and a timer function goes from zero to N instances and back.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use jiff::Timestamp;
use maniple_sources::storage::QueueClient;
use serde_json::{Value, json};

use crate::suite::apps::{App, queue_function, timer_function};
use crate::suite::observe::{Counts, Group};
use crate::suite::storage::fill;
use crate::suite::wait::until;
use crate::suite::{Suite, TestNamespace};

/// Messages of the burst.
const MESSAGES: usize = 480;
/// Messages that an instance of 512 MB takes at a time: `batchSize` 16 + `newBatchThreshold` 8.
const TARGET: usize = 24;
/// Time that each message takes.
const WORK_MS: u64 = 4000;
const APP: &str = "shop";
const RESULTS: &str = "demo-results";
/// A slow machine needs this long for each step; a healthy one needs seconds.
const LIMIT: Duration = Duration::from_secs(180);

/// Runs the demo and prints what happens.
///
/// # Errors
/// When something that should be seen is not seen.
pub async fn run() -> Result<()> {
    let suite = Suite::connect().await?;
    let namespace = suite.namespace("demo").await?;
    println!(
        "\nmaniple demo: FunctionApp `{APP}` in namespace {}",
        namespace.name
    );
    println!("  function `orders`: queue trigger, {WORK_MS} ms for each message");
    println!("  function `tick`:   timer trigger, every minute\n");
    let result = scenes(&suite, &namespace).await;
    if result.is_err() {
        println!(
            "\nThe namespace {} is left for a look: kubectl get fa,deploy,pods -n {0}",
            namespace.name
        );
    }
    let summary = result?;
    namespace.remove().await?;
    println!("\nWhat was seen\n{summary}");
    Ok(())
}

async fn scenes(suite: &Suite, namespace: &TestNamespace) -> Result<String> {
    let queue = format!("demo-orders-{}", &namespace.name);
    let results = format!("{RESULTS}-{}", &namespace.name);
    let (input, output) = (
        suite.storage.queue(&queue).await?,
        suite.storage.queue(&results).await?,
    );
    let functions = [
        queue_function("orders", &queue),
        timer_function("tick", "0 * * * * *"),
    ];
    App::new(
        suite,
        &namespace.name,
        APP,
        &functions,
        json!({"sleepMs": WORK_MS}),
    )?
    .setting("STANDIN_RESULTS_QUEUE", &results)
    .with(&["scaling", "idleSeconds"], json!(10))
    .apply(suite)
    .await?;
    let orders = Group::of(suite, &namespace.name, APP, "function:orders")?;
    let tick = Group::of(suite, &namespace.name, APP, "function:tick")?;

    println!("1. At rest: no message, no instance.");
    until(
        "the queue group at zero",
        LIMIT,
        || orders.counts(),
        |c| is_zero(*c),
    )
    .await?;

    println!(
        "2. {MESSAGES} messages. One instance works on {TARGET} at a time, so {} are wanted.",
        MESSAGES / TARGET
    );
    let filled = Instant::now();
    let timeline = orders.record();
    fill(&input, MESSAGES, "order").await?;
    println!("   filled in {:.1} s", filled.elapsed().as_secs_f64());
    let done = drain_and_print(&orders, &output, filled).await?;
    let most = timeline
        .changes()
        .iter()
        .map(|c| c.counts.asked)
        .max()
        .unwrap_or(0);
    until(
        "the queue group back at zero",
        LIMIT,
        || orders.counts(),
        |c| is_zero(*c),
    )
    .await?;
    let zero = filled.elapsed();
    println!(
        "   instances over time (ready/asked): {}",
        timeline.summary()
    );
    if most == 0 {
        bail!("no instance was asked for");
    }

    println!("3. The timer: no instance runs until just before it is due.");
    let run = next_timer_run(&tick, &output).await?;
    Ok(format!(
        "  queue: {MESSAGES} messages -> at most {most} instances asked for -> all done after {:.1} s -> zero after {:.1} s\n  timer: {run}",
        done.as_secs_f64(),
        zero.as_secs_f64(),
    ))
}

fn is_zero(counts: Counts) -> bool {
    counts == Counts { asked: 0, ready: 0 }
}

/// Prints one line a second until every message has its result.
async fn drain_and_print(
    orders: &Group,
    output: &QueueClient,
    filled: Instant,
) -> Result<Duration> {
    let mut done = 0;
    let mut printed = Instant::now();
    while done < MESSAGES {
        if filled.elapsed() > LIMIT {
            bail!(
                "only {done} of {MESSAGES} messages were done after {} s",
                LIMIT.as_secs()
            );
        }
        done += results(output)
            .await?
            .iter()
            .filter(|r| r["kind"] == "queue" && r["outcome"] == "succeeded")
            .count();
        if printed.elapsed() >= Duration::from_secs(1) || done >= MESSAGES {
            printed = Instant::now();
            let counts = orders.counts().await?;
            println!(
                "   {:5.1} s   done {done:4}   instances {:3} ready of {:3}",
                filled.elapsed().as_secs_f64(),
                counts.ready,
                counts.asked
            );
        }
    }
    Ok(filled.elapsed())
}

/// Waits for a run that began after the group had been at zero.
async fn next_timer_run(tick: &Group, output: &QueueClient) -> Result<String> {
    let at_zero = Timestamp::now();
    until(
        "the timer group at zero",
        LIMIT,
        || tick.counts(),
        |c| is_zero(*c),
    )
    .await?;
    let timeline = tick.record();
    let run = until(
        "a timer run",
        LIMIT,
        || async {
            let runs = results(output).await?;
            Ok(runs
                .into_iter()
                .find(|r| r["kind"] == "timer" && started(r).is_ok_and(|s| s > at_zero)))
        },
        Option::is_some,
    )
    .await?
    .context("until returned without a run")?;
    let due: Timestamp = run["due"]
        .as_str()
        .context("a run without due time")?
        .parse()?;
    let late = started(&run)?.as_millisecond() - due.as_millisecond();
    let woken = timeline
        .changes()
        .iter()
        .find(|c| c.counts.asked > 0)
        .map(|c| c.at.duration_since(timeline.started));
    until(
        "the timer group back at zero",
        LIMIT,
        || tick.counts(),
        |c| is_zero(*c),
    )
    .await?;
    println!(
        "   instances over time (ready/asked): {}",
        timeline.summary()
    );
    Ok(format!(
        "fired from zero at {} UTC, late by {late} ms (instance asked for {:.1} s after the watch began)",
        due.strftime("%H:%M:%S"),
        woken.unwrap_or_default().as_secs_f64()
    ))
}

fn started(run: &Value) -> Result<Timestamp> {
    Ok(run["started"]
        .as_str()
        .context("a run without start")?
        .parse()?)
}

/// Takes the records that the stand-in wrote since the last call.
async fn results(output: &QueueClient) -> Result<Vec<Value>> {
    let mut records = Vec::new();
    loop {
        let messages = output.get_messages(Duration::from_secs(60), 32).await?;
        if messages.is_empty() {
            return Ok(records);
        }
        for message in messages {
            records.push(serde_json::from_str(&message.message_text)?);
            output.delete_message(&message.receipt()).await?;
        }
    }
}
