//! A string that must not be shown.

use std::fmt;
use std::sync::Arc;

/// A secret text (account key, SAS token). `Debug` shows only that it is there; there is no `Display`.
///
/// Equality and hashing look at the value, so that pollers with different credentials are never mixed up.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Secret(Arc<str>);

impl Secret {
    /// Wraps a secret text.
    pub fn new(value: impl Into<Arc<str>>) -> Self {
        Self(value.into())
    }

    /// The text itself. Only for signing requests; never format the result.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use super::Secret;

    #[test]
    fn debug_shows_nothing_of_the_value() {
        let shown = format!("{:?} {:#?}", Secret::new("top"), Some(Secret::new("top")));
        assert!(!shown.contains("top"), "{shown}");
        assert!(shown.contains("redacted"));
    }

    #[test]
    fn equality_looks_at_the_value() {
        assert_eq!(Secret::new("a"), Secret::new("a"));
        assert_ne!(Secret::new("a"), Secret::new("b"));
    }
}
