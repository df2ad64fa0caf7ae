//! One instance as this front end uses it.

use std::net::SocketAddr;

use maniple_core::slots::{
    message::{GroupId, InstanceInfo, InstanceUid, Rank},
    word::{Bar, SlotWord},
};
use parking_lot::Mutex;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{cell::Cell, gate::Lane};
use crate::{cold::Start, timer::Limits, upstream::Upstream};

/// An instance: its slots, its connections.
#[derive(Debug)]
pub struct Instance {
    pub(super) cell: Cell,
    info: Mutex<InstanceInfo>,
    uid: InstanceUid,
    upstream: Upstream,
    limits: Limits,
    start: Start,
    gone: CancellationToken,
    _gone_on_drop: DropGuard,
}

impl Lane for Instance {
    fn cell(&self) -> &Cell {
        &self.cell
    }
}

impl Instance {
    pub(super) fn new(info: &InstanceInfo) -> Self {
        let gone = CancellationToken::new();
        Self {
            // Nothing is sent before the address has answered once.
            cell: Cell::new(SlotWord::EMPTY.bar(Bar::Unready)),
            uid: info.uid,
            upstream: Upstream::new(info.address),
            info: Mutex::new(info.clone()),
            limits: Limits::default(),
            start: Start::new(tokio::time::Instant::now()),
            _gone_on_drop: gone.clone().drop_guard(),
            gone,
        }
    }

    /// The pod.
    pub fn uid(&self) -> InstanceUid {
        self.uid
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.upstream.address()
    }

    /// Slots held, in use, lingering, returned.
    pub fn word(&self) -> SlotWord {
        self.cell.word()
    }

    /// Its connections.
    pub fn upstream(&self) -> &Upstream {
        &self.upstream
    }

    /// Limits on its answers.
    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// How it started.
    pub(crate) fn start(&self) -> &Start {
        &self.start
    }

    /// Cancelled when the instance is gone.
    pub(crate) fn gone(&self) -> &CancellationToken {
        &self.gone
    }

    pub(super) fn group(&self) -> GroupId {
        self.info.lock().group.clone()
    }

    pub(super) fn rank(&self) -> Rank {
        self.info.lock().rank
    }

    pub(super) fn set_info(&self, info: &InstanceInfo) {
        *self.info.lock() = info.clone();
    }
}
