use super::bench::Bench;
use crate::grpc::Answer;
use serde_json::json;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn from_zero_to_the_formula_and_back_after_the_idle_window() {
    let mut bench = Bench::new().await;
    bench.queue_app("a", json!({})).await;
    bench.deployment("a", 0, 0).await;
    assert!(
        matches!(bench.answer("a"), Answer::Unknown { .. }),
        "not read yet"
    );
    bench.messages("a", 0).await;
    assert_eq!(bench.desired("a"), Some(0));
    for (backlog, desired) in [
        (1, 1),
        (24, 1),
        (25, 2),
        (240, 10),
        (241, 11),
        (264, 11),
        (24_000, 100),
    ] {
        bench.messages("a", backlog).await;
        assert_eq!(bench.desired("a"), Some(desired), "{backlog} messages");
    }
    bench.deployment("a", 100, 100).await;
    bench.messages("a", 30).await;
    assert_eq!(bench.desired("a"), Some(2));
    bench.messages("a", 0).await;
    assert_eq!(
        bench.desired("a"),
        Some(1),
        "the last one stays through the window"
    );
    bench.pass(58 * SECOND).await;
    assert_eq!(bench.desired("a"), Some(1));
    bench.pass(3 * SECOND).await;
    assert_eq!(bench.desired("a"), Some(0));
    assert_eq!(bench.report("a").reason, "Idle");
}

#[tokio::test(start_paused = true)]
async fn the_idle_window_counts_from_the_last_work_and_not_from_its_last_change() {
    let mut bench = Bench::new().await;
    bench.queue_app("a", json!({})).await;
    bench.deployment("a", 1, 1).await;
    bench.messages("a", 7).await;
    // Seven messages for ten minutes: nothing changes, nothing is computed.
    for _ in 0..600 {
        bench.messages("a", 7).await;
        bench.pass(SECOND).await;
    }
    bench.messages("a", 0).await;
    assert_eq!(bench.desired("a"), Some(1));
    bench.pass(55 * SECOND).await;
    assert_eq!(bench.desired("a"), Some(1));
    bench.pass(10 * SECOND).await;
    assert_eq!(bench.desired("a"), Some(0));
}

#[tokio::test(start_paused = true)]
async fn an_unreadable_queue_holds_the_count_and_recovers_by_itself() {
    let mut bench = Bench::new().await;
    bench.queue_app("a", json!({})).await;
    bench.deployment("a", 5, 5).await;
    bench.messages("a", 100).await;
    assert_eq!(bench.desired("a"), Some(5));
    bench.queue_fails("a", "unreachable").await;
    bench.pass(600 * SECOND).await;
    assert_eq!(bench.desired("a"), Some(5));
    let report = bench.report("a");
    assert_eq!(report.reason, "HoldUnknown");
    let error = report.sources[0].error.clone().unwrap();
    assert!(error.contains("queue of account a: unreachable"), "{error}");
    assert!(error.contains("2026-06-01T12:00:"), "since when: {error}");
    assert_eq!(bench.metrics.unknown_sources("unreachable"), 1);

    bench.messages("a", 0).await;
    assert_eq!(
        bench.desired("a"),
        Some(1),
        "work may have come unseen: a whole window"
    );
    bench.pass(50 * SECOND).await;
    assert_eq!(bench.desired("a"), Some(1));
    bench.pass(12 * SECOND).await;
    assert_eq!(bench.desired("a"), Some(0));
    assert_eq!(bench.metrics.unknown_sources("unreachable"), 0);
}

#[tokio::test(start_paused = true)]
async fn an_unreadable_queue_at_zero_is_no_zero() {
    let mut bench = Bench::new().await;
    bench.queue_app("a", json!({})).await;
    bench.deployment("a", 0, 0).await;
    bench.messages("a", 0).await;
    assert_eq!(bench.desired("a"), Some(0));
    bench.queue_fails("a", "timeout").await;
    assert!(matches!(bench.answer("a"), Answer::Unknown { .. }));
}

#[tokio::test(start_paused = true)]
async fn a_poller_that_hangs_is_noticed() {
    let mut bench = Bench::new().await;
    bench.queue_app("a", json!({})).await;
    bench.deployment("a", 2, 2).await;
    bench.messages("a", 30).await;
    bench.pass(250 * SECOND).await;
    assert_eq!(bench.report("a").reason, "HoldUnknown");
    assert_eq!(bench.desired("a"), Some(2));
    bench.messages("a", 100).await;
    assert_eq!(bench.desired("a"), Some(5));
}

