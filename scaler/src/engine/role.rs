//! Whether this process decides or repeats what another one decides.

use crate::book::Entry;
use crate::index::GroupKey;
use crate::mirror::{MirrorMessage, Mirrored};
use maniple_core::decision::{Decision, Now};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// How long the last word of the leader is repeated when nothing more is heard.
const FRESH: Duration = Duration::from_secs(10);
/// How old the last word may be for a new leader to begin from it. Longer than an election after a crash.
const INHERITED: Duration = Duration::from_mins(1);

/// The role of this process, and what it has heard from the leader.
#[derive(Debug, Default)]
pub(super) struct Role {
    leads: bool,
    /// When the leader was last heard, on the clock that never goes back.
    heard: Option<Duration>,
    fresh: bool,
    /// Whether every group has been heard of.
    complete: bool,
    mirrored: HashMap<GroupKey, Mirrored>,
    changed: Vec<GroupKey>,
}

impl Role {
    pub(super) fn leads(&self) -> bool {
        self.leads
    }

    pub(super) fn set_leads(&mut self, leads: bool) {
        self.leads = leads;
        // What another leader said is used up by leading, and worth nothing after it.
        self.heard = None;
        self.fresh = false;
        self.complete = false;
        self.mirrored.clear();
    }

    /// Whether the leader was heard lately.
    pub(super) fn is_fresh(&self) -> bool {
        self.fresh
    }

    /// Takes in what was heard. True when everything that is said may have changed by it; else see [`Role::take_changed`].
    pub(super) fn hear(&mut self, message: MirrorMessage, now: Now) -> bool {
        if self.leads {
            return false;
        }
        if message.full {
            self.mirrored.clear();
        }
        for (key, mirrored) in message.groups {
            self.changed.push(key.clone());
            match mirrored {
                Some(mirrored) => self.mirrored.insert(key, mirrored),
                None => self.mirrored.remove(&key),
            };
        }
        self.heard = Some(now.mono);
        self.complete |= message.full;
        let again = self.complete && !self.fresh;
        self.fresh |= again;
        message.full || again
    }

    pub(super) fn take_changed(&mut self) -> Vec<GroupKey> {
        std::mem::take(&mut self.changed)
    }

    /// True when the last word of the leader has just become too old.
    pub(super) fn expire(&mut self, now: Now) -> bool {
        let old = self
            .heard
            .is_none_or(|heard| now.mono.saturating_sub(heard) > FRESH);
        let expired = self.fresh && old;
        self.fresh &= !old;
        expired
    }

    /// The decision with which a new leader begins.
    pub(super) fn inherited(&self, key: &GroupKey, now: Now) -> Option<Arc<Decision>> {
        let heard = self.heard?;
        if self.leads || now.mono.saturating_sub(heard) > INHERITED {
            return None;
        }
        match self.mirrored.get(key)? {
            Mirrored::Decided(decision) => Some(Arc::clone(decision)),
            Mirrored::Unknown(_) => None,
        }
    }

    /// What is said about a group while another process leads.
    pub(super) fn entry(&self, key: &GroupKey, observed: Option<u32>) -> Entry {
        if !self.fresh {
            return Entry::Unknown(
                "this replica does not lead and has not heard from the leader lately".into(),
            );
        }
        match self.mirrored.get(key) {
            None => Entry::Unknown("the leader has not decided about this group yet".into()),
            Some(Mirrored::Unknown(reason)) => Entry::Unknown(Arc::clone(reason)),
            Some(Mirrored::Decided(decision)) => Entry::Decided {
                decision: Arc::clone(decision),
                observed,
            },
        }
    }
}
