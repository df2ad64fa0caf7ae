//! The storage accounts that app settings name.

use std::time::Duration;

use maniple_sources::metrics::SourceMetrics;
use maniple_sources::storage::{
    Account, BlobClient, ConnectionError, DEFAULT_CONNECTION, HttpOptions, QueueClient, Service,
    Settings, StorageError, StorageHttp,
};

use crate::environment::Environment;

/// The container in which the host keeps locks and timer status.
const HOST_CONTAINER: &str = "azure-webjobs-hosts";

/// Tries of a request that must not get lost.
const TRIES: u32 = 6;

/// Access to storage. Cheap to clone.
#[derive(Clone)]
pub struct Storage {
    http: StorageHttp,
    settings: Settings,
}

impl Storage {
    /// Accounts named by the settings of an environment.
    pub fn new(environment: &Environment) -> Self {
        Self {
            http: StorageHttp::new(HttpOptions::default(), SourceMetrics::default()),
            settings: environment.iter().collect(),
        }
    }

    /// A queue behind a connection setting.
    pub fn queue(&self, connection: &str, queue: &str) -> Result<QueueClient, ConnectionError> {
        let account = Account::resolve(&self.settings, Some(connection), Service::Queue)?;
        QueueClient::new(&self.http, &account, queue)
    }

    /// The container of locks and timer status, in the account of `AzureWebJobsStorage`.
    pub fn host_container(&self) -> Result<BlobClient, ConnectionError> {
        let account = Account::resolve(&self.settings, Some(DEFAULT_CONNECTION), Service::Blob)?;
        BlobClient::new(&self.http, &account, HOST_CONTAINER)
    }
}

/// Sends a request until it succeeds, fails for good, or has failed six times in about six seconds.
pub async fn persist<T, F>(mut request: impl FnMut() -> F) -> Result<T, StorageError>
where
    F: Future<Output = Result<T, StorageError>>,
{
    let mut pause = Duration::from_millis(200);
    for _ in 1..TRIES {
        match request().await {
            Err(error) if error.is_transient() => {
                tokio::time::sleep(error.retry_after().unwrap_or(pause)).await;
                pause *= 2;
            }
            ended => return ended,
        }
    }
    request().await
}
