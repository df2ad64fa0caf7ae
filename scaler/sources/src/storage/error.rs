//! Failures of storage requests, by what the caller can do about them.

use std::fmt;
use std::time::Duration;

use http::StatusCode;

/// A kind of request. Its text is a metric label, so the set is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Operation {
    /// Get Queue Metadata: the approximate message count.
    QueueProperties,
    /// Peek Messages.
    QueuePeek,
    /// Get Blob.
    BlobGet,
    /// Create Queue.
    QueueCreate,
    /// Delete Queue.
    QueueDelete,
    /// Put Message.
    MessagePut,
    /// Get Messages.
    MessagesGet,
    /// Update Message.
    MessageUpdate,
    /// Delete Message.
    MessageDelete,
    /// Clear Messages.
    MessagesClear,
    /// Create Container.
    ContainerCreate,
    /// Put Blob.
    BlobPut,
    /// Delete Blob.
    BlobDelete,
    /// Lease Blob.
    BlobLease,
}

impl Operation {
    /// Stable name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::QueueProperties => "queue_properties",
            Self::QueuePeek => "queue_peek",
            Self::BlobGet => "blob_get",
            Self::QueueCreate => "queue_create",
            Self::QueueDelete => "queue_delete",
            Self::MessagePut => "message_put",
            Self::MessagesGet => "messages_get",
            Self::MessageUpdate => "message_update",
            Self::MessageDelete => "message_delete",
            Self::MessagesClear => "messages_clear",
            Self::ContainerCreate => "container_create",
            Self::BlobPut => "blob_put",
            Self::BlobDelete => "blob_delete",
            Self::BlobLease => "blob_lease",
        }
    }
}

/// What a request was about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The kind of request.
    pub operation: Operation,
    /// Account name.
    pub account: String,
    /// The queue or blob, as in `queue 'orders'`.
    pub resource: String,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let operation = self.operation.as_str();
        write!(
            f,
            "{} in account '{}' ({operation})",
            self.resource, self.account
        )
    }
}

/// What the service answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Error code of the service (`x-ms-error-code`), letters and digits only; empty when there was none.
    pub code: String,
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HTTP {}", self.status)?;
        if self.code.is_empty() {
            return Ok(());
        }
        write!(f, " {}", self.code)
    }
}

/// Why a storage request failed. Never contains keys, tokens, signatures or bodies.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StorageError {
    /// The account or queue is over its limits (429, 503).
    #[error(
        "{place}: throttled, {answer}; requests to this account slow down by themselves, spread the load over more accounts if it stays"
    )]
    Throttled {
        /// What was asked.
        place: Box<Place>,
        /// The answer.
        answer: Answer,
        /// How long the service wants us to wait.
        retry_after: Option<Duration>,
    },
    /// The credential was refused (401, 403).
    #[error(
        "{place}: access refused, {answer}; check the key, the rights and expiry of the SAS, the role of the identity and the firewall of the account"
    )]
    Unauthorized {
        /// What was asked.
        place: Box<Place>,
        /// The answer.
        answer: Answer,
    },
    /// No credential could be made for the request (no identity token).
    #[error(
        "{place}: no credential, {reason}; check the workload identity of the scaler's service account and the client id"
    )]
    Credential {
        /// What was asked.
        place: Box<Place>,
        /// What failed.
        reason: String,
    },
    /// The queue, container or blob is not there (404).
    #[error("{place}: not found, {answer}; check the name, or create it")]
    NotFound {
        /// What was asked.
        place: Box<Place>,
        /// The answer.
        answer: Answer,
    },
    /// The state of the resource does not allow it now, a lease is held by another, or a condition was not met (409, 412, 304).
    #[error("{place}: refused in its present state, {answer}")]
    Conflict {
        /// What was asked.
        place: Box<Place>,
        /// The answer.
        answer: Answer,
    },
    /// The service failed (other 5xx).
    #[error("{place}: the service failed, {answer}; it is tried again")]
    Server {
        /// What was asked.
        place: Box<Place>,
        /// The answer.
        answer: Answer,
    },
    /// The request was not understood (other 3xx and 4xx).
    #[error("{place}: not accepted, {answer}; check that the address is that of a storage service")]
    Rejected {
        /// What was asked.
        place: Box<Place>,
        /// The answer.
        answer: Answer,
    },
    /// No complete answer in time.
    #[error("{place}: no answer within {} ms; it is tried again", limit.as_millis())]
    Timeout {
        /// What was asked.
        place: Box<Place>,
        /// The limit of the whole request.
        limit: Duration,
    },
    /// No connection, or it broke.
    #[error("{place}: cannot be reached, {reason}; check the address, DNS and network policies")]
    Unreachable {
        /// What was asked.
        place: Box<Place>,
        /// The cause, without the URL.
        reason: String,
    },
    /// The answer could not be understood.
    #[error(
        "{place}: unexpected answer, {reason}; check that the address is that of a storage service"
    )]
    Malformed {
        /// What was asked.
        place: Box<Place>,
        /// What was unexpected.
        reason: String,
    },
    /// The answer is longer than this client reads.
    #[error("{place}: the answer is longer than {limit} bytes and was not read")]
    TooLarge {
        /// What was asked.
        place: Box<Place>,
        /// The limit in bytes.
        limit: usize,
    },
}

