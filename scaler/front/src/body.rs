//! Response bodies that hold their slot until they end.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::Response;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::Instant;

use crate::{
    headers::clean_trailers,
    observe::{End, Record},
    pool::Slot,
    upstream::{BodyShare, Connection, Progress, Silence},
};

/// Body of a response to a client.
#[derive(Debug)]
pub enum ResponseBody {
    /// Made here.
    Own(Option<Bytes>),
    /// An instance's.
    Proxied(GuardedBody),
}

/// An instance's body, passed on as it comes; one that stays silent for longer than the group's response limit is broken off. The slot is free when its last byte was read; when the client goes before, the rest is read and
/// thrown away, because only the end of the response tells that the instance has ended the request.
#[derive(Debug)]
pub struct GuardedBody {
    inner: Option<Incoming>,
    held: Option<Held>,
    silence: Option<Silence>,
    record: Option<Box<Record>>,
}

/// What a running request holds.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) slot: Slot,
    connection: Connection,
    /// The request's body.
    sent: Option<BodyShare>,
}

impl Held {
    pub(crate) fn new(slot: Slot, connection: Connection, sent: Option<BodyShare>) -> Self {
        Self {
            slot,
            connection,
            sent,
        }
    }

    /// The response was read to its end.
    pub(crate) fn complete(self) {
        let instance = self.slot.instance().clone();
        if self.all_sent() {
            instance.upstream().put_back(self.connection);
        }
        self.slot.complete();
    }

    /// The instance refused the request by `response`, of which only the head was read.
    pub(crate) fn unsent(self, response: &Response<Incoming>) {
        let instance = self.slot.instance().clone();
        if response.body().is_end_stream() && self.all_sent() {
            instance.upstream().put_back(self.connection);
        }
        self.slot.unsent();
    }

    /// Whether the request has ended too. Who answers before does not want the rest, and the connection carries nothing more.
    fn all_sent(&self) -> bool {
        self.sent.as_ref().is_none_or(|body| {
            let ended = body.progress() == Progress::Ended;
            if !ended {
                body.stop();
            }
            ended
        })
    }
}

impl GuardedBody {
    pub(crate) fn new(inner: Incoming, held: Held, record: Option<Box<Record>>) -> Self {
        let limit = held.slot.group().settings().response_limit;
        let mut body = Self {
            inner: Some(inner),
            held: Some(held),
            silence: limit.map(Silence::new),
            record,
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
            if let Some(record) = &mut self.record {
                record.end = End::Complete;
            }
        }
    }

    fn broken(&mut self) {
        if let Some(record) = &mut self.record {
            record.end = End::ByInstance;
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

/// How long a response that nobody wants is read. One that has not ended by then may be a stream without an end: the connection is closed, which tells the
/// instance to stop.
const DISCARD: Duration = Duration::from_secs(5);

/// Reads a response that nobody wants to its end, so that its slot can be used again. At `limit` the instance has given up.
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
    let until = limit.min(Instant::now() + DISCARD);
    match tokio::time::timeout_at(until, end).await {
        Ok(true) => held.complete(),
        Ok(false) => held.slot.broken(),
        Err(_) => {
            // That it was told to stop does not mean that it has.
            drop(body);
            held.slot
                .abandoned(limit.saturating_duration_since(Instant::now()));
        }
    }
}

/// Why an instance's body ended early.
#[derive(Debug, thiserror::Error)]
pub enum ResponseError {
    /// The connection broke, or what came was no HTTP.
    #[error("the response body of the instance ended early: {0}")]
    Instance(#[from] hyper::Error),
    /// It sent nothing for too long.
    #[error("the instance sent no part of its response body for {0:?}")]
    Silent(Duration),
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = ResponseError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ResponseError>>> {
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
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ResponseError>>> {
        let Some(inner) = &mut self.inner else {
            return Poll::Ready(None);
        };
        match Pin::new(inner).poll_frame(cx) {
            Poll::Pending => match &mut self.silence {
                // The rest is read and thrown away, as for a client that has gone.
                Some(silence) => {
                    let limit = silence.limit();
                    let silent = silence.poll(cx);
                    if silent.is_ready() {
                        self.broken();
                    }
                    silent.map(|()| Some(Err(ResponseError::Silent(limit))))
                }
                None => Poll::Pending,
            },
            Poll::Ready(Some(Ok(mut frame))) => {
                if let Some(silence) = &mut self.silence {
                    silence.broken();
                }
                if let Some(trailers) = frame.trailers_mut() {
                    clean_trailers(trailers);
                }
                if let (Some(record), Some(data)) = (&mut self.record, frame.data_ref()) {
                    record.bytes += data.len() as u64;
                }
                self.check_end();
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                self.inner = None;
                self.broken();
                if let Some(held) = self.held.take() {
                    held.slot.broken();
                }
                Poll::Ready(Some(Err(error.into())))
            }
            Poll::Ready(None) => {
                self.inner = None;
                self.check_end();
                Poll::Ready(None)
            }
        }
    }
}
