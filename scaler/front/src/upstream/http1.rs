//! HTTP/1.1: a connection carries one request at a time. Slots bound their number, so that the pool is a stack of idle ones.

use std::time::Duration;

use futures::FutureExt;
use http::{HeaderValue, Method, Request, Response, header};
use hyper::{
    body::{Body as _, Incoming},
    client::conn::http1,
};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::{CONNECT_LIMIT, Connection, Dial, RequestBody, SendError};
use crate::gather::{Gather, Written};

/// An idle connection that was not used for longer is not used again: many servers close after 5 s (Node.js, uvicorn), the functions host after 130 s, and a
/// request that meets the closing may have run.
const IDLE_LIMIT: Duration = Duration::from_secs(4);

/// A connection, and what was written to it so far.
#[derive(Debug)]
pub struct Link {
    sender: http1::SendRequest<RequestBody>,
    written: Written,
}

/// Idle connections to one address, the one used last on top.
#[derive(Debug, Default)]
pub(super) struct Idle(Mutex<Vec<(Link, Instant)>>);

impl Idle {
    pub(super) async fn send(
        &self,
        dial: &Dial,
        mut request: Request<RequestBody>,
    ) -> Result<(Response<Incoming>, Connection), SendError> {
        say_where_the_body_ends(&mut request);
        loop {
            let (mut connection, reused) = match self.take().await {
                Some(connection) => (connection, true),
                // Rare, and large: without the box every request makes room for it.
                None => match Box::pin(connect(dial)).await {
                    Ok(connection) => (connection, false),
                    Err(reason) => return Err(SendError::not_sent(request, reason)),
                },
            };
            let before = connection.written.bytes();
            match connection.sender.try_send_request(request).await {
                Ok(response) => return Ok((response, Connection::Http1(connection))),
                Err(mut failed) => match failed.take_message() {
                    // The instance closed an idle connection while it was picked: the next one.
                    Some(whole) if reused => request = whole,
                    Some(whole) => {
                        let reason = failed.into_error().to_string();
                        return Err(SendError::not_sent(whole, reason));
                    }
                    // Only this request was on its way.
                    None => {
                        return Err(SendError::Lost {
                            error: failed.into_error(),
                            sent: connection.written.bytes() > before,
                        });
                    }
                },
            }
        }
    }

    async fn take(&self) -> Option<Link> {
        loop {
            let (mut connection, since) = self.0.lock().pop()?;
            if since.elapsed() > IDLE_LIMIT {
                // The rest of the stack is older still.
                self.0
                    .lock()
                    .retain(|(_, since)| since.elapsed() <= IDLE_LIMIT);
                continue;
            }
            if ready(&mut connection.sender).await {
                return Some(connection);
            }
        }
    }

    pub(super) fn put(&self, connection: Link) {
        if !connection.sender.is_closed() {
            self.0.lock().push((connection, Instant::now()));
        }
    }
}

/// A body of unknown length is sent in chunks. hyper leaves it out of GET and HEAD when the head does not say so.
fn say_where_the_body_ends(request: &mut Request<RequestBody>) {
    let silent = matches!(*request.method(), Method::GET | Method::HEAD)
        && !request.body().is_end_stream()
        && request.body().size_hint().exact().is_none();
    if silent {
        request.headers_mut().insert(
            header::TRANSFER_ENCODING,
            HeaderValue::from_static("chunked"),
        );
    }
}

/// Whether the connection can carry a request: it may still have to see that the one before has ended.
async fn ready(connection: &mut http1::SendRequest<RequestBody>) -> bool {
    if connection.is_closed() {
        return false;
    }
    let ready = connection.ready();
    let mut ready = std::pin::pin!(ready);
    match ready.as_mut().now_or_never() {
        Some(ready) => ready.is_ok(),
        None => matches!(tokio::time::timeout(CONNECT_LIMIT, ready).await, Ok(Ok(()))),
    }
}

async fn connect(dial: &Dial) -> Result<Link, String> {
    let stream = dial.connect().await?;
    let stream = Gather::new(stream);
    let written = stream.written();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| dial.told(error))?;
    tokio::spawn(async move {
        // Its requests report what broke it.
        connection.with_upgrades().await.ok();
    });
    sender.ready().await.map_err(|error| dial.told(error))?;
    Ok(Link { sender, written })
}
