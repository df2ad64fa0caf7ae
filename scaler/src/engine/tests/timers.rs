use super::bench::Bench;
use serde_json::{Value, json};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

/// A timer every five minutes.
async fn bench() -> Bench {
    let mut bench = Bench::new().await;
    bench
        .app(
            "a",
            json!({"type": "timerTrigger", "schedule": "0 */5 * * * *"}),
            json!({}),
        )
        .await;
    bench.deployment("a", 0, 0).await;
    bench
}

fn blob(last: &str, next: &str) -> Value {
    let time = |text: &str| format!("2026-06-01T{text}+00:00");
    json!({"Last": time(last), "Next": time(next), "LastUpdated": time(last)})
}

#[tokio::test(start_paused = true)]
async fn a_new_timer_is_started_once_to_store_its_status() {
    let mut bench = bench().await;
    assert_eq!(bench.desired("a"), None, "not read yet");
    bench.status(None).await;
    assert_eq!(bench.desired("a"), Some(1));
    assert_eq!(bench.report("a").reason, "Timer");
    assert_eq!(
        bench.played.interval("f"),
        Some(SECOND),
        "the blob is expected"
    );
    bench.deployment("a", 1, 1).await;
    bench.pass(3 * SECOND).await;
    assert_eq!(bench.desired("a"), Some(1));
    bench.status(Some(blob("12:00:03", "12:05:00"))).await;
    assert_eq!(bench.desired("a"), Some(0), "no idle window behind a timer");
    assert!(bench.played.interval("f") > Some(60 * SECOND));
}

#[tokio::test(start_paused = true)]
async fn woken_ahead_kept_until_recorded_and_let_go() {
    let mut bench = bench().await;
    bench.status(Some(blob("11:55:00", "12:05:00"))).await;
    // The stored Next does not follow from Last: the host has to see the new schedule once.
    assert_eq!(bench.desired("a"), Some(1));
    bench.status(Some(blob("12:00:00", "12:05:00"))).await;
    assert_eq!(bench.desired("a"), Some(0));
    bench.pass(270 * SECOND).await;
    assert_eq!(bench.desired("a"), Some(0), "30 s before the run");
    bench.pass(12 * SECOND).await;
    assert_eq!(
        bench.desired("a"),
        Some(1),
        "20 s ahead, because nothing is known of starts yet"
    );
    bench.pass(3 * SECOND).await;
    bench.deployment("a", 1, 1).await;
    // The run begins on time and takes a minute; until it is recorded the instance stays.
    bench.pass(75 * SECOND).await;
    assert_eq!(bench.desired("a"), Some(1));
    bench.status(Some(blob("12:05:00", "12:10:00"))).await;
    assert_eq!(bench.desired("a"), Some(0));

    // A start took about 5 s: next time it is woken about 7 s ahead.
    bench.deployment("a", 0, 0).await;
    let begin = bench.clock_now();
    let left = begin.duration_until("2026-06-01T12:10:00Z".parse().unwrap());
    let left = Duration::try_from(left).unwrap();
    bench.pass(left.saturating_sub(10 * SECOND)).await;
    assert_eq!(bench.desired("a"), Some(0));
    bench.pass(5 * SECOND).await;
    assert_eq!(bench.desired("a"), Some(1));
}

#[tokio::test(start_paused = true)]
async fn an_unreadable_status_holds_and_the_clock_still_wakes() {
    let mut bench = bench().await;
    bench.status(Some(blob("12:00:00", "12:05:00"))).await;
    bench.deployment("a", 0, 0).await;
    bench.status_fails().await;
    assert_eq!(bench.desired("a"), None, "zero is never said for unknown");
    assert_eq!(bench.metrics.unknown_sources("unreachable"), 1);
    bench.pass(285 * SECOND).await;
    assert_eq!(bench.desired("a"), Some(1), "the run is due");
    bench.deployment("a", 1, 1).await;
    bench.pass(60 * SECOND).await;
    assert_eq!(
        bench.desired("a"),
        Some(1),
        "kept while nobody can tell whether it ran"
    );
    bench.status(Some(blob("12:05:00", "12:10:00"))).await;
    assert_eq!(bench.desired("a"), Some(0));
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_forward_does_not_skip_a_run() {
    let mut bench = bench().await;
    bench.status(Some(blob("12:00:00", "12:05:00"))).await;
    bench.deployment("a", 0, 0).await;
    assert_eq!(bench.desired("a"), Some(0));
    bench.clock.step(600_000);
    bench.pass(2 * SECOND).await;
    assert_eq!(bench.desired("a"), Some(1));
}

#[tokio::test(start_paused = true)]
async fn timers_without_a_stored_status_keep_an_instance() {
    let bench = Bench::new().await;
    bench
        .app(
            "a",
            json!({"type": "timerTrigger", "schedule": "*/10 * * * * *"}),
            json!({}),
        )
        .await;
    assert_eq!(bench.desired("a"), Some(1));
    bench
        .app(
            "b",
            json!({"type": "timerTrigger", "schedule": "0 0 3 * * *", "useMonitor": false}),
            json!({}),
        )
        .await;
    assert_eq!(bench.desired("b"), Some(1));
    assert!(bench.report("b").message.contains("useMonitor is false"));
}

#[tokio::test(start_paused = true)]
async fn a_schedule_that_cannot_be_read_is_named_and_changes_nothing() {
    let mut bench = Bench::new().await;
    bench
        .app(
            "a",
            json!({"type": "timerTrigger", "schedule": "often"}),
            json!({}),
        )
        .await;
    bench.deployment("a", 1, 1).await;
    assert_eq!(bench.desired("a"), None);
    assert!(
        bench.report("a").sources[0]
            .error
            .clone()
            .unwrap()
            .contains("often")
    );
}
