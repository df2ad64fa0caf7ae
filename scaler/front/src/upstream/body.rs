//! Bodies on their way to an instance.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};

/// Body of a request to an instance.
#[derive(Debug)]
pub enum RequestBody {
    /// No body.
    Empty,
    /// The client's body as it comes, with a limit on silence.
    Client(Box<ClientBody>),
}

/// A client's body.
#[derive(Debug)]
pub struct ClientBody {
    inner: Incoming,
    silence: Duration,
    timer: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl RequestBody {
    /// Wraps the client's body; one that stays silent for `silence` fails.
    pub fn new(inner: Incoming, silence: Duration) -> Self {
        if inner.is_end_stream() {
            return Self::Empty;
        }
        Self::Client(Box::new(ClientBody {
            inner,
            silence,
            timer: None,
        }))
    }

    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        matches!(self, Self::Empty)
    }
}

/// Why a client's body ended early.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The client's connection broke, or it sent no HTTP.
    #[error("the client's request body ended early: {0}")]
    Client(#[from] hyper::Error),
    /// The client stopped sending.
    #[error("the client sent no part of its request body for too long")]
    Silent,
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Client(body) => body.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Client(body) => body.inner.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Client(body) => body.inner.size_hint(),
        }
    }
}

impl ClientBody {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.inner).poll_frame(cx) {
            self.timer = None;
            return Poll::Ready(frame.map(|frame| frame.map_err(BodyError::Client)));
        }
        let silence = self.silence;
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(silence)));
        timer
            .as_mut()
            .poll(cx)
            .map(|()| Some(Err(BodyError::Silent)))
    }
}
