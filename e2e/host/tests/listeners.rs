//! Queue and timer listeners against a real storage emulator.

#![allow(clippy::unwrap_used, reason = "a test says what is wrong by failing")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use function_host_standin::environment::Environment;
use function_host_standin::storage::Storage;
use maniple_sources::storage::{BlobClient, PutCondition, QueueClient};
use serde_json::{Value, json};
use support::azurite::{ACCOUNT, Azurite, KEY as STORAGE_KEY};
use support::{Client, patiently, recipe_c, start};

struct Lab {
    azurite: Azurite,
}

impl Lab {
    async fn new() -> Self {
        Self {
            azurite: Azurite::start().await,
        }
    }

    /// An instance of an app with one function, with storage and quick timers for locks.
    fn environment(&self, instance: &str, function: &Value) -> Environment {
        recipe_c(&[])
            .with("STANDIN_FUNCTIONS", json!([function]).to_string())
            .with("STANDIN_INSTANCE", instance)
            .with(
                "AzureWebJobsStorage",
                self.azurite.connection_string(ACCOUNT, STORAGE_KEY),
            )
            .with(
                "AzureFunctionsJobHost__extensions__queues__maxPollingInterval",
                "00:00:00.2",
            )
            .with("STANDIN_RESULTS_QUEUE", "results")
            .with("STANDIN_LEASE_SECONDS", "15")
            .with("STANDIN_LOCK_RETRY_MS", "200")
            .with("STANDIN_LISTENER_RETRY_MS", "200")
    }

    fn storage(&self) -> Storage {
        Storage::new(&self.environment("test", &json!({})))
    }

    fn queue(&self, name: &str) -> QueueClient {
        self.storage().queue("AzureWebJobsStorage", name).unwrap()
    }

    fn blobs(&self) -> BlobClient {
        self.storage().host_container().unwrap()
    }

    /// Waits for so many records.
    async fn records(&self, number: usize) -> Vec<Value> {
        let results = self.queue("results");
        let mut records = Vec::new();
        let wait = async {
            while records.len() < number {
                match results.get_messages(Duration::from_secs(60), 32).await {
                    Ok(messages) if !messages.is_empty() => {
                        for message in messages {
                            records.push(
                                serde_json::from_str::<Value>(&message.message_text).unwrap(),
                            );
                            results.delete_message(&message.receipt()).await.unwrap();
                        }
                    }
                    _ => tokio::time::sleep(Duration::from_millis(30)).await,
                }
            }
        };
        patiently("records of runs", wait).await;
        records
    }

    async fn put(&self, queue: &str, texts: impl IntoIterator<Item = String>) {
        let queue = self.queue(queue);
        queue.create_queue().await.unwrap();
        for text in texts {
            queue
                .put_message(&STANDARD.encode(text), Duration::ZERO)
                .await
                .unwrap();
        }
    }

    async fn is_empty(&self, queue: &str) -> bool {
        self.queue(queue).approximate_count().await.unwrap() == 0
    }
}

fn queue_function(work: Value) -> Value {
    json!({ "name": "orders", "work": work, "bindings": [
        { "type": "queueTrigger", "name": "item", "direction": "in", "queueName": "orders" } ] })
}

fn timer_function(schedule: &str, work: Value) -> Value {
    json!({ "name": "tick", "work": work, "bindings": [
        { "type": "timerTrigger", "name": "timer", "direction": "in", "schedule": schedule } ] })
}

async fn wait_for_state(client: &Client, function: &str, state: &str) -> Value {
    client
        .wait_for(state, |stats| {
            stats["listeners"][function]["state"] == state
        })
        .await
}

