//! The files of the corpus.

use anyhow::{Context, Result};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::recorder::Received;

/// A request that an instance gets.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Expected {
    line: String,
    #[serde(default)]
    headers: Vec<String>,
    #[serde(default)]
    body: String,
    #[serde(default)]
    trailers: Vec<String>,
}

impl From<Expected> for Received {
    fn from(expected: Expected) -> Self {
        Self {
            line: expected.line,
            headers: expected.headers,
            body: expected.body,
            trailers: expected.trailers,
        }
    }
}

/// Reads a file of cases. Characters stand for the bytes of the same numbers.
pub(crate) fn read<T: DeserializeOwned>(text: &str) -> Result<Vec<T>> {
    serde_json::from_str(text).context("the corpus cannot be read")
}

/// The bytes of a text of the corpus.
pub(crate) fn bytes(text: &str) -> Result<Vec<u8>> {
    text.chars()
        .map(|c| u8::try_from(u32::from(c)).with_context(|| format!("{c:?} is no byte")))
        .collect()
}
