//! `make demo`: an app with a queue function and a timer function, and one with an HTTP function, go from zero to N instances and back.

mod http;

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};
use jiff::Timestamp;
use serde_json::json;

use crate::suite::apps::{App, queue_function, timer_function};
use crate::suite::observe::{Counts, Group};
use crate::suite::records::{Record, Records};
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

/// Arguments of the demo.
#[derive(Args, Clone, Copy, Debug)]
pub struct DemoArgs {
    /// Who writes the replica counts of the queue and the timer function. HTTP is always native.
    #[arg(long, value_enum, default_value = "native")]
    driver: Driver,
}

/// Who writes replica counts.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Driver {
    /// The scaler itself.
    Native,
    /// KEDA, which the cluster must have.
    Keda,
}

impl Driver {
    /// As `spec.scaling.driver` names it.
    fn name(self) -> &'static str {
        match self {
            Self::Native => "Native",
            Self::Keda => "Keda",
        }
    }
}

/// Runs the demo and prints what happens.
///
/// # Errors
/// When something that should be seen is not seen.
pub async fn run(args: DemoArgs) -> Result<()> {
    let suite = Suite::connect().await?;
    let namespace = suite.namespace("demo").await?;
    println!(
        "\nmaniple demo: FunctionApp `{APP}` in namespace {}",
        namespace.name
    );
    println!("  function `orders`: queue trigger, {WORK_MS} ms for each message");
    println!("  function `tick`:   timer trigger, every minute");
    println!("  driver:            {}\n", args.driver.name());
    let result = scenes(&suite, &namespace, args.driver).await;
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

async fn scenes(suite: &Suite, namespace: &TestNamespace, driver: Driver) -> Result<String> {
    let queue = format!("demo-orders-{}", &namespace.name);
    let results = format!("{RESULTS}-{}", &namespace.name);
    let input = suite.storage.queue(&queue).await?;
    let mut records = Records::from(suite.storage.queue(&results).await?);
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
    .with(
        &["scaling"],
        json!({"driver": driver.name(), "idleSeconds": 10}),
    )
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
    let (put, done) = tokio::join!(
        fill(&input, MESSAGES, "order"),
        drain_and_print(&orders, &mut records, filled)
    );
    put?;
    let done = done?;
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
    let run = next_timer_run(&tick, &mut records).await?;
    let http = http::run(suite, namespace).await?;
    Ok(format!(
        "  queue: {MESSAGES} messages -> at most {most} instances asked for -> all done after {:.1} s -> zero after {:.1} s\n  timer: {run}\n{http}",
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
    records: &mut Records,
    filled: Instant,
) -> Result<Duration> {
    let mut printed = Instant::now();
    loop {
        records.read().await?;
        let done = records.seen.iter().filter(|r| r.is_done_message()).count();
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
        if done >= MESSAGES {
            return Ok(filled.elapsed());
        }
        if filled.elapsed() > LIMIT {
            bail!(
                "only {done} of {MESSAGES} messages were done after {} s",
                LIMIT.as_secs()
            );
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Waits for a run that began after the group had been at zero.
async fn next_timer_run(tick: &Group, records: &mut Records) -> Result<String> {
    until(
        "the timer group at zero",
        LIMIT,
        || tick.counts(),
        |c| is_zero(*c),
    )
    .await?;
    let at_zero = Timestamp::now();
    let timeline = tick.record();
    let from_zero = |r: &Record| r.kind == "timer" && r.started > at_zero;
    records
        .until("a timer run", LIMIT, |seen| seen.iter().any(from_zero))
        .await?;
    let run = records
        .seen
        .iter()
        .find(|r| from_zero(r))
        .context("until returned without a run")?;
    let due = run.due.context("a run without due time")?;
    let late = run.started.as_millisecond() - due.as_millisecond();
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
        "fired from zero at {} UTC, late by {late} ms",
        due.strftime("%H:%M:%S")
    ))
}