#[tokio::test]
async fn messages_run_once_in_batches_and_are_deleted() {
    let lab = Lab::new().await;
    lab.put("orders", (0..60).map(|number| format!("order-{number}")))
        .await;
    let environment = lab
        .environment("pod-1", &queue_function(json!({ "sleepMs": 300 })))
        .with("AzureFunctionsJobHost__extensions__queues__batchSize", "8")
        .with(
            "AzureFunctionsJobHost__extensions__queues__newBatchThreshold",
            "4",
        );
    let (instance, client) = start(environment).await;
    let records = lab.records(60).await;
    let bodies: BTreeSet<&str> = records
        .iter()
        .map(|record| record["body"].as_str().unwrap())
        .collect();
    assert_eq!(bodies.len(), 60, "every message once");
    assert!(
        records
            .iter()
            .all(|record| record["outcome"] == "succeeded" && record["instance"] == "pod-1")
    );
    let stats = client
        .wait_for("the end", |stats| stats["process"]["inFlight"] == 0)
        .await;
    let most = stats["functions"]["orders"]["maxInFlight"]
        .as_u64()
        .unwrap();
    assert!(
        (8..=12).contains(&most),
        "a batch of 8 beside at most 4 older ones, not {most}"
    );
    patiently("an empty queue", async {
        while !lab.is_empty("orders").await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    instance.terminate().await;
}

#[tokio::test]
async fn failing_messages_are_tried_again_and_end_in_the_poison_queue() {
    let lab = Lab::new().await;
    lab.put("orders", ["good".to_owned(), "bad apple".to_owned()])
        .await;
    lab.queue("orders")
        .put_message("§ not base64", Duration::ZERO)
        .await
        .unwrap();
    let environment = lab
        .environment("pod-1", &queue_function(json!({ "failIfContains": "bad" })))
        .with(
            "AzureFunctionsJobHost__extensions__queues__maxDequeueCount",
            "3",
        );
    let (instance, client) = start(environment).await;
    let records = lab.records(5).await;
    let mut outcomes = BTreeMap::<&str, Vec<(u64, &str)>>::new();
    for record in &records {
        outcomes
            .entry(record["body"].as_str().unwrap())
            .or_default()
            .push((
                record["dequeueCount"].as_u64().unwrap(),
                record["outcome"].as_str().unwrap(),
            ));
    }
    assert_eq!(outcomes["good"], [(1, "succeeded")]);
    assert_eq!(
        outcomes["bad apple"],
        [(1, "failed"), (2, "failed"), (3, "poison")]
    );
    assert_eq!(
        outcomes[""],
        [(1, "poison")],
        "a text that cannot be decoded is never tried"
    );
    assert_eq!(client.stats().await["functions"]["orders"]["failed"], 3);
    let poison = lab
        .queue("orders-poison")
        .get_messages(Duration::from_secs(60), 32)
        .await
        .unwrap();
    let texts: BTreeSet<String> = poison
        .into_iter()
        .map(|message| message.message_text)
        .collect();
    assert_eq!(
        texts,
        BTreeSet::from([STANDARD.encode("bad apple"), "§ not base64".to_owned()])
    );
    instance.terminate().await;
}

#[tokio::test]
async fn drain_finishes_what_was_begun_and_takes_nothing_more() {
    let lab = Lab::new().await;
    lab.put("orders", ["first".to_owned()]).await;
    let (instance, client) =
        start(lab.environment("pod-1", &queue_function(json!({ "sleepMs": 1500 })))).await;
    client
        .wait_for("a run", |stats| stats["process"]["inFlight"] == 1)
        .await;
    assert_eq!(
        client.admin("POST", "/admin/host/drain").await.status,
        202,
        "the first call does not wait"
    );
    let status = client.admin("GET", "/admin/host/drain/status").await.json();
    assert_eq!(status["state"], "InProgress");
    assert_eq!(client.admin("POST", "/admin/host/drain").await.status, 202);
    let status = client.admin("GET", "/admin/host/drain/status").await.json();
    assert_eq!(
        status["state"], "Completed",
        "the second call has waited for the run"
    );
    let stats = client.stats().await;
    assert_eq!(stats["functions"]["orders"]["succeeded"], 1);
    assert_eq!(stats["listeners"]["orders"]["state"], "stopped");

    lab.put("orders", ["second".to_owned()]).await;
    assert_eq!(lab.records(1).await[0]["body"], "first");
    assert_eq!(client.stats().await["functions"]["orders"]["started"], 1);
    assert_eq!(client.admin("POST", "/admin/host/resume").await.status, 200);
    assert_eq!(
        lab.records(1).await[0]["body"],
        "second",
        "taken after the resume"
    );
    instance.terminate().await;
}

#[tokio::test]
async fn cut_messages_come_again_when_their_time_is_over() {
    let lab = Lab::new().await;
    lab.put("orders", ["long".to_owned()]).await;
    let environment = lab
        .environment("pod-1", &queue_function(json!({ "sleepMs": 60000 })))
        .with("STANDIN_INVISIBLE_SECONDS", "3");
    let (instance, client) = start(environment).await;
    client
        .wait_for("a run", |stats| stats["process"]["inFlight"] == 1)
        .await;
    let instance = instance.with_work_limit(Duration::from_millis(100));
    let host = std::sync::Arc::clone(&instance.host);
    instance.terminate().await;
    assert_eq!(host.activity.process().lost, 1);
    assert!(!lab.is_empty("orders").await, "the message is not lost");

    let (instance, _client) = start(lab.environment("pod-2", &queue_function(json!({})))).await;
    let record = &lab.records(1).await[0];
    assert_eq!(
        (record["instance"].as_str(), record["dequeueCount"].as_u64()),
        (Some("pod-2"), Some(2))
    );
    instance.terminate().await;
}

#[tokio::test]
async fn long_runs_keep_their_message_invisible() {
    let lab = Lab::new().await;
    lab.put("orders", ["long".to_owned()]).await;
    let environment = lab
        .environment("pod-1", &queue_function(json!({ "sleepMs": 5000 })))
        .with("STANDIN_INVISIBLE_SECONDS", "2");
    let (instance, client) = start(environment).await;
    let record = &lab.records(1).await[0];
    assert_eq!(
        (record["dequeueCount"].as_u64(), record["outcome"].as_str()),
        (Some(1), Some("succeeded"))
    );
    assert_eq!(
        client.stats().await["functions"]["orders"]["started"],
        1,
        "nobody else got it meanwhile"
    );
    instance.terminate().await;
}

#[tokio::test]
async fn storage_that_is_not_there_is_waited_for() {
    let lab = Lab::new().await;
    let (queue_port, blob_port) = (lab.azurite.queue_port, lab.azurite.blob_port);
    let environment = lab.environment("pod-1", &queue_function(json!({})));
    lab.azurite.stop().await;
    let (instance, client) = start(environment).await;
    assert_eq!(
        client.admin("GET", "/admin/host/status").await.json()["state"],
        "Running"
    );
    wait_for_state(&client, "orders", "failing").await;
    assert_eq!(
        client
            .admin("GET", "/admin/functions/orders/status")
            .await
            .json(),
        json!({})
    );
    let lab = Lab {
        azurite: Azurite::start_on(queue_port, blob_port).await,
    };
    lab.put("orders", ["late".to_owned()]).await;
    assert_eq!(lab.records(1).await[0]["body"], "late");
    instance.terminate().await;
}

fn status_path(function: &str) -> String {
    format!("timers/labapp/Host.Functions.{function}/status")
}

#[tokio::test]
async fn the_first_start_writes_a_status_and_does_not_run() {
    let lab = Lab::new().await;
    let (instance, client) =
        start(lab.environment("pod-1", &timer_function("0 0 8 * * *", json!({})))).await;
    let stats = wait_for_state(&client, "tick", "armed").await;
    let blob = lab.blobs().get(&status_path("tick")).await.unwrap();
    let status: Value = serde_json::from_slice(&blob.content).unwrap();
    assert_eq!(status["Last"], "0001-01-01T00:00:00+00:00");
    let next: jiff::Timestamp = status["Next"].as_str().unwrap().parse().unwrap();
    assert_eq!(stats["listeners"]["tick"]["next"], next.to_string());
    assert_eq!(stats["process"]["started"], 0);
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
    let stats = wait_for_state(&client, "tick", "armed").await;
    assert_eq!(stats["process"]["started"], 0, "not again");
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
