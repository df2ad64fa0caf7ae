//! Writing and receiving: what a queue listener and tests need.

use std::time::Duration;

use http::{Method, StatusCode};
use serde::Deserialize;

use super::error::{Operation, StorageError};
use super::queue::QueueClient;
use super::transport::{Response, escape};
use super::xml;

/// Longest answer with messages that is read: 32 messages of 64 KiB, escaped.
const MAX_MESSAGES: usize = 16 * 1024 * 1024;

/// The right to change a received message, until it becomes visible again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// Id of the message.
    pub message_id: String,
    /// Valid for this receipt of the message only.
    pub pop_receipt: String,
}

/// A received message.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct QueueMessage {
    /// Id of the message.
    pub message_id: String,
    /// Valid for this receipt of the message only.
    pub pop_receipt: String,
    /// When it was put, as the service writes it (RFC 1123).
    pub insertion_time: String,
    /// When it becomes visible again, as the service writes it (RFC 1123).
    pub time_next_visible: String,
    /// How often it was received, this time included.
    pub dequeue_count: u32,
    /// The text as it is in the queue (Azure Functions puts base64).
    #[serde(default)]
    pub message_text: String,
}

impl QueueMessage {
    /// The right to change this message.
    pub fn receipt(&self) -> Receipt {
        Receipt {
            message_id: self.message_id.clone(),
            pop_receipt: self.pop_receipt.clone(),
        }
    }
}

impl QueueClient {
    /// Creates the queue. `false` when it was there already.
    pub async fn create_queue(&self) -> Result<bool, StorageError> {
        let created = self
            .send(
                Operation::QueueCreate,
                Method::PUT,
                "",
                Some(String::new()),
                64 * 1024,
            )
            .await;
        match created {
            Ok(response) => Ok(response.status == StatusCode::CREATED),
            // It is there with other metadata.
            Err(error) if error.code() == Some("QueueAlreadyExists") => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Deletes the queue.
    pub async fn delete_queue(&self) -> Result<(), StorageError> {
        self.send(Operation::QueueDelete, Method::DELETE, "", None, 64 * 1024)
            .await
            .map(drop)
    }

    /// Puts a message with the given text, as it is. It becomes visible after `delay` (whole seconds).
    pub async fn put_message(&self, text: &str, delay: Duration) -> Result<(), StorageError> {
        let rest = format!("/messages?visibilitytimeout={}", delay.as_secs());
        self.send(
            Operation::MessagePut,
            Method::POST,
            &rest,
            Some(message_body(text)),
            MAX_MESSAGES,
        )
        .await
        .map(drop)
    }

    /// Receives up to `count` (1 to 32) messages and hides them for `visibility` (whole seconds, at least 1).
    pub async fn get_messages(
        &self,
        visibility: Duration,
        count: u32,
    ) -> Result<Vec<QueueMessage>, StorageError> {
        let rest = format!(
            "/messages?numofmessages={count}&visibilitytimeout={}",
            visibility.as_secs()
        );
        let response = self
            .send(
                Operation::MessagesGet,
                Method::GET,
                &rest,
                None,
                MAX_MESSAGES,
            )
            .await?;
        xml::messages(&response.body)
            .map_err(|reason| self.malformed(Operation::MessagesGet, &reason))
    }

    /// Sets the time after which a received message becomes visible again, and its text when one is given. Returns the new receipt.
    pub async fn update_message(
        &self,
        receipt: &Receipt,
        text: Option<&str>,
        visibility: Duration,
    ) -> Result<Receipt, StorageError> {
        let rest = format!(
            "/messages/{}?popreceipt={}&visibilitytimeout={}",
            escape(&receipt.message_id),
            escape(&receipt.pop_receipt),
            visibility.as_secs()
        );
        let body = text.map_or_else(String::new, message_body);
        let response = self
            .send(
                Operation::MessageUpdate,
                Method::PUT,
                &rest,
                Some(body),
                64 * 1024,
            )
            .await?;
        let pop_receipt = pop_receipt(&response)
            .ok_or_else(|| self.malformed(Operation::MessageUpdate, "there is no pop receipt"))?;
        Ok(Receipt {
            message_id: receipt.message_id.clone(),
            pop_receipt,
        })
    }

    /// Deletes a received message.
    pub async fn delete_message(&self, receipt: &Receipt) -> Result<(), StorageError> {
        let rest = format!(
            "/messages/{}?popreceipt={}",
            escape(&receipt.message_id),
            escape(&receipt.pop_receipt)
        );
        self.send(
            Operation::MessageDelete,
            Method::DELETE,
            &rest,
            None,
            64 * 1024,
        )
        .await
        .map(drop)
    }

    /// Deletes all messages.
    pub async fn clear_messages(&self) -> Result<(), StorageError> {
        self.send(
            Operation::MessagesClear,
            Method::DELETE,
            "/messages",
            None,
            64 * 1024,
        )
        .await
        .map(drop)
    }
}

fn message_body(text: &str) -> String {
    format!(
        "<QueueMessage><MessageText>{}</MessageText></QueueMessage>",
        quick_xml::escape::escape(text)
    )
}

fn pop_receipt(response: &Response) -> Option<String> {
    response.header("x-ms-popreceipt").map(str::to_owned)
}
