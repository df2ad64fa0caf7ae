//! The HTTP scene: a burst from zero, with exact concurrency, and back to zero.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use futures::future::join_all;
use serde_json::json;

use super::{LIMIT, is_zero};
use crate::suite::apps::{App, PORT, http_function};
use crate::suite::http::{DOMAIN, counted, front, get, percentile};
use crate::suite::observe::Group;
use crate::suite::wait::until;
use crate::suite::{Suite, TestNamespace};

const APP: &str = "web";
/// Requests that an instance gets at a time.
const CONCURRENCY: u64 = 4;
/// Time that each request takes.
const WORK_MS: u64 = 250;
/// Clients of the burst, each with one request at a time.
const CLIENTS: usize = 24;
/// Requests of each client.
const REQUESTS: usize = 20;

/// Runs the scene and says in one line what was seen.
pub(super) async fn run(suite: &Suite, namespace: &TestNamespace) -> Result<String> {
    let address = front(suite).await.context("the front end's Service")?;
    println!(
        "4. HTTP: {CLIENTS} clients at once, {WORK_MS} ms for each request, {CONCURRENCY} at a time for each instance."
    );
    App::new(
        suite,
        &namespace.name,
        APP,
        &[http_function("hello")],
        json!({"sleepMs": WORK_MS}),
    )?
    .with(
        &["functionAppConfig", "scaleAndConcurrency", "triggers"],
        json!({"http": {"perInstanceConcurrency": CONCURRENCY}}),
    )
    .with(&["scaling"], json!({"idleSeconds": 10}))
    .apply(suite)
    .await?;
    let group = Group::of(suite, &namespace.name, APP, "http")?;
    until(
        "the HTTP group at zero",
        LIMIT,
        || group.counts(),
        |c| is_zero(*c),
    )
    .await?;
    let host = format!("{APP}.{}.{DOMAIN}", namespace.name);
    let path = "/api/hello";
    // Nothing of this path runs; it shows that the route is known.
    until(
        "the route",
        LIMIT,
        || get(address, &host, "/admin"),
        |answer| !answer.body.contains("unknown-host"),
    )
    .await?;

    let started = Instant::now();
    let timeline = group.record();
    let answered = Arc::new(AtomicUsize::new(0));
    let client = || async {
        let mut took = Vec::with_capacity(REQUESTS);
        for _ in 0..REQUESTS {
            let answer = get(address, &host, path).await?;
            ensure!(answer.status == 200, "{answer:?}");
            answered.fetch_add(1, Ordering::Relaxed);
            took.push((started.elapsed(), answer.took));
        }
        Ok(took)
    };
    let port = u16::try_from(PORT)?;
    let look = async {
        let mut most = 0;
        loop {
            tokio::time::sleep(Duration::from_millis(500)).await;
            let seen = counted(suite, &namespace.name, APP, port).await?;
            most = seen.iter().map(|c| c.most).max().unwrap_or(0).max(most);
            let done = answered.load(Ordering::Relaxed);
            println!(
                "   {:5.1} s   answered {done:4}   instances {:3}   most at a time on one instance {most}",
                started.elapsed().as_secs_f64(),
                seen.len(),
            );
            if done >= CLIENTS * REQUESTS {
                return Ok::<_, anyhow::Error>(most);
            }
            ensure!(
                started.elapsed() < LIMIT,
                "only {done} requests were answered"
            );
        }
    };
    let (took, most) = tokio::try_join!(
        async {
            join_all((0..CLIENTS).map(|_| client()))
                .await
                .into_iter()
                .collect::<Result<Vec<_>>>()
        },
        look
    )?;
    ensure!(
        most <= CONCURRENCY,
        "an instance had {most} requests at a time"
    );
    let first = took.iter().flatten().map(|(at, _)| *at).min();
    let mut each: Vec<Duration> = took.iter().flatten().map(|(_, took)| *took).collect();
    each.sort_unstable();
    let ms = |share| percentile(&each, share).as_secs_f64() * 1000.0;
    let latencies = format!(
        "p50 {:.0} ms, p90 {:.0} ms, p99 {:.0} ms",
        ms(0.5),
        ms(0.9),
        ms(0.99)
    );
    println!("   latencies, cold start included: {latencies}");
    until(
        "the HTTP group back at zero",
        LIMIT,
        || group.counts(),
        |c| is_zero(*c),
    )
    .await?;
    println!(
        "   instances over time (ready/asked): {}",
        timeline.summary()
    );
    Ok(format!(
        "  http:  {} requests -> first answer from zero after {:.0} ms -> {latencies} -> at most {most} at a time on one instance (limit {CONCURRENCY}) -> zero after {:.1} s",
        each.len(),
        first.context("no request was answered")?.as_secs_f64() * 1000.0,
        started.elapsed().as_secs_f64(),
    ))
}
