//! Records of runs in a queue, so that a suite can prove that nothing was lost and nothing ran twice.

use jiff::Timestamp;
use maniple_sources::storage::DEFAULT_CONNECTION;
use serde_json::Value;

use super::Listening;
use crate::storage::persist;

/// Writes a record to the queue that `STANDIN_RESULTS_QUEUE` names (in the account of
/// `STANDIN_RESULTS_CONNECTION`, else `AzureWebJobsStorage`). Without that variable nothing is written.
/// The text of the message is plain JSON. Returns what went wrong.
pub(super) async fn write(listening: &Listening, mut record: Value) -> Result<(), String> {
    let environment = &listening.host.environment;
    record["function"] = listening.function.name.as_str().into();
    record["instance"] = listening.host.instance.as_str().into();
    record["ended"] = Timestamp::now().to_string().into();
    tracing::debug!(record = %record, "run recorded");
    let Some(queue) = environment.get("STANDIN_RESULTS_QUEUE") else {
        return Ok(());
    };
    let connection = environment
        .get("STANDIN_RESULTS_CONNECTION")
        .unwrap_or(DEFAULT_CONNECTION);
    let queue = listening
        .host
        .storage
        .queue(connection, queue)
        .map_err(|error| error.to_string())?;
    let text = record.to_string();
    let put = || async {
        match queue.put_message(&text, std::time::Duration::ZERO).await {
            Err(error) if error.is_missing_queue() => {
                queue.create_queue().await?;
                queue.put_message(&text, std::time::Duration::ZERO).await
            }
            ended => ended,
        }
    };
    persist(put).await.map_err(|error| error.to_string())
}
