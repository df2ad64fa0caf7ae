//! Reading a storage queue.

use http::{HeaderMap, Method};
use serde::Deserialize;

use super::account::{Account, ConnectionError};
use super::error::{Operation, Place, StorageError};
use super::transport::{Request, Response, ServiceClient, StorageHttp};
use super::xml;

/// Longest answer with one message that is read: a message text has at most 64 KiB, more when escaped.
const MAX_PEEK: usize = 512 * 1024;

/// Reads one queue. With the feature `listener` also writes it. Cheap to clone.
#[derive(Clone)]
pub struct QueueClient {
    pub(super) service: ServiceClient,
    name: String,
    resource: String,
}

/// The head of a queue. The text of the message is not read: it may be anything.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct PeekedMessage {
    /// Id of the message.
    pub message_id: String,
    /// When it was put, as the service writes it (RFC 1123).
    pub insertion_time: String,
    /// How often it was received.
    pub dequeue_count: u32,
}

impl QueueClient {
    /// A client for `queue`. The name is put in lower case, as the host does.
    pub fn new(
        http: &StorageHttp,
        account: &Account,
        queue: &str,
    ) -> Result<Self, ConnectionError> {
        let name = queue.to_lowercase();
        if let Err(rule) = check_queue_name(&name) {
            return Err(ConnectionError::InvalidName {
                what: "queue",
                name,
                rule,
            });
        }
        Ok(Self {
            service: http.service(account)?,
            resource: format!("queue '{name}'"),
            name,
        })
    }

    /// Queue name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Account name.
    pub fn account(&self) -> &str {
        self.service.account()
    }

    /// Base URL of the account's queue service.
    pub fn endpoint(&self) -> &str {
        self.service.endpoint()
    }

    /// Number of messages, visible or not. Never lower than the true number, but may be higher (Get Queue Metadata in the REST reference).
    pub async fn approximate_count(&self) -> Result<u64, StorageError> {
        let response = self
            .send(
                Operation::QueueProperties,
                Method::GET,
                "?comp=metadata",
                None,
                64 * 1024,
            )
            .await?;
        let count = response.header("x-ms-approximate-messages-count");
        count
            .and_then(|count| count.parse().ok())
            .ok_or_else(|| self.malformed(Operation::QueueProperties, "there is no message count"))
    }

    /// The first visible message, if there is one. Does not change the queue and does not decode the message.
    pub async fn peek(&self) -> Result<Option<PeekedMessage>, StorageError> {
        let response = self
            .send(
                Operation::QueuePeek,
                Method::GET,
                "/messages?peekonly=true&numofmessages=1",
                None,
                MAX_PEEK,
            )
            .await?;
        let messages = xml::messages(&response.body)
            .map_err(|reason| self.malformed(Operation::QueuePeek, &reason))?;
        Ok(messages.into_iter().next())
    }

    pub(super) async fn send(
        &self,
        operation: Operation,
        method: Method,
        rest: &str,
        body: Option<String>,
        max_answer: usize,
    ) -> Result<Response, StorageError> {
        self.service
            .send(Request {
                operation,
                resource: &self.resource,
                method,
                path_and_query: format!("/{}{rest}", self.name),
                headers: HeaderMap::new(),
                body: body.map(Into::into),
                max_answer,
            })
            .await
    }

    pub(super) fn malformed(&self, operation: Operation, reason: &str) -> StorageError {
        StorageError::Malformed {
            place: Box::new(Place {
                operation,
                account: self.account().to_owned(),
                resource: self.resource.clone(),
            }),
            reason: reason.to_owned(),
        }
    }
}

/// "Naming Queues and Metadata" in the REST reference.
fn check_queue_name(name: &str) -> Result<(), &'static str> {
    if !(3..=63).contains(&name.len()) {
        return Err("it must have 3 to 63 characters");
    }
    if !name
        .bytes()
        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    {
        return Err("it may contain only letters, digits and hyphens");
    }
    if name.starts_with('-') || name.ends_with('-') || name.contains("--") {
        return Err("hyphens must stand between letters or digits");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::check_queue_name;

    #[test]
    fn queue_names() {
        for good in ["abc", "a-b-c", "0rders", &"a".repeat(63)] {
            assert_eq!(check_queue_name(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "ab",
            "a--b",
            "-abc",
            "abc-",
            "a_b",
            "a/b",
            "ABC",
            "%x%",
            &"a".repeat(64),
        ] {
            assert!(check_queue_name(bad).is_err(), "{bad}");
        }
    }
}
