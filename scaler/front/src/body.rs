//! Response bodies that hold their slot until they end.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::Instant;

use crate::{pool::Slot, upstream::Connection};

/// Body of a response to a client.
#[derive(Debug)]
pub enum ResponseBody {
    /// Made here.
    Own(Option<Bytes>),
    /// An instance's.
    Proxied(GuardedBody),
}

/// An instance's body, passed on as it comes. The slot is free when its last byte was read; when the client goes before, the rest is read and
/// thrown away, because only the end of the response tells that the instance has ended the request.
#[derive(Debug)]
pub struct GuardedBody {
    inner: Option<Incoming>,
    held: Option<Held>,
}

/// What a running request holds.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) slot: Slot,
    pub(crate) connection: Connection,
}

impl Held {
    /// The response was read to its end.
    pub(crate) fn complete(self) {
        let instance = self.slot.instance().clone();
        instance.upstream().put_back(self.connection);
        self.slot.complete();
    }
}

impl GuardedBody {
    pub(crate) fn new(inner: Incoming, held: Held) -> Self {
        let mut body = Self {
            inner: Some(inner),
            held: Some(held),
        };
        body.check_end();
        body
    }

    /// A server does not ask for more of a body that says it has ended.
    fn check_end(&mut self) {
        if self.inner.as_ref().is_none_or(Body::is_end_stream)
            && let Some(held) = self.held.take()
        {
            held.complete();
        }
    }
}

impl Drop for GuardedBody {
    fn drop(&mut self) {
        if let (Some(inner), Some(held)) = (self.inner.take(), self.held.take()) {
            let limit = Instant::now() + held.slot.group().settings().linger;
            if let Ok(runtime) = tokio::runtime::Handle::try_current() {
                runtime.spawn(discard(inner, held, limit));
            }
        }
    }
}

/// Reads a response that nobody wants to its end, so that its slot can be used again.
pub(crate) async fn discard(mut body: Incoming, held: Held, limit: Instant) {
    let end = async {
        loop {
            match body.frame().await {
                Some(Ok(_)) => {}
                Some(Err(_)) => return false,
                None => return true,
            }
        }
    };
    match tokio::time::timeout_at(limit, end).await {
        Ok(true) => held.complete(),
        Ok(false) => held.slot.broken(),
        // The instance has given up by now: the limit is its own and the time on the wire.
        Err(_) => held.slot.complete(),
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self.get_mut() {
            Self::Own(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Proxied(body) => body.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Own(bytes) => bytes.is_none(),
            Self::Proxied(body) => body.inner.as_ref().is_none_or(Body::is_end_stream),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Own(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Self::Proxied(body) => body
                .inner
                .as_ref()
                .map_or(SizeHint::with_exact(0), Body::size_hint),
        }
    }
}

impl GuardedBody {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(inner) = &mut self.inner else {
            return Poll::Ready(None);
        };
        match Pin::new(inner).poll_frame(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Some(Ok(frame))) => {
                self.check_end();
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                self.inner = None;
                if let Some(held) = self.held.take() {
                    held.slot.broken();
                }
                Poll::Ready(Some(Err(error)))
            }
            Poll::Ready(None) => {
                self.inner = None;
                self.check_end();
                Poll::Ready(None)
            }
        }
    }
}
