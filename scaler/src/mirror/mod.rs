//! Two replicas, one answer: the standby follows the decisions of the leader and repeats them.

use crate::index::GroupKey;
use maniple_core::decision::Decision;
use std::sync::Arc;

/// What the leader says about a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mirrored {
    /// It decided this.
    Decided(Arc<Decision>),
    /// It cannot decide, for this reason.
    Unknown(Arc<str>),
}

/// What is heard from the leader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MirrorEvent {
    /// A message. Also one without groups shows that the leader is there.
    Snapshot {
        /// Whether groups that are not listed are gone.
        full: bool,
        /// The groups that changed; `None`: gone.
        groups: Vec<(GroupKey, Option<Mirrored>)>,
    },
    /// The connection broke.
    Lost,
}
