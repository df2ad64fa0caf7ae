//! The leader's side.

use super::message::encode;
use crate::book::Book;
use maniple_proto::mirror::mirror_server::{Mirror, MirrorServer};
use maniple_proto::mirror::{Snapshot, WatchRequest};
use maniple_runtime::LeaderState;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

/// Changes that come within this time go together.
const TOGETHER: Duration = Duration::from_millis(20);
/// Longest time between two messages.
pub(super) const HEARTBEAT: Duration = Duration::from_secs(2);
/// Groups in one message: about half a megabyte.
const GROUPS: usize = 500;

/// Tells standbys what this process decides.
#[derive(Clone)]
pub struct MirrorService {
    book: Arc<Book>,
    leadership: watch::Receiver<LeaderState>,
    stop: CancellationToken,
}

impl MirrorService {
    /// A service over `book` that only speaks while this process leads, and until `stop` is cancelled.
    pub fn new(
        book: Arc<Book>,
        leadership: watch::Receiver<LeaderState>,
        stop: CancellationToken,
    ) -> Self {
        Self {
            book,
            leadership,
            stop,
        }
    }

    /// The service for a gRPC server.
    pub fn into_server(self) -> MirrorServer<Self> {
        MirrorServer::new(self)
    }

    fn leads(&self) -> bool {
        matches!(*self.leadership.borrow(), LeaderState::Leading { .. })
    }

    async fn tell(mut self, sender: mpsc::Sender<Result<Snapshot, Status>>) {
        let mut version = self.book.version();
        let mut since = None;
        let mut sequence = 0;
        while self.leads() {
            version.borrow_and_update();
            let changes = self.book.changes_since(since);
            since = Some(changes.version);
            let mut full = changes.full;
            let mut chunks = changes.groups.chunks(GROUPS);
            // At least one message, also without groups: that is the heartbeat.
            let mut chunk = chunks.next().unwrap_or_default();
            loop {
                sequence += 1;
                let snapshot = Snapshot {
                    sequence,
                    full: std::mem::take(&mut full),
                    groups: chunk.iter().map(encode).collect(),
                };
                if sender.send(Ok(snapshot)).await.is_err() {
                    return;
                }
                match chunks.next() {
                    Some(next) => chunk = next,
                    None => break,
                }
            }
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = sender.closed() => return,
                Ok(()) = self.leadership.changed() => {}
                Ok(()) = version.changed() => sleep(TOGETHER).await,
                () = sleep(HEARTBEAT) => {}
            }
        }
    }
}

#[tonic::async_trait]
impl Mirror for MirrorService {
    type WatchStream = ReceiverStream<Result<Snapshot, Status>>;

    async fn watch(
        &self,
        request: Request<WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        if !self.leads() || !self.book.speaks() {
            return Err(Status::unavailable(
                "this replica does not lead; ask the holder of the lease",
            ));
        }
        tracing::info!(follower = request.get_ref().follower, "a standby follows");
        let (sender, receiver) = mpsc::channel(4);
        tokio::spawn(self.clone().tell(sender));
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}
