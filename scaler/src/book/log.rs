//! The order in which groups changed, so that a follower can be sent what is new to it.

use super::{Entry, Slot};
use crate::index::GroupKey;
use std::collections::{BTreeMap, HashMap};

/// Groups that are gone and still in the log. A follower that is further behind gets everything anew.
const GONE: usize = 10_000;

/// One group that changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The group.
    pub key: GroupKey,
    /// What is said about it now; `None`: it is gone.
    pub entry: Option<Entry>,
}

/// What has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changes {
    /// Number of the last change.
    pub version: u64,
    /// Whether groups that are not listed are gone.
    pub full: bool,
    /// The groups.
    pub groups: Vec<Change>,
}

#[derive(Debug, Default)]
pub(super) struct Log {
    version: u64,
    /// Group by the number of its last change.
    order: BTreeMap<u64, GroupKey>,
    numbers: HashMap<GroupKey, u64>,
    /// Changes up to this number may be missing in the log.
    forgotten: u64,
}

impl Log {
    /// A group changed or went. Returns the number of the change.
    pub(super) fn changed(&mut self, key: &GroupKey) -> u64 {
        self.version += 1;
        if let Some(number) = self.numbers.insert(key.clone(), self.version) {
            self.order.remove(&number);
        }
        self.order.insert(self.version, key.clone());
        self.version
    }

    pub(super) fn since(&self, since: Option<u64>, groups: &HashMap<GroupKey, Slot>) -> Changes {
        let since = since.filter(|since| *since >= self.forgotten && *since <= self.version);
        let change = |key: &GroupKey| Change {
            key: key.clone(),
            entry: groups.get(key).map(|slot| slot.entry.clone()),
        };
        let groups = match since {
            Some(since) => self
                .order
                .range(since + 1..)
                .map(|(_, key)| change(key))
                .collect(),
            None => groups.keys().map(change).collect(),
        };
        Changes {
            version: self.version,
            full: since.is_none(),
            groups,
        }
    }

    /// Forgets groups that are gone when there are too many of them.
    pub(super) fn trim(&mut self, groups: &HashMap<GroupKey, Slot>) {
        if self.numbers.len() <= groups.len() + GONE {
            return;
        }
        self.order.retain(|_, key| groups.contains_key(key));
        self.numbers.retain(|key, _| groups.contains_key(key));
        self.forgotten = self.version;
    }
}
