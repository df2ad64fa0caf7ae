//! The promises of the front end while its processes, the scaler's and the instances die, freeze, are cut off and are replaced:
//! no instance ever runs more requests at a time than its concurrency, every request is answered once or refused cleanly,
//! nobody waits beside a free slot, and in the end nothing is left.
//!
//! `MANIPLE_CHAOS_SECONDS` makes the middle part longer.

mod counts;
mod faults;
mod scene;
mod verdict;

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use e2e::suite::front_ends::{self, members, pods, slots};
use e2e::suite::http::percentile;
use e2e::suite::wait::until;

use faults::Faults;
use scene::Scene;
use verdict::{Verdict, judge};

/// How long processes are hurt, when nobody says otherwise: every fault once and some more.
const CHAOS: Duration = Duration::from_secs(100);
const CHAOS_VARIABLE: &str = "MANIPLE_CHAOS_SECONDS";
/// How long as many clients run as there are slots.
const CALM: Duration = Duration::from_secs(12);
/// A request that waits longer beside a free slot was forgotten: moving one takes two round trips, and the slowest repair of a lost message, the
/// report that front ends make at rest, comes every second.
const STUCK: Duration = Duration::from_secs(3);
const LIMIT: Duration = Duration::from_secs(150);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn front_ends_keep_their_promises_whatever_dies() -> Result<()> {
    let scene = Scene::new().await?;
    let result = story(&scene).await;
    scene.restore()?;
    result?;
    scene.remove().await
}

async fn story(scene: &Scene) -> Result<()> {
    calm(scene).await.context("as many clients as slots")?;
    chaos(scene).await.context("everything dies")?;
    roll(scene).await.context("rolling upgrades")?;
    nothing_is_left(scene).await.context("the end")
}

/// Clients and slots are equal in number and spread at random, so that a free slot is always somewhere, and mostly elsewhere.
async fn calm(scene: &Scene) -> Result<()> {
    for app in &scene.apps {
        app.load.all();
    }
    until(
        "every instance",
        LIMIT,
        || scene.instances(),
        |ready| {
            ready
                .iter()
                .zip(&scene.apps)
                .all(|(ready, app)| *ready == app.most_instances())
        },
    )
    .await?;
    scene.take();
    let begin = Instant::now();
    tokio::time::sleep(CALM).await;
    let sent = scene.take();
    for (app, sent) in scene.apps.iter().zip(&sent) {
        let verdict = judge(app, sent, &[]);
        verdict.require()?;
        let mut waits: Vec<Duration> = sent
            .iter()
            .filter(|s| s.started > begin && s.is_answered())
            .map(e2e::suite::load::Sent::waited)
            .collect();
        waits.sort_unstable();
        let ms = |share| percentile(&waits, share).as_secs_f64() * 1000.0;
        println!(
            "calm   {:5} {} requests, beyond their work: p50 {:.0} ms, p99 {:.0} ms, most {:.0} ms",
            app.name,
            waits.len(),
            ms(0.5),
            ms(0.99),
            ms(1.0)
        );
        ensure!(!waits.is_empty(), "{}: no request", app.name);
        ensure!(
            percentile(&waits, 1.0) < STUCK,
            "{}: a request waited for {:.0} ms although there was a slot for every client",
            app.name,
            ms(1.0)
        );
    }
    scene.counts.within_limits(scene)?;
    ensure!(
        scene.counts.longest_strand() < STUCK,
        "a request waited beside a free slot for {:?}",
        scene.counts.longest_strand()
    );
    Ok(())
}

async fn chaos(scene: &Scene) -> Result<()> {
    let length = match std::env::var(CHAOS_VARIABLE) {
        Ok(text) => Duration::from_secs(text.parse().context(CHAOS_VARIABLE)?),
        Err(_) => CHAOS,
    };
    scene.take();
    let mut faults = Faults::new(scene);
    let begin = Instant::now();
    while begin.elapsed() < length {
        for app in &scene.apps {
            app.load.some();
        }
        faults.next(begin).await?;
    }
    faults.settle().await?;
    // Requests of the last fault end.
    for app in &scene.apps {
        app.load.none();
    }
    scene.at_rest().await?;
    let sent = scene.take();
    let log = faults.log();
    let mut problems = Vec::new();
    for (app, sent) in scene.apps.iter().zip(&sent) {
        let verdict = judge(app, sent, &log);
        println!("chaos  {:5} {verdict}", app.name);
        problems.push(verdict);
    }
    println!(
        "chaos  longest that a request waited at one front end while another had a free slot, outages included: {:.1} s",
        scene.counts.longest_strand().as_secs_f64()
    );
    problems.iter().try_for_each(Verdict::require)?;
    scene.counts.within_limits(scene)?;
    scene.counts.ran_once(&sent.concat())
}

/// Under load through the Service, as users have it.
async fn roll(scene: &Scene) -> Result<()> {
    scene.through_the_service().await?;
    for app in &scene.apps {
        app.load.half();
    }
    for deployment in [front_ends::deployment(), "maniple-scaler".to_owned()] {
        let begin = Instant::now();
        scene.take();
        scene.roll(&deployment).await?;
        let took = begin.elapsed();
        let sent = scene.take();
        for (app, sent) in scene.apps.iter().zip(&sent) {
            let verdict = judge(app, sent, &[]);
            println!(
                "roll   {:5} {deployment} in {:.0} s: {verdict}",
                app.name,
                took.as_secs_f64()
            );
            verdict.require()?;
            ensure!(!sent.is_empty(), "{}: no request", app.name);
        }
        scene.counts.ran_once(&sent.concat())?;
    }
    scene.counts.within_limits(scene)
}

/// Zero instances, empty books, and in the record only the front ends that live.
async fn nothing_is_left(scene: &Scene) -> Result<()> {
    for app in &scene.apps {
        app.load.none();
    }
    let begin = Instant::now();
    until(
        "no instance",
        LIMIT,
        || scene.asked(),
        |asked| asked.iter().all(|count| *count == 0),
    )
    .await?;
    println!(
        "end    zero instances after {:.0} s",
        begin.elapsed().as_secs_f64()
    );
    let fronts = pods(&scene.suite, "front").await?;
    let of_ours = |group: &str| scene.apps.iter().any(|app| app.group_key == group);
    until(
        "empty books",
        LIMIT,
        || async {
            let seen = slots(&fronts).await;
            ensure!(seen.len() == fronts.len(), "not every front end answers");
            let mut left = Vec::new();
            for (pod, groups) in seen {
                let full = groups.into_iter().filter(|(group, slots)| {
                    of_ours(group) && *slots != front_ends::Slots::default()
                });
                left.extend(full.map(|(group, slots)| (pod.clone(), group, slots)));
            }
            Ok(left)
        },
        Vec::is_empty,
    )
    .await?;
    let mut live: Vec<String> = fronts.iter().map(|pod| pod.uid.replace('-', "")).collect();
    live.sort_unstable();
    until(
        "a record without the dead",
        LIMIT,
        || async {
            let mut named = members(&scene.suite)?;
            named.sort_unstable();
            Ok(named)
        },
        |named| *named == live,
    )
    .await?;
    println!(
        "end    books empty, the record names {} front ends",
        live.len()
    );
    Ok(())
}
