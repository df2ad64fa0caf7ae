//! The present decisions, in memory: written by the engine, read by everything that answers.

mod log;
mod report;

use crate::grpc::{Answer, DecisionBook, GroupRef};
use crate::index::{AppKey, GroupKey};
use log::Log;
use maniple_core::decision::{Decision, Reason};
use parking_lot::RwLock;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::watch;

pub use log::{Change, Changes};

/// Followed groups that do not exist, above which those that nobody follows any more are forgotten.
const STRANGERS: usize = 1024;

/// What is said about one group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// This was decided.
    Decided {
        /// The decision.
        decision: Arc<Decision>,
        /// Declared replicas of the Deployment, as far as they were seen.
        observed: Option<u32>,
    },
    /// Nothing can be said, for this reason.
    Unknown(Arc<str>),
}

impl Entry {
    fn answer(&self) -> Answer {
        match self {
            Self::Unknown(reason) => Answer::Unknown {
                reason: Arc::clone(reason),
            },
            Self::Decided { decision, observed } => answer(decision, *observed),
        }
    }
}

fn answer(decision: &Decision, observed: Option<u32>) -> Answer {
    let reason = || Arc::from(decision.message.as_str());
    match (decision.reason, decision.desired) {
        (Reason::Paused, _) => Answer::Paused { reason: reason() },
        // Kept at zero because a source cannot be read: that is not the same as "no work".
        (_, None) | (Reason::HoldUnknown, Some(0)) => Answer::Unknown { reason: reason() },
        (_, Some(desired)) => Answer::Known { desired, observed },
    }
}

/// The groups of an app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppPage {
    /// Generation of the FunctionApp that the decisions are made from.
    pub generation: i64,
    /// Its groups with their names for people, in order.
    pub groups: Vec<(GroupKey, String)>,
}

#[derive(Debug)]
struct Slot {
    entry: Entry,
    answer: watch::Sender<Answer>,
}

#[derive(Debug)]
struct Inner {
    groups: HashMap<GroupKey, Slot>,
    apps: HashMap<AppKey, AppPage>,
    /// Groups that somebody follows and that do not exist.
    strangers: HashMap<GroupKey, watch::Sender<Answer>>,
    /// The answer for groups that do not exist.
    stranger: Answer,
    log: Log,
}

/// The book.
#[derive(Debug)]
pub struct Book {
    inner: RwLock<Inner>,
    /// Number of the last change.
    version: watch::Sender<u64>,
    speaks: AtomicBool,
}

impl Book {
    /// An empty book that answers "unknown" with this reason until [`Book::open`].
    pub fn new(reason: &str) -> Self {
        Self {
            inner: RwLock::new(Inner {
                groups: HashMap::new(),
                apps: HashMap::new(),
                strangers: HashMap::new(),
                stranger: Answer::Unknown {
                    reason: reason.into(),
                },
                log: Log::default(),
            }),
            version: watch::Sender::new(0),
            speaks: AtomicBool::new(false),
        }
    }

    /// Whether what stands in the book is worth telling: it was decided here, or heard from the leader lately.
    pub fn speaks(&self) -> bool {
        self.speaks.load(Ordering::Relaxed)
    }

    /// Sets [`Book::speaks`].
    pub fn speak(&self, speaks: bool) {
        self.speaks.store(speaks, Ordering::Relaxed);
    }

    /// From now on a group that is not in the book does not exist.
    pub fn open(&self) {
        let mut inner = self.inner.write();
        inner.stranger = Answer::NotFound;
        for sender in inner.strangers.values() {
            sender.send_replace(Answer::NotFound);
        }
    }

    /// Writes what is said about a group. Nobody is woken when it says the same as before.
    pub fn write(&self, key: &GroupKey, entry: Entry) {
        let mut inner = self.inner.write();
        let inner = &mut *inner;
        let version = match inner.groups.get_mut(key) {
            Some(slot) if slot.entry == entry => return,
            Some(slot) => {
                let answer = entry.answer();
                slot.entry = entry;
                slot.answer.send_if_modified(|present| {
                    let changed = *present != answer;
                    *present = answer;
                    changed
                });
                inner.log.changed(key)
            }
            None => {
                let answer = entry.answer();
                let sender = match inner.strangers.remove(key) {
                    Some(sender) => {
                        sender.send_replace(answer);
                        sender
                    }
                    None => watch::Sender::new(answer),
                };
                let slot = Slot {
                    entry,
                    answer: sender,
                };
                inner.groups.insert(key.clone(), slot);
                inner.log.changed(key)
            }
        };
        self.version.send_replace(version);
    }

    /// A group is gone. Whoever follows it learns that and then sees the end.
    pub fn remove(&self, key: &GroupKey) {
        let mut inner = self.inner.write();
        if let Some(slot) = inner.groups.remove(key) {
            slot.answer.send_replace(Answer::NotFound);
            let inner = &mut *inner;
            let version = inner.log.changed(key);
            inner.log.trim(&inner.groups);
            self.version.send_replace(version);
        }
    }

    /// Writes which groups an app has.
    pub fn write_app(&self, key: &AppKey, page: AppPage) {
        self.inner.write().apps.insert(key.clone(), page);
    }

    /// An app is gone.
    pub fn remove_app(&self, key: &AppKey) {
        self.inner.write().apps.remove(key);
    }

    /// What is said about a group.
    pub fn entry(&self, key: &GroupKey) -> Option<Entry> {
        self.inner
            .read()
            .groups
            .get(key)
            .map(|slot| slot.entry.clone())
    }

    /// Follows the number of the last change.
    pub fn version(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    /// What has changed since the change with this number; everything when `since` is `None` or too long ago.
    pub fn changes_since(&self, since: Option<u64>) -> Changes {
        let inner = self.inner.read();
        inner.log.since(since, &inner.groups)
    }
}

fn key_of(group: &GroupRef) -> GroupKey {
    let app = AppKey::new(Arc::clone(&group.namespace), Arc::clone(&group.app));
    GroupKey::new(app, &group.group)
}

impl DecisionBook for Book {
    fn answer(&self, group: &GroupRef) -> Answer {
        let inner = self.inner.read();
        match inner.groups.get(&key_of(group)) {
            Some(slot) => slot.answer.borrow().clone(),
            None => inner.stranger.clone(),
        }
    }

    fn changes(&self, group: &GroupRef) -> watch::Receiver<Answer> {
        let key = key_of(group);
        if let Some(slot) = self.inner.read().groups.get(&key) {
            return slot.answer.subscribe();
        }
        let mut inner = self.inner.write();
        // It may have come between the two locks.
        if let Some(slot) = inner.groups.get(&key) {
            return slot.answer.subscribe();
        }
        if inner.strangers.len() >= STRANGERS {
            inner
                .strangers
                .retain(|_, sender| sender.receiver_count() > 0);
        }
        let answer = inner.stranger.clone();
        let sender = inner
            .strangers
            .entry(key)
            .or_insert_with(|| watch::Sender::new(answer));
        sender.subscribe()
    }
}

#[cfg(test)]
mod tests;
