//! HTTP/2 without TLS, with prior knowledge: connections shared by as many requests as the instance allows at a time.

use std::{
    error::Error as _,
    future::{Future, poll_fn},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use http::{Request, Response};
use hyper::{body::Incoming, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use parking_lot::Mutex;
use tokio::net::TcpStream;

use super::{Connection, Dial, RequestBody, SendError, Unprocessed};

/// Bytes of one response that may be on the way before the client has taken them: bounds the memory of a client that does not read.
const STREAM_WINDOW: u32 = 256 * 1024;

/// The same of all responses of a connection. Out of reach: clients that do not read must not stop the others.
const CONNECTION_WINDOW: u32 = (1 << 31) - 1;

/// Bytes of the head of a response, as HTTP/2 counts them.
const HEAD_BYTES: u32 = 64 * 1024;

/// Requests at a time before the instance has said how many it allows.
const STREAMS_AT_FIRST: usize = 100;

/// Connections to one address.
#[derive(Debug, Default)]
pub(super) struct Shared {
    open: Mutex<Vec<Arc<Link>>>,
    /// One connection is opened at a time.
    opening: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct Link {
    sender: http2::SendRequest<RequestBody>,
    streams: AtomicUsize,
    /// Held by the task that drives it, which is rarely.
    driven: Arc<Mutex<Driven>>,
}

type Driven = http2::Connection<TokioIo<TcpStream>, RequestBody, TokioExecutor>;

/// The place of one request on a connection, free when dropped.
#[derive(Debug)]
pub struct Stream(Arc<Link>);

impl Drop for Stream {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Link {
    fn enter(self: &Arc<Self>) -> Option<Stream> {
        // What the instance allows may change while it lives. A connection at work in this moment has room for one more: the instance refuses if not.
        let limit = self.driven.try_lock().map_or(usize::MAX, |driven| {
            driven.current_max_send_streams().max(1)
        });
        let entered = self
            .streams
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |streams| {
                (streams < limit).then_some(streams + 1)
            });
        entered.is_ok().then(|| Stream(Arc::clone(self)))
    }
}

impl Shared {
    pub(super) async fn send(
        &self,
        dial: &Dial,
        mut request: Request<RequestBody>,
    ) -> Result<(Response<Incoming>, Connection), SendError> {
        // One connection that the instance has just closed, and one new one; a third would only meet the same.
        for _ in 0..2 {
            let stream = match self.stream(dial).await {
                Ok(stream) => stream,
                Err(reason) => return Err(SendError::not_sent(request, reason)),
            };
            let mut sender = stream.0.sender.clone();
            match sender.try_send_request(request).await {
                Ok(response) => return Ok((response, Connection::Http2(stream))),
                Err(mut failed) => {
                    if let Some(whole) = failed.take_message() {
                        request = whole;
                        continue;
                    }
                    let error = failed.into_error();
                    let Some(how) = unprocessed(&error) else {
                        // What of it is under way on a shared connection is not known.
                        return Err(SendError::Lost { error, sent: true });
                    };
                    if how == Unprocessed::GoingAway {
                        self.forget(&stream.0);
                    }
                    return Err(SendError::Unprocessed(how));
                }
            }
        }
        let reason = dial.told("every HTTP/2 connection is closed at once");
        Err(SendError::not_sent(request, reason))
    }

    async fn stream(&self, dial: &Dial) -> Result<Stream, String> {
        if let Some(stream) = self.find() {
            return Ok(stream);
        }
        let _one = self.opening.lock().await;
        if let Some(stream) = self.find() {
            return Ok(stream);
        }
        let link = connect(dial).await?;
        let stream = link.enter().expect("a new connection carries nothing yet");
        self.open.lock().push(link);
        Ok(stream)
    }

    /// A place on the oldest connection that has one, so that those above the need become empty.
    fn find(&self) -> Option<Stream> {
        let mut open = self.open.lock();
        open.retain(|link| !link.sender.is_closed());
        open.iter().find_map(Link::enter)
    }

    fn forget(&self, link: &Arc<Link>) {
        self.open.lock().retain(|known| !Arc::ptr_eq(known, link));
    }
}

async fn connect(dial: &Dial) -> Result<Arc<Link>, String> {
    let stream = dial.connect().await?;
    // No pings: gRPC servers close connections that ping when nothing goes on. The kernel looks whether the other end is there.
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .initial_max_send_streams(STREAMS_AT_FIRST)
        .max_header_list_size(HEAD_BYTES)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| dial.told(error))?;
    let driven = Arc::new(Mutex::new(connection));
    let connection = Arc::clone(&driven);
    // Its requests report what broke it.
    tokio::spawn(poll_fn(move |cx| {
        Pin::new(&mut *connection.lock()).poll(cx).map(drop)
    }));
    Ok(Arc::new(Link {
        sender,
        streams: AtomicUsize::new(0),
        driven,
    }))
}

/// How the instance said that it did not look at the request (RFC 9113, section 8.7).
///
/// An error of the kind GOAWAY meets only streams above the last one that the instance names, and requests that came after it: what the instance has
/// taken fails by the end of the connection.
fn unprocessed(error: &hyper::Error) -> Option<Unprocessed> {
    let error = error.source()?.downcast_ref::<h2::Error>()?;
    if !error.is_remote() {
        return None;
    }
    if error.is_go_away() {
        return Some(Unprocessed::GoingAway);
    }
    (error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM))
        .then_some(Unprocessed::Refused)
}
