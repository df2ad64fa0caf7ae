//! What the tests need: a real Azurite, accounts in it, and a server with fixed answers for what Azurite never does.
#![allow(dead_code, unreachable_pub, missing_docs)]

pub mod answers;
pub mod azurite;

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::Mac as _;
use maniple_sources::metrics::SourceMetrics;
use maniple_sources::storage::{HttpOptions, Settings, StorageHttp};

/// A condition that does not come true within this time is a failure. Far longer than anything should take.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Waits for a future, for at most [`PATIENCE`].
pub async fn patiently<F: Future>(what: &str, future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future)
        .await
        .unwrap_or_else(|_| panic!("{what} did not happen within {PATIENCE:?}"))
}

pub fn http(metrics: &SourceMetrics) -> StorageHttp {
    StorageHttp::new(HttpOptions::default(), metrics.clone())
}

pub fn settings(pairs: &[(&str, &str)]) -> Settings {
    pairs.iter().copied().collect()
}

/// An account SAS for queues and blobs, until `expiry` (ISO 8601).
/// Order of the fields: "Create an account SAS" in the Azure Storage docs, versions since 2020-12-06.
pub fn account_sas(account: &str, key: &str, rights: &str, expiry: &str) -> String {
    const VERSION: &str = "2023-11-03";
    let text = format!("{account}\n{rights}\nqb\nsco\n\n{expiry}\n\nhttps,http\n{VERSION}\n\n");
    let key = BASE64.decode(key).expect("the key is base64");
    let mut mac = hmac::Hmac::<sha2::Sha256>::new_from_slice(&key).expect("any length is a key");
    mac.update(text.as_bytes());
    let signature = BASE64.encode(mac.finalize().into_bytes());
    let escape = |text: &str| {
        percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
    };
    format!(
        "sv={VERSION}&ss=qb&srt=sco&sp={rights}&se={}&spr=https,http&sig={}",
        escape(expiry),
        escape(&signature)
    )
}
