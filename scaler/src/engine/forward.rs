//! Telling the engine that something new was read for a group.

use super::feed::Observations;
use crate::index::GroupKey;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

/// A task that ends when this is dropped.
pub(super) type ForwardTask = AbortOnDropHandle<()>;

/// Tells that one group has something new.
#[derive(Clone)]
pub(super) struct Forwarder {
    pub(super) group: GroupKey,
    pub(super) dirty: mpsc::Sender<GroupKey>,
}

impl Forwarder {
    /// Follows a channel to its end, which is told too.
    pub(super) fn follow<R: Send + Sync + 'static>(
        &self,
        observations: &Observations<R>,
    ) -> ForwardTask {
        let (mut observations, this) = (observations.clone(), self.clone());
        AbortOnDropHandle::new(tokio::spawn(async move {
            loop {
                // The engine reads the value itself, at the moment when it decides.
                let ended = observations.changed().await.is_err();
                if this.dirty.send(this.group.clone()).await.is_err() || ended {
                    return;
                }
            }
        }))
    }
}
