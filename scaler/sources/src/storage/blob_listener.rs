//! Writing blobs and holding leases: what a timer listener and tests need.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};

use super::blob::BlobClient;
use super::error::{Operation, Place, StorageError};
use super::transport::Request;

/// Under which condition a blob is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutCondition<'a> {
    /// Always (fails when somebody holds a lease).
    Always,
    /// Only when it does not exist yet.
    IfMissing,
    /// Only while the lease with this id is held.
    Lease(&'a str),
}

impl BlobClient {
    /// Creates the container. `false` when it was there already.
    pub async fn create_container(&self) -> Result<bool, StorageError> {
        let created = self
            .service
            .send(Request {
                operation: Operation::ContainerCreate,
                resource: &format!("container '{}'", self.container),
                method: Method::PUT,
                path_and_query: format!("/{}?restype=container", self.container),
                headers: HeaderMap::new(),
                body: Some(Bytes::new()),
                max_answer: 64 * 1024,
            })
            .await;
        match created {
            Ok(_) => Ok(true),
            Err(error) if error.code() == Some("ContainerAlreadyExists") => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Writes a block blob as a whole.
    pub async fn put_blob(
        &self,
        path: &str,
        content: impl Into<Bytes>,
        condition: PutCondition<'_>,
    ) -> Result<(), StorageError> {
        let mut headers = HeaderMap::new();
        headers.insert("x-ms-blob-type", HeaderValue::from_static("BlockBlob"));
        match condition {
            PutCondition::Always => {}
            PutCondition::IfMissing => {
                headers.insert(header::IF_NONE_MATCH, HeaderValue::from_static("*"));
            }
            PutCondition::Lease(id) => {
                self.insert(Operation::BlobPut, path, &mut headers, "x-ms-lease-id", id)?;
            }
        }
        self.send(
            Operation::BlobPut,
            Method::PUT,
            path,
            "",
            headers,
            Some(content.into()),
        )
        .await
        .map(drop)
    }

    /// Deletes a blob.
    pub async fn delete_blob(&self, path: &str) -> Result<(), StorageError> {
        self.send(
            Operation::BlobDelete,
            Method::DELETE,
            path,
            "",
            HeaderMap::new(),
            None,
        )
        .await
        .map(drop)
    }

    /// Takes the lease of an existing blob for `duration` (15 to 60 whole seconds) under an id chosen by the caller (a UUID).
    /// Fails with category `conflict` while another id holds it.
    pub async fn acquire_lease(
        &self,
        path: &str,
        id: &str,
        duration: Duration,
    ) -> Result<(), StorageError> {
        let seconds = duration.as_secs().to_string();
        self.lease(
            path,
            "acquire",
            &[
                ("x-ms-lease-duration", seconds.as_str()),
                ("x-ms-proposed-lease-id", id),
            ],
        )
        .await
    }

    /// Prolongs a held lease by its duration.
    pub async fn renew_lease(&self, path: &str, id: &str) -> Result<(), StorageError> {
        self.lease(path, "renew", &[("x-ms-lease-id", id)]).await
    }

    /// Gives a held lease back; the blob can be leased again at once.
    pub async fn release_lease(&self, path: &str, id: &str) -> Result<(), StorageError> {
        self.lease(path, "release", &[("x-ms-lease-id", id)]).await
    }

    async fn lease(
        &self,
        path: &str,
        action: &'static str,
        values: &[(&'static str, &str)],
    ) -> Result<(), StorageError> {
        let mut headers = HeaderMap::new();
        headers.insert("x-ms-lease-action", HeaderValue::from_static(action));
        for (name, value) in values {
            self.insert(Operation::BlobLease, path, &mut headers, name, value)?;
        }
        self.send(
            Operation::BlobLease,
            Method::PUT,
            path,
            "?comp=lease",
            headers,
            Some(Bytes::new()),
        )
        .await
        .map(drop)
    }

    fn insert(
        &self,
        operation: Operation,
        path: &str,
        headers: &mut HeaderMap,
        name: &'static str,
        value: &str,
    ) -> Result<(), StorageError> {
        let value = HeaderValue::from_str(value).map_err(|_| StorageError::Malformed {
            place: Box::new(Place {
                operation,
                account: self.account().to_owned(),
                resource: format!("blob '{}/{path}'", self.container),
            }),
            reason: format!("the value for {name} cannot be a header"),
        })?;
        headers.insert(HeaderName::from_static(name), value);
        Ok(())
    }
}
