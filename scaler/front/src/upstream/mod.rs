//! Connections to one instance.
//!
//! Built on hyper's connections and not on hyper-util's client, because a request that could not be sent has to come back whole, to be tried elsewhere: the
//! pooled client keeps it.

mod body;
mod http1;
mod http2;
mod silence;

use std::{fmt::Display, net::SocketAddr, time::Duration};

use http::{Request, Response};
use hyper::body::Incoming;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

use crate::pool::Protocol;

pub use body::{BodyError, ClientBody, RequestBody};
pub(crate) use body::{BodyShare, Progress};
pub(crate) use silence::Silence;

/// A connection attempt that took longer is over, and the request goes elsewhere.
const CONNECT_LIMIT: Duration = Duration::from_secs(1);

/// Bytes that are not acknowledged for longer break the connection; part of the time after which nothing of a dead front end arrives any more.
const UNACKNOWLEDGED_LIMIT: Duration = Duration::from_secs(10);

/// How long nothing is heard of an instance before the kernel asks whether it is still there, and how often then: a node that is gone is noticed although
/// nothing is sent.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(15), Duration::from_secs(5));

/// A connection that carried a request; given back with [`Upstream::put_back`] when the response was read to its end.
#[derive(Debug)]
pub enum Connection {
    /// One request at a time.
    Http1(http1::Link),
    /// Shared; a place on it.
    Http2(http2::Stream),
}

/// How an instance said that it did not look at a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unprocessed {
    /// It takes no more at the moment.
    Refused,
    /// It closes the connection; another one may be taken.
    GoingAway,
}

/// Why there is no response.
#[derive(Debug)]
pub enum SendError {
    /// Not a byte of the request left: it may be tried elsewhere.
    NotSent {
        /// The whole request.
        request: Box<Request<RequestBody>>,
        /// What happened.
        reason: String,
    },
    /// The instance did not look at it: it may be tried elsewhere.
    Unprocessed(Unprocessed),
    /// There is no more of it than the instance has got.
    Lost {
        /// What happened.
        error: hyper::Error,
        /// Whether a byte of it may have left: then it may have run.
        sent: bool,
    },
}

impl SendError {
    fn not_sent(request: Request<RequestBody>, reason: String) -> Self {
        Self::NotSent {
            request: Box::new(request),
            reason,
        }
    }
}

/// Opens connections to one address.
#[derive(Debug)]
struct Dial(SocketAddr);

impl Dial {
    async fn connect(&self) -> Result<TcpStream, String> {
        let stream = tokio::time::timeout(CONNECT_LIMIT, TcpStream::connect(self.0))
            .await
            .map_err(|_| self.told(format_args!("no connection in {CONNECT_LIMIT:?}")))?
            .map_err(|error| self.told(error))?;
        let socket = SockRef::from(&stream);
        let keepalive = TcpKeepalive::new()
            .with_time(KEEPALIVE.0)
            .with_interval(KEEPALIVE.1);
        socket
            .set_tcp_nodelay(true)
            .and_then(|()| socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED_LIMIT)))
            .and_then(|()| socket.set_tcp_keepalive(&keepalive))
            .map_err(|error| self.told(format_args!("socket options: {error}")))?;
        Ok(stream)
    }

    fn told(&self, what: impl Display) -> String {
        format!("{}: {what}", self.0)
    }
}

/// Connections to one address.
#[derive(Debug)]
pub struct Upstream {
    dial: Dial,
    idle: http1::Idle,
    shared: http2::Shared,
}

impl Upstream {
    /// No connection yet.
    pub fn new(address: SocketAddr) -> Self {
        Self {
            dial: Dial(address),
            idle: http1::Idle::default(),
            shared: http2::Shared::default(),
        }
    }

    /// Where it connects to.
    pub fn address(&self) -> SocketAddr {
        self.dial.0
    }

    /// Sends `request` and waits for the head of the response. For HTTP/1.1 its target is a path, for HTTP/2 it names scheme and authority.
    pub async fn send(
        &self,
        protocol: Protocol,
        request: Request<RequestBody>,
    ) -> Result<(Response<Incoming>, Connection), SendError> {
        match protocol {
            Protocol::Http1 => self.idle.send(&self.dial, request).await,
            Protocol::H2c => Box::pin(self.shared.send(&self.dial, request)).await,
        }
    }

    /// Request and response have come to their ends: the connection can carry the next request.
    pub fn put_back(&self, connection: Connection) {
        if let Connection::Http1(connection) = connection {
            self.idle.put(connection);
        }
    }
}
