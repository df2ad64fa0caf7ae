//! Reading small blobs.

use bytes::Bytes;
use http::{HeaderMap, Method};

use super::account::{Account, ConnectionError};
use super::error::{Operation, StorageError};
use super::transport::{Request, Response, ServiceClient, StorageHttp, escape};

/// Longest blob that is read, in bytes. Status and snapshot blobs have some hundred bytes.
pub const MAX_BLOB_BYTES: usize = 1024 * 1024;

/// Reads one container. With the feature `listener` also writes it. Cheap to clone.
#[derive(Clone)]
pub struct BlobClient {
    pub(super) service: ServiceClient,
    pub(super) container: String,
}

/// A blob that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blob {
    /// The content.
    pub content: Bytes,
    /// Version tag of the content; changes with every write.
    pub etag: String,
}

impl BlobClient {
    /// A client for `container`.
    pub fn new(
        http: &StorageHttp,
        account: &Account,
        container: &str,
    ) -> Result<Self, ConnectionError> {
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if !(3..=63).contains(&container.len()) || !container.bytes().all(allowed) {
            return Err(ConnectionError::InvalidName {
                what: "container",
                name: container.to_owned(),
                rule: "it must have 3 to 63 lower-case letters, digits and hyphens",
            });
        }
        Ok(Self {
            service: http.service(account)?,
            container: container.to_owned(),
        })
    }

    /// Account name.
    pub fn account(&self) -> &str {
        self.service.account()
    }

    /// Base URL of the account's blob service.
    pub fn endpoint(&self) -> &str {
        self.service.endpoint()
    }

    /// Reads a blob of at most [`MAX_BLOB_BYTES`]. `path` is the name below the container, not percent-encoded.
    pub async fn get(&self, path: &str) -> Result<Blob, StorageError> {
        let response = self
            .send(
                Operation::BlobGet,
                Method::GET,
                path,
                "",
                HeaderMap::new(),
                None,
            )
            .await?;
        Ok(Blob {
            etag: response.header("etag").unwrap_or_default().to_owned(),
            content: response.body,
        })
    }

    pub(super) async fn send(
        &self,
        operation: Operation,
        method: Method,
        path: &str,
        query: &str,
        headers: HeaderMap,
        body: Option<Bytes>,
    ) -> Result<Response, StorageError> {
        let escaped: Vec<_> = path.split('/').map(escape).collect();
        self.service
            .send(Request {
                operation,
                resource: &format!("blob '{}/{path}'", self.container),
                method,
                path_and_query: format!("/{}/{}{query}", self.container, escaped.join("/")),
                headers,
                body,
                max_answer: MAX_BLOB_BYTES,
            })
            .await
    }
}
