//! The queue listener against a real storage emulator.

#![allow(clippy::unwrap_used, reason = "a test says what is wrong by failing")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use support::azurite::Azurite;
use support::lab::{Lab, wait_for_state};
use support::{patiently, start};

fn queue_function(work: Value) -> Value {
    json!({ "name": "orders", "work": work, "bindings": [
        { "type": "queueTrigger", "name": "item", "direction": "in", "queueName": "orders" } ] })
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
    let counted = client.stats().await;
    assert_eq!(counted["functions"]["orders"]["succeeded"], 1);
    assert_eq!(counted["listeners"]["orders"]["state"], "stopped");

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
