//! When groups are to be looked at although nothing happens: one place in an ordered set for each group that waits.

use crate::index::GroupKey;
use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

/// The waiting groups, by a clock that never goes back.
#[derive(Debug, Default)]
pub(super) struct Wakes {
    order: BTreeSet<(Duration, GroupKey)>,
    times: HashMap<GroupKey, Duration>,
}

impl Wakes {
    /// Sets when to look at a group; `None`: only when something happens.
    pub(super) fn set(&mut self, key: &GroupKey, at: Option<Duration>) {
        let before = match at {
            Some(at) => self.times.insert(key.clone(), at),
            None => self.times.remove(key),
        };
        if before == at {
            return;
        }
        if let Some(before) = before {
            self.order.remove(&(before, key.clone()));
        }
        if let Some(at) = at {
            self.order.insert((at, key.clone()));
        }
    }

    /// The earliest time.
    pub(super) fn next(&self) -> Option<Duration> {
        self.order.first().map(|(at, _)| *at)
    }

    /// A group whose time has come.
    pub(super) fn pop(&mut self, now: Duration) -> Option<GroupKey> {
        if self.next()? > now {
            return None;
        }
        let (_, key) = self.order.pop_first()?;
        self.times.remove(&key);
        Some(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::AppKey;

    #[test]
    fn every_group_has_one_place() {
        let key = |name: &str| GroupKey::from_text(AppKey::new("ns", name), "http");
        let second = Duration::from_secs;
        let mut wakes = Wakes::default();
        wakes.set(&key("a"), Some(second(5)));
        wakes.set(&key("b"), Some(second(3)));
        wakes.set(&key("a"), Some(second(1)));
        wakes.set(&key("c"), Some(second(2)));
        wakes.set(&key("c"), None);
        assert_eq!(wakes.next(), Some(second(1)));
        assert_eq!(wakes.pop(second(4)), Some(key("a")));
        assert_eq!(wakes.pop(second(2)), None);
        assert_eq!(wakes.pop(second(3)), Some(key("b")));
        assert_eq!((wakes.next(), wakes.times.len()), (None, 0));
    }
}
