//! A timer that fires every minute, with nothing running in between: one run for each due time, never two, through KEDA and
//! natively at the same time.

use anyhow::{Context as _, Result};
use e2e::suite::Suite;
use e2e::suite::apps::{App, timer_function};
use e2e::suite::observe::Group;
use e2e::suite::records::Records;
use e2e::suite::wait::until;
use jiff::{Timestamp, ToSpan as _};
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(120);
/// Due times that are watched.
const RUNS: usize = 3;

#[tokio::test]
async fn a_minute_timer_fires_once_for_each_due_time_from_zero() -> Result<()> {
    let suite = Suite::connect().await?;
    let (keda, native) = tokio::join!(every_minute(&suite, "Keda"), every_minute(&suite, "Native"));
    keda.context("through KEDA")?;
    native.context("natively")
}

async fn every_minute(suite: &Suite, driver: &str) -> Result<()> {
    let ns = suite.namespace("timer").await?;
    let output = format!("ticks-{}", ns.name);
    let mut records = Records::from(suite.storage.queue(&output).await?);
    App::new(
        suite,
        &ns.name,
        "clock",
        &[timer_function("tick", "0 * * * * *")],
        json!({}),
    )?
    .setting("STANDIN_RESULTS_QUEUE", &output)
    .with(&["scaling"], json!({"driver": driver}))
    .apply(suite)
    .await?;
    let tick = Group::of(suite, &ns.name, "clock", "function:tick")?;
    // A new version starts once, so that its status is written and no first run is missed; then it leaves.
    until("the first start", LIMIT, || tick.counts(), |c| c.ready == 1).await?;
    until(
        "zero after the first start",
        LIMIT,
        || tick.counts(),
        |c| c.asked == 0 && c.ready == 0,
    )
    .await?;
    let timeline = tick.record();
    let first = next_minute(Timestamp::now())?;
    let last = first.checked_add(i64::try_from(RUNS - 1)?.minutes())?;
    let limit = Duration::from_secs(60 * (RUNS as u64 + 1)) + LIMIT;
    records
        .until("the last run", limit, |seen| {
            seen.iter().any(|r| r.due == Some(last))
        })
        .await?;
    until(
        "zero after the last run",
        LIMIT,
        || tick.counts(),
        |c| c.asked == 0 && c.ready == 0,
    )
    .await?;
    // A second run of the last due time would come from an instance that is already gone.
    records.read().await?;

    let mut runs: BTreeMap<Timestamp, Vec<i64>> = BTreeMap::new();
    for record in &records.seen {
        let due = record.due.context("a run without due time")?;
        runs.entry(due)
            .or_default()
            .push(record.started.as_millisecond() - due.as_millisecond());
    }
    println!("{driver}: due -> late by (ms): {runs:?}");
    println!("{driver}: instances (ready/asked): {}", timeline.summary());
    for minute in 0..RUNS {
        let due = first.checked_add(i64::try_from(minute)?.minutes())?;
        let started = runs
            .get(&due)
            .with_context(|| format!("nothing ran at {due}"))?;
        assert_eq!(started.len(), 1, "{due} ran {} times", started.len());
    }
    let zeros = timeline
        .changes()
        .iter()
        .filter(|c| c.counts.asked == 0)
        .count();
    assert!(
        zeros >= RUNS,
        "the group was at zero only {zeros} times: {}",
        timeline.summary()
    );
    ns.remove().await
}

fn next_minute(now: Timestamp) -> Result<Timestamp> {
    Ok(Timestamp::from_second((now.as_second() / 60 + 1) * 60)?)
}
