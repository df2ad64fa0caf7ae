//! Two replicas, one answer: the standby follows the decisions of the leader and repeats them.

mod client;
mod message;
mod server;

use crate::index::GroupKey;
use maniple_core::decision::Decision;
use std::sync::Arc;

pub use client::{address, follow};
pub use server::MirrorService;

/// What the leader says about a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mirrored {
    /// It decided this.
    Decided(Arc<Decision>),
    /// It cannot decide, for this reason.
    Unknown(Arc<str>),
}

/// A message of the leader. Also one without groups shows that the leader is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MirrorMessage {
    /// Whether groups that are not listed are gone.
    pub full: bool,
    /// The groups that changed; `None`: gone.
    pub groups: Vec<(GroupKey, Option<Mirrored>)>,
}
