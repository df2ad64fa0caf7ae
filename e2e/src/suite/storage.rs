//! Queues and blobs in Azurite, reached by the suite and by the cluster under different addresses.

use crate::cluster::Connection;
use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use maniple_sources::metrics::SourceMetrics;
use maniple_sources::storage::{
    Account, BlobClient, HttpOptions, QueueClient, Service, StorageHttp,
};
use std::time::Duration;

/// Account of every Azurite, and its well-known key (Azurite documentation).
const ACCOUNT: &str = "devstoreaccount1";
const KEY: &str =
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";
/// Name of Azurite inside the cluster.
const IN_CLUSTER: &str = "azurite.azurite.svc.cluster.local";
/// Connection strings for other clusters than the local one: as the suite and as the cluster reach the account.
const OUTSIDE_VARIABLE: &str = "MANIPLE_STORAGE";
const INSIDE_VARIABLE: &str = "MANIPLE_STORAGE_IN_CLUSTER";

/// One storage account.
pub struct Storage {
    outside: String,
    inside: String,
    http: StorageHttp,
}

impl Storage {
    /// The account for this cluster: its own Azurite, or the one that the variables name.
    ///
    /// # Errors
    /// When the suite runs against another cluster and no account is named.
    pub fn of(connection: &Connection) -> Result<Self> {
        let (outside, inside) = if let Some(own) = &connection.own {
            (
                connection_string(&own.options()?.addresses.node().to_string()),
                connection_string(IN_CLUSTER),
            )
        } else {
            let variable = |name: &str| {
                std::env::var(name).with_context(|| {
                    format!("set {name} to a connection string of a storage account")
                })
            };
            (variable(OUTSIDE_VARIABLE)?, variable(INSIDE_VARIABLE)?)
        };
        let http = StorageHttp::new(HttpOptions::default(), SourceMetrics::default());
        Ok(Self {
            outside,
            inside,
            http,
        })
    }

    /// Connection string as the cluster reaches the account.
    pub fn in_cluster(&self) -> &str {
        &self.inside
    }

    /// A queue, created when it is not there.
    ///
    /// # Errors
    /// When the account does not answer.
    pub async fn queue(&self, name: &str) -> Result<QueueClient> {
        let account = Account::from_value("suite", &self.outside, Service::Queue)?;
        let queue = QueueClient::new(&self.http, &account, name)?;
        queue.create_queue().await?;
        Ok(queue)
    }

    /// A blob container.
    ///
    /// # Errors
    /// When the name is none.
    pub fn container(&self, name: &str) -> Result<BlobClient> {
        let account = Account::from_value("suite", &self.outside, Service::Blob)?;
        Ok(BlobClient::new(&self.http, &account, name)?)
    }
}

fn connection_string(host: &str) -> String {
    format!(
        "DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={KEY};BlobEndpoint=http://{host}:10000/{ACCOUNT};QueueEndpoint=http://{host}:10001/{ACCOUNT};"
    )
}

/// Puts `count` messages, as the Functions host reads them (base64), eight at a time.
///
/// # Errors
/// When the account does not answer.
pub async fn fill(queue: &QueueClient, count: usize, prefix: &str) -> Result<()> {
    use futures::stream::{StreamExt as _, TryStreamExt as _};
    futures::stream::iter(0..count)
        .map(|index| async move {
            let text = BASE64_STANDARD.encode(format!("{prefix}-{index}"));
            queue
                .put_message(&text, Duration::ZERO)
                .await
                .map_err(anyhow::Error::from)
        })
        .buffer_unordered(8)
        .try_for_each(|()| async { Ok(()) })
        .await
}
