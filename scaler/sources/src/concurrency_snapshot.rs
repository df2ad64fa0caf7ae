//! The snapshot of dynamic concurrency that the Functions host keeps.
//!
//! Only the bytes are fetched here; path and meaning are those of [`ConcurrencyOptions`].

use bytes::Bytes;
use maniple_core::concurrency::ConcurrencyOptions;

use crate::storage::{Account, BlobClient, ConnectionError, StorageError, StorageHttp};

/// Reads the snapshot of one app.
#[derive(Clone)]
pub struct ConcurrencySnapshotSource {
    client: BlobClient,
    path: String,
}

impl ConcurrencySnapshotSource {
    /// A source for the app with this host id. `account` is the blob service of the app's `AzureWebJobsStorage`.
    pub fn new(
        http: &StorageHttp,
        account: &Account,
        host_id: &str,
    ) -> Result<Self, ConnectionError> {
        Ok(Self {
            client: BlobClient::new(http, account, "azure-webjobs-hosts")?,
            path: ConcurrencyOptions::blob_path(host_id),
        })
    }

    /// Reads it once: the JSON text as written, or `None` when the host has not written any.
    pub async fn read(&self) -> Result<Option<Bytes>, StorageError> {
        match self.client.get(&self.path).await {
            Ok(blob) => Ok(Some(blob.content)),
            Err(error) if error.is_missing_blob() => Ok(None),
            Err(error) => Err(error),
        }
    }
}
