//! The streams of front ends, and where they are served.

use super::wire::decode_from_front_end;
use futures::StreamExt;
use futures::stream::BoxStream;
use maniple_core::slots::message::ToDataRole;
use maniple_proto::slots::slots_server::{Slots, SlotsServer};
use maniple_proto::slots::{FromDataRole, FromFrontEnd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

/// Largest message that is read: a Hello with thousands of instances.
const MESSAGE_BYTES: usize = 16 << 20;

/// Number of a stream in this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// What happens on the streams of front ends.
#[derive(Debug)]
pub enum StreamEvent {
    /// One is open. Dropping `to` ends it.
    Opened {
        /// Which.
        id: ConnectionId,
        /// Towards the front end. Unbounded, because a grant that is lost would be a slot that is lost; what waits there is limited by
        /// the instances and front ends that there are.
        to: mpsc::UnboundedSender<FromDataRole>,
    },
    /// A message came.
    Said {
        /// On which.
        id: ConnectionId,
        /// What.
        message: ToDataRole,
    },
    /// One is closed.
    Closed {
        /// Which.
        id: ConnectionId,
    },
}

/// Takes the streams of front ends, on every replica.
#[derive(Clone)]
pub struct SlotsService {
    events: mpsc::UnboundedSender<StreamEvent>,
    next: Arc<AtomicU64>,
    stop: CancellationToken,
}

impl SlotsService {
    /// Tells `events`; every stream ends when `stop` is cancelled.
    pub fn new(events: mpsc::UnboundedSender<StreamEvent>, stop: CancellationToken) -> Self {
        Self {
            events,
            next: Arc::default(),
            stop,
        }
    }

    /// The service for a gRPC server.
    pub fn into_server(self) -> SlotsServer<Self> {
        SlotsServer::new(self).max_decoding_message_size(MESSAGE_BYTES)
    }

    async fn read(self, id: ConnectionId, mut said: Streaming<FromFrontEnd>) {
        loop {
            let message = tokio::select! {
                () = self.stop.cancelled() => break,
                message = said.message() => message,
            };
            let message = match message {
                Ok(Some(message)) => decode_from_front_end(message),
                Ok(None) => break,
                Err(status) => {
                    tracing::info!(stream = id.0, "stream of a front end broke: {status}");
                    break;
                }
            };
            match message {
                Ok(message) => {
                    if self.events.send(StreamEvent::Said { id, message }).is_err() {
                        break;
                    }
                }
                Err(error) => {
                    tracing::warn!(stream = id.0, category = error.category(), "{error}");
                    break;
                }
            }
        }
        let _ = self.events.send(StreamEvent::Closed { id });
    }
}

#[tonic::async_trait]
impl Slots for SlotsService {
    type JoinStream = BoxStream<'static, Result<FromDataRole, Status>>;

    async fn join(
        &self,
        request: Request<Streaming<FromFrontEnd>>,
    ) -> Result<Response<Self::JoinStream>, Status> {
        let id = ConnectionId(self.next.fetch_add(1, Ordering::Relaxed));
        let (to, messages) = mpsc::unbounded_channel();
        if self.events.send(StreamEvent::Opened { id, to }).is_err() {
            return Err(Status::unavailable("this replica is stopping"));
        }
        tokio::spawn(self.clone().read(id, request.into_inner()));
        let messages = UnboundedReceiverStream::new(messages)
            .map(Ok)
            .take_until(self.stop.clone().cancelled_owned());
        Ok(Response::new(messages.boxed()))
    }
}