#[tokio::test(start_paused = true)]
async fn a_refused_credential_asks_for_the_settings_once() {
    let mut bench = Bench::new().await;
    bench.queue_app("a", json!({})).await;
    bench.deployment("a", 0, 0).await;
    bench.queue_fails("a", "unauthorized").await;
    bench.queue_fails("a", "unauthorized").await;
    bench.pass(10 * SECOND).await;
    assert_eq!(bench.refused.try_recv().unwrap().to_string(), "ns/a");
    assert!(bench.refused.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn a_changed_spec_counts_at_once_and_keeps_its_sources() {
    let mut bench = Bench::new().await;
    bench.queue_app("a", json!({})).await;
    bench.deployment("a", 0, 0).await;
    bench.messages("a", 2400).await;
    assert_eq!(bench.desired("a"), Some(100));
    let config = |max: u32| json!({"functionAppConfig": {"scaleAndConcurrency": {"maximumInstanceCount": max}}});
    bench.queue_app("a", config(40)).await;
    assert_eq!(bench.desired("a"), Some(40), "without a new reading");
    assert_eq!(bench.report("a").reason, "Capped");
    let mut floor = config(40);
    floor["functionAppConfig"]["scaleAndConcurrency"]["alwaysReady"] =
        json!([{"name": "function:f", "instanceCount": 3}]);
    bench.queue_app("a", floor).await;
    assert_eq!(
        bench.desired("a"),
        Some(43),
        "always-ready instances come on top"
    );
    bench.messages("a", 0).await;
    assert_eq!(bench.desired("a"), Some(3));

    bench
        .queue_app("a", json!({"scaling": {"mode": "Paused"}}))
        .await;
    assert!(matches!(bench.answer("a"), Answer::Paused { .. }));
}

#[tokio::test(start_paused = true)]
async fn a_deleted_app_is_followed_no_longer() {
    let mut bench = Bench::new().await;
    bench.queue_app("a", json!({})).await;
    bench.deployment("a", 0, 0).await;
    bench.messages("a", 30).await;
    assert!(bench.played.is_followed("a"));
    bench.app_gone("a").await;
    assert_eq!(bench.answer("a"), Answer::NotFound);
    assert!(!bench.played.is_followed("a"));
    assert!(
        bench
            .book
            .report(&crate::index::AppKey::new("ns", "a"))
            .is_none()
    );
}

#[tokio::test(start_paused = true)]
async fn nothing_is_said_before_the_lists_are_complete() {
    let mut bench = Bench::unlisted(super::bench::leading());
    bench.queue_app("a", json!({})).await;
    bench.deployment("a", 4, 4).await;
    bench.messages("a", 0).await;
    assert!(matches!(bench.answer("a"), Answer::Unknown { .. }));
    assert_eq!(bench.computations(), 0);
    bench.list().await;
    assert_eq!(
        bench.desired("a"),
        Some(1),
        "the idle window begins anew after a restart"
    );
}

#[tokio::test(start_paused = true)]
async fn instances_that_lag_behind_do_not_change_the_number() {
    let mut bench = Bench::new().await;
    bench.queue_app("a", json!({})).await;
    bench.deployment("a", 0, 0).await;
    bench.messages("a", 240).await;
    for replicas in [1, 4, 9, 10] {
        bench.deployment("a", replicas, 0).await;
        let known = Answer::Known {
            desired: 10,
            observed: Some(replicas),
        };
        assert_eq!(bench.answer("a"), known);
    }
}

#[tokio::test(start_paused = true)]
async fn a_step_of_the_wall_clock_neither_ends_nor_stretches_the_window() {
    let mut bench = Bench::new().await;
    bench.queue_app("a", json!({})).await;
    bench.deployment("a", 1, 1).await;
    bench.messages("a", 1).await;
    bench.messages("a", 0).await;
    bench.clock.step(3_600_000);
    bench.pass(5 * SECOND).await;
    assert_eq!(bench.desired("a"), Some(1));
    bench.clock.step(-7_200_000);
    bench.pass(50 * SECOND).await;
    assert_eq!(bench.desired("a"), Some(1));
    bench.pass(7 * SECOND).await;
    assert_eq!(bench.desired("a"), Some(0));
}
