//! A storage emulator, and instances that use it.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use function_host_standin::environment::Environment;
use function_host_standin::storage::Storage;
use maniple_sources::storage::{BlobClient, QueueClient};
use serde_json::{Value, json};

use super::azurite::{ACCOUNT, Azurite, KEY as STORAGE_KEY};
use super::{Client, patiently, recipe_c};

pub(crate) struct Lab {
    pub(crate) azurite: Azurite,
}

impl Lab {
    pub(crate) async fn new() -> Self {
        Self {
            azurite: Azurite::start().await,
        }
    }

    /// An instance of an app with one function, with storage and quick timers for locks.
    pub(crate) fn environment(&self, instance: &str, function: &Value) -> Environment {
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

    pub(crate) fn storage(&self) -> Storage {
        Storage::new(&self.environment("test", &json!({})))
    }

    pub(crate) fn queue(&self, name: &str) -> QueueClient {
        self.storage().queue("AzureWebJobsStorage", name).unwrap()
    }

    pub(crate) fn blobs(&self) -> BlobClient {
        self.storage().host_container().unwrap()
    }

    /// Waits for so many records.
    pub(crate) async fn records(&self, number: usize) -> Vec<Value> {
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

    pub(crate) async fn put(&self, queue: &str, texts: impl IntoIterator<Item = String>) {
        let queue = self.queue(queue);
        queue.create_queue().await.unwrap();
        for text in texts {
            queue
                .put_message(&STANDARD.encode(text), Duration::ZERO)
                .await
                .unwrap();
        }
    }

    pub(crate) async fn is_empty(&self, queue: &str) -> bool {
        self.queue(queue).approximate_count().await.unwrap() == 0
    }
}

pub(crate) async fn wait_for_state(client: &Client, function: &str, state: &str) -> Value {
    client
        .wait_for(state, |stats| {
            stats["listeners"][function]["state"] == state
        })
        .await
}
