//! Connections to one instance.
//!
//! Built on hyper's connections and not on hyper-util's client, because a request that could not be sent has to come back whole, to be tried elsewhere: the
//! pooled client keeps it. A slot bounds the number of connections, so that the pool is a stack of idle ones.

mod body;

use std::{net::SocketAddr, time::Duration};

use http::{Request, Response};
use hyper::{
    body::Incoming,
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use parking_lot::Mutex;
use socket2::SockRef;
use tokio::{net::TcpStream, time::Instant};

use crate::pool::Protocol;

pub use body::{BodyError, ClientBody, RequestBody};

/// A connection attempt that took longer is over, and the request goes elsewhere.
const CONNECT_LIMIT: Duration = Duration::from_secs(1);

/// An idle connection that was not used for longer is closed: before the 130 s after which the function host closes it, so that no request meets that.
const IDLE_LIMIT: Duration = Duration::from_secs(60);

/// Bytes that are not acknowledged for longer break the connection; part of the time after which nothing of a dead front end arrives any more.
const UNACKNOWLEDGED_LIMIT: Duration = Duration::from_secs(10);

/// A connection that carried a request; given back with [`Upstream::put_back`] when the response was read to its end.
#[derive(Debug)]
pub enum Connection {
    /// One request at a time.
    Http1(http1::SendRequest<RequestBody>),
    /// Shared by all requests.
    Http2,
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
    /// It may have run.
    Lost(hyper::Error),
}

/// Connections to one address.
#[derive(Debug)]
pub struct Upstream {
    address: SocketAddr,
    idle: Mutex<Vec<(http1::SendRequest<RequestBody>, Instant)>>,
    shared: tokio::sync::Mutex<Option<http2::SendRequest<RequestBody>>>,
}

impl Upstream {
    /// No connection yet.
    pub fn new(address: SocketAddr) -> Self {
        Self {
            address,
            idle: Mutex::new(Vec::new()),
            shared: tokio::sync::Mutex::new(None),
        }
    }

    /// Where it connects to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sends `request` and waits for the head of the response. For HTTP/1.1 its target is a path, for HTTP/2 it names scheme and authority.
    pub async fn send(
        &self,
        protocol: Protocol,
        request: Request<RequestBody>,
    ) -> Result<(Response<Incoming>, Connection), SendError> {
        match protocol {
            Protocol::Http1 => self.send_http1(request).await,
            Protocol::H2c => self.send_http2(request).await,
        }
    }

    async fn send_http1(
        &self,
        mut request: Request<RequestBody>,
    ) -> Result<(Response<Incoming>, Connection), SendError> {
        loop {
            let (mut connection, reused) = match self.take_idle().await {
                Some(connection) => (connection, true),
                None => match self.connect_http1().await {
                    Ok(connection) => (connection, false),
                    Err(reason) => {
                        return Err(SendError::NotSent {
                            request: Box::new(request),
                            reason,
                        });
                    }
                },
            };
            match connection.try_send_request(request).await {
                Ok(response) => return Ok((response, Connection::Http1(connection))),
                Err(mut failed) => match failed.take_message() {
                    // The instance closed an idle connection while it was picked: the next one.
                    Some(whole) if reused => request = whole,
                    Some(whole) => {
                        let reason = failed.into_error().to_string();
                        return Err(SendError::NotSent {
                            request: Box::new(whole),
                            reason,
                        });
                    }
                    None => return Err(SendError::Lost(failed.into_error())),
                },
            }
        }
    }

    async fn take_idle(&self) -> Option<http1::SendRequest<RequestBody>> {
        loop {
            let (mut connection, since) = self.idle.lock().pop()?;
            if since.elapsed() > IDLE_LIMIT {
                // The rest of the stack is older still.
                self.idle
                    .lock()
                    .retain(|(_, since)| since.elapsed() <= IDLE_LIMIT);
                continue;
            }
            if !connection.is_closed() && connection.ready().await.is_ok() {
                return Some(connection);
            }
        }
    }

    async fn connect(&self) -> Result<TcpStream, String> {
        let stream = tokio::time::timeout(CONNECT_LIMIT, TcpStream::connect(self.address))
            .await
            .map_err(|_| {
                format!(
                    "{} did not accept a connection in {CONNECT_LIMIT:?}",
                    self.address
                )
            })?
            .map_err(|error| format!("{} refused the connection: {error}", self.address))?;
        let tuned = stream
            .set_nodelay(true)
            .and_then(|()| SockRef::from(&stream).set_tcp_user_timeout(Some(UNACKNOWLEDGED_LIMIT)));
        tuned.map_err(|error| format!("{}: socket options: {error}", self.address))?;
        Ok(stream)
    }

    async fn connect_http1(&self) -> Result<http1::SendRequest<RequestBody>, String> {
        let stream = self.connect().await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| format!("{}: {error}", self.address))?;
        tokio::spawn(async move {
            // Its requests report what broke it.
            connection.with_upgrades().await.ok();
        });
        sender
            .ready()
            .await
            .map_err(|error| format!("{}: {error}", self.address))?;
        Ok(sender)
    }

    async fn send_http2(
        &self,
        mut request: Request<RequestBody>,
    ) -> Result<(Response<Incoming>, Connection), SendError> {
        // One broken shared connection and one new one; a third would only meet the same.
        for _ in 0..2 {
            let mut connection = match self.connect_http2().await {
                Ok(connection) => connection,
                Err(reason) => {
                    return Err(SendError::NotSent {
                        request: Box::new(request),
                        reason,
                    });
                }
            };
            match connection.try_send_request(request).await {
                Ok(response) => return Ok((response, Connection::Http2)),
                Err(mut failed) => match failed.take_message() {
                    Some(whole) => request = whole,
                    None => return Err(SendError::Lost(failed.into_error())),
                },
            }
        }
        let reason = format!("{} closes every HTTP/2 connection", self.address);
        Err(SendError::NotSent {
            request: Box::new(request),
            reason,
        })
    }

    async fn connect_http2(&self) -> Result<http2::SendRequest<RequestBody>, String> {
        let mut shared = self.shared.lock().await;
        if let Some(connection) = &mut *shared
            && !connection.is_closed()
            && connection.ready().await.is_ok()
        {
            return Ok(connection.clone());
        }
        let stream = self.connect().await?;
        let (mut sender, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .adaptive_window(true)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| format!("{}: {error}", self.address))?;
        tokio::spawn(async move {
            connection.await.ok();
        });
        sender
            .ready()
            .await
            .map_err(|error| format!("{}: {error}", self.address))?;
        *shared = Some(sender.clone());
        Ok(sender)
    }

    /// The response was read to its end: the connection can carry the next request.
    pub fn put_back(&self, connection: Connection) {
        if let Connection::Http1(connection) = connection
            && !connection.is_closed()
        {
            self.idle.lock().push((connection, Instant::now()));
        }
    }
}
