//! The timer listener against a real storage emulator.

#![allow(clippy::unwrap_used, reason = "a test says what is wrong by failing")]

mod support;

use std::collections::BTreeSet;
use std::time::Duration;

use maniple_sources::storage::PutCondition;
use serde_json::{Value, json};
use support::lab::{Lab, wait_for_state};
use support::{patiently, start};

fn timer_function(schedule: &str, work: Value) -> Value {
    json!({ "name": "tick", "work": work, "bindings": [
        { "type": "timerTrigger", "name": "timer", "direction": "in", "schedule": schedule } ] })
}

fn status_path(function: &str) -> String {
    format!("timers/labapp/Host.Functions.{function}/status")
}

#[tokio::test]
async fn the_first_start_writes_a_status_and_does_not_run() {
    let lab = Lab::new().await;
    let (instance, client) =
        start(lab.environment("pod-1", &timer_function("0 0 8 * * *", json!({})))).await;
    let armed = wait_for_state(&client, "tick", "armed").await;
    let blob = lab.blobs().get(&status_path("tick")).await.unwrap();
    let status: Value = serde_json::from_slice(&blob.content).unwrap();
    assert_eq!(status["Last"], "0001-01-01T00:00:00+00:00");
    let next: jiff::Timestamp = status["Next"].as_str().unwrap().parse().unwrap();
    assert_eq!(armed["listeners"]["tick"]["next"], next.to_string());
    assert_eq!(armed["process"]["started"], 0);
    instance.terminate().await;
}

#[tokio::test]
async fn a_missed_run_is_made_up_for_once() {
    let lab = Lab::new().await;
    let blobs = lab.blobs();
    blobs.create_container().await.unwrap();
    let missed = json!({
        "Last": "2026-01-01T08:00:00+00:00",
        "Next": "2026-01-02T08:00:00+00:00",
        "LastUpdated": "2026-01-01T08:00:00+00:00",
    });
    blobs
        .put_blob(
            &status_path("tick"),
            missed.to_string(),
            PutCondition::Always,
        )
        .await
        .unwrap();
    let function = timer_function("0 0 8 * * *", json!({}));
    let (instance, client) = start(lab.environment("pod-1", &function)).await;
    let record = &lab.records(1).await[0];
    assert_eq!(
        (record["isPastDue"].as_bool(), record["due"].as_str()),
        (Some(true), Some("2026-01-02T08:00:00Z"))
    );
    wait_for_state(&client, "tick", "armed").await;
    let blob = blobs.get(&status_path("tick")).await.unwrap();
    let status: Value = serde_json::from_slice(&blob.content).unwrap();
    assert_eq!(status["Last"], status["LastUpdated"]);
    assert_ne!(status["Last"], missed["Last"]);
    instance.terminate().await;

    let (instance, client) = start(lab.environment("pod-2", &function)).await;
    let armed = wait_for_state(&client, "tick", "armed").await;
    assert_eq!(armed["process"]["started"], 0, "not again");
    instance.terminate().await;
}

#[tokio::test]
async fn one_instance_runs_the_timer_and_another_takes_over() {
    let lab = Lab::new().await;
    let function = timer_function("*/2 * * * * *", json!({}));
    let (first, client) = start(lab.environment("pod-1", &function)).await;
    wait_for_state(&client, "tick", "armed").await;
    let (second, other) = start(lab.environment("pod-2", &function)).await;
    wait_for_state(&other, "tick", "waiting-for-lock").await;
    let records = lab.records(2).await;
    assert!(
        records
            .iter()
            .all(|record| record["instance"] == "pod-1" && record["isPastDue"] == false)
    );
    let dues: BTreeSet<&str> = records
        .iter()
        .map(|record| record["due"].as_str().unwrap())
        .collect();
    assert_eq!(dues.len(), 2, "every due time once: {records:?}");
    assert!(
        lab.blobs()
            .get(&status_path("tick"))
            .await
            .unwrap_err()
            .is_missing_blob(),
        "more than one run a minute keeps no status"
    );

    assert_eq!(client.admin("POST", "/admin/host/drain").await.status, 202);
    wait_for_state(&other, "tick", "armed").await;
    patiently("a run of the other", async {
        while lab.records(1).await[0]["instance"] != "pod-2" {}
    })
    .await;
    second.terminate().await;
    first.terminate().await;
}

#[tokio::test]
async fn a_run_that_is_cut_is_repeated_by_the_next_instance() {
    let lab = Lab::new().await;
    let blobs = lab.blobs();
    blobs.create_container().await.unwrap();
    let missed = json!({
        "Last": "2026-01-01T08:00:00+00:00",
        "Next": "2026-01-02T08:00:00+00:00",
        "LastUpdated": "2026-01-01T08:00:00+00:00",
    });
    blobs
        .put_blob(
            &status_path("tick"),
            missed.to_string(),
            PutCondition::Always,
        )
        .await
        .unwrap();
    let long = timer_function("0 0 8 * * *", json!({ "sleepMs": 60000 }));
    let (instance, client) = start(lab.environment("pod-1", &long)).await;
    wait_for_state(&client, "tick", "running").await;
    instance
        .with_work_limit(Duration::from_millis(100))
        .terminate()
        .await;
    let blob = blobs.get(&status_path("tick")).await.unwrap();
    assert_eq!(
        serde_json::from_slice::<Value>(&blob.content).unwrap(),
        missed,
        "the status stays old"
    );

    // The lock was given back, so this does not wait for the end of a lease.
    let (instance, _client) =
        start(lab.environment("pod-2", &timer_function("0 0 8 * * *", json!({})))).await;
    let record = &lab.records(1).await[0];
    assert_eq!(
        (record["instance"].as_str(), record["isPastDue"].as_bool()),
        (Some("pod-2"), Some(true))
    );
    instance.terminate().await;
}

#[tokio::test]
async fn the_mode_with_a_leader_service_has_no_locks_here() {
    let lab = Lab::new().await;
    let environment = lab
        .environment("pod-1", &timer_function("* * * * * *", json!({})))
        .with("KUBERNETES_SERVICE_HOST", "10.0.0.1")
        .with("POD_NAMESPACE", "apps");
    let (instance, client) = start(environment).await;
    let stats = wait_for_state(&client, "tick", "starting").await;
    let error = stats["listeners"]["tick"]["error"].as_str().unwrap();
    assert!(error.contains("POD_NAMESPACE"), "{error}");
    assert_eq!(stats["process"]["started"], 0);
    instance.terminate().await;
}

#[tokio::test]
async fn bad_schedules_are_indexing_errors() {
    let lab = Lab::new().await;
    for (schedule, part) in [
        (
            "0 0 0 * *  7 9",
            "was not recognized as a valid cron expression",
        ),
        ("00:00:00", "was not recognized"),
        ("%NOT_SET%", "'%NOT_SET%' does not resolve to a value."),
    ] {
        let (instance, client) =
            start(lab.environment("pod-1", &timer_function(schedule, json!({})))).await;
        let status = client
            .admin("GET", "/admin/functions/tick/status")
            .await
            .json();
        let text = status["errors"][0].as_str().unwrap();
        assert!(text.contains(part), "{text}");
        assert_eq!(client.stats().await["listening"], json!([]));
        instance.terminate().await;
    }
}
