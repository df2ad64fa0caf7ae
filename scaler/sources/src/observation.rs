//! What is known about a source at a moment.

use std::time::Instant;

use crate::storage::StorageError;

/// Why a source could not be read. Cheap to compare and to show; never contains a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceError {
    /// Stable short name (`throttled`, `unauthorized`, `unreachable` …).
    pub category: &'static str,
    /// What is wrong, where, and what to do.
    pub message: String,
    /// Whether it may pass without anybody changing something.
    pub transient: bool,
}

impl From<&StorageError> for SourceError {
    fn from(error: &StorageError) -> Self {
        Self {
            category: error.category(),
            message: error.to_string(),
            transient: error.is_transient(),
        }
    }
}

/// The result of the latest read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome<R> {
    /// Nothing was read yet.
    Pending,
    /// The source answered.
    Read(R),
    /// The source could not be read. Its backlog is unknown, not zero.
    Failed(SourceError),
}

/// A successful read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastRead<R> {
    /// What was read.
    pub reading: R,
    /// When the answer was complete.
    pub at: Instant,
}

/// The present knowledge about a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observation<R> {
    /// The latest read.
    pub outcome: Outcome<R>,
    /// When the latest read ended; when the observation was made, while it is pending.
    pub at: Instant,
    /// The latest read that succeeded (the same as `outcome` after a success).
    pub last_ok: Option<LastRead<R>>,
}

impl<R: Clone> Observation<R> {
    /// The state before the first read.
    pub fn pending(at: Instant) -> Self {
        Self {
            outcome: Outcome::Pending,
            at,
            last_ok: None,
        }
    }

    /// The reading, if the latest read succeeded.
    pub fn reading(&self) -> Option<&R> {
        match &self.outcome {
            Outcome::Read(reading) => Some(reading),
            Outcome::Pending | Outcome::Failed(_) => None,
        }
    }

    /// The error, if the latest read failed.
    pub fn error(&self) -> Option<&SourceError> {
        match &self.outcome {
            Outcome::Failed(error) => Some(error),
            Outcome::Pending | Outcome::Read(_) => None,
        }
    }

    /// The observation after one more read.
    pub(crate) fn next(&self, result: Result<R, SourceError>, at: Instant) -> Self {
        match result {
            Ok(reading) => Self {
                outcome: Outcome::Read(reading.clone()),
                at,
                last_ok: Some(LastRead { reading, at }),
            },
            Err(error) => Self {
                outcome: Outcome::Failed(error),
                at,
                last_ok: self.last_ok.clone(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_failure_keeps_the_last_success() {
        let start = Instant::now();
        let second = |n| start + Duration::from_secs(n);
        let error = SourceError {
            category: "unreachable",
            message: "m".to_owned(),
            transient: true,
        };
        let pending = Observation::<u64>::pending(start);
        assert_eq!((pending.reading(), pending.error()), (None, None));
        let read = pending.next(Ok(7), second(1));
        assert_eq!(read.reading(), Some(&7));
        let failed = read.next(Err(error.clone()), second(2));
        assert_eq!((failed.reading(), failed.error()), (None, Some(&error)));
        assert_eq!(
            failed.last_ok,
            Some(LastRead {
                reading: 7,
                at: second(1)
            })
        );
        assert_eq!(failed.at, second(2));
    }
}