impl StorageError {
    /// Stable short name for metrics and status.
    pub fn category(&self) -> &'static str {
        match self {
            Self::Throttled { .. } => "throttled",
            Self::Unauthorized { .. } => "unauthorized",
            Self::Credential { .. } => "credential",
            Self::NotFound { .. } => "not_found",
            Self::Conflict { .. } => "conflict",
            Self::Server { .. } => "server_error",
            Self::Rejected { .. } => "rejected",
            Self::Timeout { .. } => "timeout",
            Self::Unreachable { .. } => "unreachable",
            Self::Malformed { .. } => "malformed",
            Self::TooLarge { .. } => "too_large",
        }
    }

    /// Whether the same request may succeed later without anybody changing something.
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Throttled { .. }
                | Self::Server { .. }
                | Self::Timeout { .. }
                | Self::Unreachable { .. }
        )
    }

    /// Whether the failure itself may have taken the whole time limit, so that many such places would keep all others waiting.
    pub(crate) fn is_slow(&self) -> bool {
        matches!(self, Self::Timeout { .. } | Self::Unreachable { .. })
    }

    /// The wait that the service asked for.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Throttled { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// The error code of the service, if it answered with one.
    pub fn code(&self) -> Option<&str> {
        let (Self::Throttled { answer, .. }
        | Self::Unauthorized { answer, .. }
        | Self::NotFound { answer, .. }
        | Self::Conflict { answer, .. }
        | Self::Server { answer, .. }
        | Self::Rejected { answer, .. }) = self
        else {
            return None;
        };
        Some(&answer.code)
    }

    /// Whether the account was reached and certainly has no such blob.
    pub fn is_missing_blob(&self) -> bool {
        matches!(self, Self::NotFound { .. })
            && matches!(self.code(), Some("BlobNotFound" | "ContainerNotFound"))
    }

    /// Whether the account was reached and certainly has no such queue.
    pub fn is_missing_queue(&self) -> bool {
        matches!(self, Self::NotFound { .. }) && self.code() == Some("QueueNotFound")
    }

    /// The error for an answer that is not a success.
    pub(super) fn from_answer(
        place: Place,
        status: StatusCode,
        code: String,
        retry_after: Option<Duration>,
    ) -> Self {
        let place = Box::new(place);
        let answer = Answer {
            status: status.as_u16(),
            code,
        };
        match status.as_u16() {
            429 | 503 => Self::Throttled {
                place,
                answer,
                retry_after,
            },
            401 | 403 => Self::Unauthorized { place, answer },
            404 => Self::NotFound { place, answer },
            304 | 409 | 412 => Self::Conflict { place, answer },
            500.. => Self::Server { place, answer },
            _ => Self::Rejected { place, answer },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn categories_of_answers() {
        let cases = [
            (503, "throttled", true),
            (429, "throttled", true),
            (403, "unauthorized", false),
            (401, "unauthorized", false),
            (404, "not_found", false),
            (409, "conflict", false),
            (412, "conflict", false),
            (304, "conflict", false),
            (500, "server_error", true),
            (504, "server_error", true),
            (400, "rejected", false),
            (301, "rejected", false),
        ];
        for (status, category, transient) in cases {
            let place = Place {
                operation: Operation::QueueProperties,
                account: "acct".to_owned(),
                resource: "queue 'orders'".to_owned(),
            };
            let status = StatusCode::from_u16(status).expect("a status");
            let error = StorageError::from_answer(place, status, "SomeCode".to_owned(), None);
            assert_eq!(
                (error.category(), error.is_transient()),
                (category, transient)
            );
            assert_eq!(error.code(), Some("SomeCode"));
            let text = error.to_string();
            for part in [
                "queue 'orders'",
                "account 'acct'",
                status.as_str(),
                "SomeCode",
            ] {
                assert!(text.contains(part), "{text}");
            }
        }
    }
}
