//! Azure Storage: finding an account in app settings, and a small signed client for queues and blobs.
//!
//! The path from an app setting to a client: [`Settings`] -> [`Account::resolve`] -> [`QueueClient::new`] / [`BlobClient::new`].

mod account;
mod blob;
#[cfg(feature = "listener")]
mod blob_listener;
mod connection_string;
mod error;
mod queue;
#[cfg(feature = "listener")]
mod queue_listener;
mod settings;
mod signing;
mod transport;
mod xml;

pub use account::{Account, ConnectionError, Credential, Service};
pub use blob::{Blob, BlobClient, MAX_BLOB_BYTES};
#[cfg(feature = "listener")]
pub use blob_listener::PutCondition;
pub use error::{Answer, Operation, Place, StorageError};
pub use queue::{PeekedMessage, QueueClient};
#[cfg(feature = "listener")]
pub use queue_listener::{QueueMessage, Receipt};
pub use settings::{DEFAULT_CONNECTION, Settings};
pub use signing::WorkloadIdentity;
pub use transport::{HttpOptions, StorageHttp};
