//! The record of the data role: which term leads, and which front ends may hold slots.
//!
//! It stands in one annotation of the Lease of leader election, and is only written by compare-and-swap: whoever takes over raises
//! the epoch and reads the members in one write, and a deposed data role fails at its next one.

use super::metrics::SlotsMetrics;
use maniple_core::slots::message::{Epoch, FrontEndId, FrontEndPod, MemberRecord};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Shortest and longest wait before a write is tried again.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// The record.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// The term that leads; 0 before the first.
    pub epoch: u64,
    /// Whether there ever was a front end. Before that nothing counts requests.
    #[serde(default)]
    pub served: bool,
    /// The front ends that may hold slots.
    #[serde(default)]
    pub members: Vec<Member>,
}

/// A front end in the record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Member {
    /// Id of the process in hexadecimal digits.
    id: String,
    /// Uid of its pod in hexadecimal digits.
    pod: String,
    restarts: u32,
    /// Whether its pod was among the watched ones: only then its absence proves anything.
    pub watched: bool,
}

impl Member {
    /// `watched`: whether its pod was among the watched ones when it joined.
    pub fn new(record: MemberRecord, watched: bool) -> Self {
        Self {
            id: format!("{:032x}", record.id.0),
            pod: format!("{:032x}", record.pod.uid),
            restarts: record.pod.restarts,
            watched,
        }
    }

    /// In the terms of the protocol; none when it cannot be read.
    pub fn record(&self) -> Option<MemberRecord> {
        let hex = |text: &str| u128::from_str_radix(text, 16).ok();
        Some(MemberRecord {
            id: FrontEndId(hex(&self.id)?),
            pod: FrontEndPod {
                uid: hex(&self.pod)?,
                restarts: self.restarts,
            },
        })
    }
}

impl Record {
    /// The members in the terms of the protocol.
    ///
    /// # Errors
    /// When one of them cannot be read: it may hold slots, so that nothing can be lent.
    pub fn members(&self) -> Result<Vec<MemberRecord>, StoreError> {
        let records = self
            .members
            .iter()
            .map(Member::record)
            .collect::<Option<_>>();
        records.ok_or_else(|| unreadable("a member is not written in hexadecimal digits"))
    }

    /// Reads the text of the annotation.
    ///
    /// # Errors
    /// When it is not what this program writes.
    pub fn parse(text: &str) -> Result<Self, StoreError> {
        serde_json::from_str(text).map_err(|error| unreadable(&error.to_string()))
    }

    /// The text of the annotation.
    pub fn text(&self) -> String {
        serde_json::to_string(self).expect("a record has no keys that are not text")
    }

    fn remove(&mut self, id: FrontEndId) {
        self.members
            .retain(|member| member.record().is_none_or(|record| record.id != id));
    }
}

fn unreadable(problem: &str) -> StoreError {
    StoreError::Unreadable(problem.to_owned())
}

/// Why the record could not be read or written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Somebody else wrote in between.
    #[error("somebody else wrote the record in between")]
    Conflict,
    /// It is not what this program writes.
    #[error("the record of the data role cannot be read: {0}; run replicas of one version")]
    Unreadable(String),
    /// The API server did not answer as it should.
    #[error("the cluster does not answer: {0}; it is tried again")]
    Failed(String),
}

impl StoreError {
    /// Stable name for logs and metrics.
    pub fn category(&self) -> &'static str {
        match self {
            Self::Conflict => "conflict",
            Self::Unreadable(_) => "unreadable",
            Self::Failed(_) => "failed",
        }
    }
}

/// Why a term is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("another data role leads epoch {0}: this process ends, the other one serves")]
pub struct TermOver(pub u64);

/// Where the record stands.
pub trait RecordStore: Clone + Send + Sync + 'static {
    /// What a write is compared with.
    type Version: Send + Sync;

    /// The present record and its version.
    fn read(&self) -> impl Future<Output = Result<(Record, Self::Version), StoreError>> + Send;

    /// Replaces the record of that version, or fails with [`StoreError::Conflict`].
    fn write(
        &self,
        record: &Record,
        version: &Self::Version,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// Raises the epoch by one and reads the members with the same write. Tries until it succeeds.
pub(super) async fn take_over<S: RecordStore>(store: &S, metrics: &SlotsMetrics) -> Record {
    let mut wait = RETRY.0;
    loop {
        let result = async {
            let (mut record, version) = store.read().await?;
            record.members()?;
            record.epoch += 1;
            let written = store.write(&record, &version).await;
            metrics.wrote(&written);
            written.map(|()| record)
        };
        match result.await {
            Ok(record) => return record,
            Err(error) => pause(&error, &mut wait).await,
        }
    }
}

/// What is to be changed in the record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum RecordChange {
    /// A front end joins.
    Add(Member),
    /// A front end is over.
    Remove(FrontEndId),
    /// Nothing: only proves that the term still leads.
    Confirm,
}

/// Changes the record while `epoch` leads. Tries until it succeeds.
///
/// # Errors
/// When another epoch leads.
pub(super) async fn change<S: RecordStore>(
    store: &S,
    epoch: Epoch,
    changes: &[RecordChange],
    metrics: &SlotsMetrics,
) -> Result<(), TermOver> {
    let mut wait = RETRY.0;
    loop {
        let result = async {
            let (mut record, version) = store.read().await?;
            if record.epoch != epoch.0 {
                return Ok(Err(TermOver(record.epoch)));
            }
            for change in changes {
                match change {
                    RecordChange::Add(member) => {
                        record.members.retain(|known| known.id != member.id);
                        record.members.push(member.clone());
                        record.served = true;
                    }
                    RecordChange::Remove(id) => record.remove(*id),
                    RecordChange::Confirm => {}
                }
            }
            let written = store.write(&record, &version).await;
            metrics.wrote(&written);
            written?;
            Ok(Ok(()))
        };
        match result.await {
            Ok(done) => return done,
            Err(error) => pause(&error, &mut wait).await,
        }
    }
}

async fn pause(error: &StoreError, wait: &mut Duration) {
    if *error != StoreError::Conflict {
        tracing::warn!("{error}");
    }
    tokio::time::sleep(wait.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
    *wait = (*wait * 2).min(RETRY.1);
}
