//! Bodies on their way to an instance.
//!
//! They pass as they come. The first few KiB are also kept until the instance has begun to answer: when it says that it did not start the request, the
//! request can be offered to another one, its body included.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures::task::AtomicWaker;
use http::HeaderMap;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use parking_lot::Mutex;

use super::silence::Silence;
use crate::headers::clean_trailers;

/// Most bytes of a body that are kept to be sent once more. The parts share the memory they were read into.
const KEPT_BYTES: usize = 16 * 1024;

/// Body of a request to an instance.
#[derive(Debug)]
pub enum RequestBody {
    /// No body.
    Empty,
    /// The client's body as it comes, with a limit on silence.
    Client(ClientBody),
}

/// A client's body.
#[derive(Debug)]
pub struct ClientBody {
    shared: Arc<Shared>,
    /// The rest of a body that cannot be sent once more.
    direct: Option<Incoming>,
    /// What an attempt before this one has read.
    again: std::vec::IntoIter<Part>,
    silence: Silence,
}

/// How far the reading of a client's body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Progress {
    /// More may come.
    Open,
    /// All of it was read.
    Ended,
    /// The client broke off.
    Broken,
    /// The client sent nothing for too long.
    Silent,
    /// No more is wanted.
    Stopped,
}

#[derive(Debug)]
struct Shared {
    progress: AtomicU8,
    waker: AtomicWaker,
    /// The body as long as it can be sent once more.
    source: Mutex<Option<Source>>,
}

#[derive(Debug)]
struct Source {
    inner: Incoming,
    kept: Vec<Part>,
    bytes: usize,
    ended: bool,
}

#[derive(Clone, Debug)]
enum Part {
    Data(Bytes),
    Trailers(HeaderMap),
}

/// A share in a body that was handed on.
#[derive(Clone, Debug)]
pub(crate) struct BodyShare {
    shared: Arc<Shared>,
    silence: Duration,
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
    /// The instance has answered, or the request went elsewhere.
    #[error("the rest of the request body is not wanted any more")]
    Stopped,
}

impl RequestBody {
    /// Wraps the client's body; one that stays silent for `silence` fails.
    pub fn new(inner: Incoming, silence: Duration) -> Self {
        if inner.is_end_stream() {
            return Self::Empty;
        }
        let source = Source {
            inner,
            kept: Vec::new(),
            bytes: 0,
            ended: false,
        };
        Self::Client(ClientBody::new(source, silence))
    }

    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        matches!(self, Self::Empty)
    }

    /// A share in it; none of an empty one.
    pub(crate) fn share(&self) -> Option<BodyShare> {
        match self {
            Self::Empty => None,
            Self::Client(body) => Some(BodyShare {
                shared: Arc::clone(&body.shared),
                silence: body.silence.limit(),
            }),
        }
    }
}

impl Shared {
    fn progress(&self) -> Progress {
        let known = self.progress.load(Ordering::Acquire);
        [
            Progress::Open,
            Progress::Ended,
            Progress::Broken,
            Progress::Silent,
        ]
        .into_iter()
        .find(|progress| *progress as u8 == known)
        .unwrap_or(Progress::Stopped)
    }

    fn set(&self, progress: Progress) {
        self.progress.store(progress as u8, Ordering::Release);
    }

    fn stop(&self) {
        self.set(Progress::Stopped);
        self.waker.wake();
    }
}

impl BodyShare {
    pub(crate) fn progress(&self) -> Progress {
        self.shared.progress()
    }

    /// The instance has taken the request: nothing is kept any more.
    pub(crate) fn taken(&self) {
        if let Some(source) = &mut *self.shared.source.lock() {
            source.kept = Vec::new();
            source.bytes = KEPT_BYTES + 1;
        }
    }

    /// No more of the body is wanted.
    pub(crate) fn stop(&self) {
        self.shared.stop();
    }

    /// The whole body, to be sent once more; none when more was read of it than is kept.
    pub(crate) fn take(&self) -> Option<RequestBody> {
        let source = {
            let mut source = self.shared.source.lock();
            source.take_if(|source| source.bytes <= KEPT_BYTES)?
        };
        self.shared.stop();
        Some(RequestBody::Client(ClientBody::new(source, self.silence)))
    }
}

impl Source {
    /// Notes what was read. False when it cannot be sent once more.
    fn keep(&mut self, frame: Option<&Result<Frame<Bytes>, hyper::Error>>) -> bool {
        match frame {
            None => self.ended = true,
            Some(Err(_)) => return false,
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    self.bytes = self.bytes.saturating_add(data.len());
                    if self.bytes > KEPT_BYTES {
                        return false;
                    }
                    self.kept.push(Part::Data(data.clone()));
                } else if let Some(trailers) = frame.trailers_ref() {
                    self.kept.push(Part::Trailers(trailers.clone()));
                    self.ended = true;
                }
                self.ended |= self.inner.is_end_stream();
            }
        }
        true
    }
}

impl From<Part> for Frame<Bytes> {
    fn from(part: Part) -> Self {
        match part {
            Part::Data(data) => Self::data(data),
            Part::Trailers(trailers) => Self::trailers(trailers),
        }
    }
}

impl ClientBody {
    fn new(source: Source, silence: Duration) -> Self {
        let again = source.kept.clone().into_iter();
        Self {
            shared: Arc::new(Shared {
                progress: AtomicU8::new(Progress::Open as u8),
                waker: AtomicWaker::new(),
                source: Mutex::new(Some(source)),
            }),
            direct: None,
            again,
            silence: Silence::new(silence),
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.shared.progress() == Progress::Stopped {
            return Poll::Ready(Some(Err(BodyError::Stopped)));
        }
        if let Some(part) = self.again.next() {
            self.note_end();
            return Poll::Ready(Some(Ok(part.into())));
        }
        let polled = if let Some(inner) = &mut self.direct {
            Pin::new(inner).poll_frame(cx)
        } else {
            let mut shared = self.shared.source.lock();
            let Some(source) = shared.as_mut() else {
                return Poll::Ready(Some(Err(BodyError::Stopped)));
            };
            if source.ended {
                return Poll::Ready(None);
            }
            let polled = Pin::new(&mut source.inner).poll_frame(cx);
            if let Poll::Ready(frame) = &polled
                && !source.keep(frame.as_ref())
            {
                self.direct = shared.take().map(|source| source.inner);
            }
            polled
        };
        match polled {
            Poll::Ready(frame) => {
                self.silence.broken();
                match &frame {
                    Some(Err(_)) => self.shared.set(Progress::Broken),
                    None => self.shared.set(Progress::Ended),
                    Some(Ok(_)) => self.note_end(),
                }
                Poll::Ready(frame.map(|frame| frame.map_err(BodyError::Client)))
            }
            Poll::Pending => {
                self.shared.waker.register(cx.waker());
                if self.shared.progress() == Progress::Stopped {
                    return Poll::Ready(Some(Err(BodyError::Stopped)));
                }
                self.silence.poll(cx).map(|()| {
                    self.shared.set(Progress::Silent);
                    Some(Err(BodyError::Silent))
                })
            }
        }
    }

    /// Who was told that the body has ended asks for no more.
    fn note_end(&self) {
        let ended = self.again.len() == 0
            && match &self.direct {
                Some(inner) => inner.is_end_stream(),
                None => self.shared.source.lock().as_ref().is_some_and(|s| s.ended),
            };
        if ended && self.shared.progress() == Progress::Open {
            self.shared.set(Progress::Ended);
        }
    }

    fn size_hint(&self) -> SizeHint {
        let again: u64 = self
            .again
            .as_slice()
            .iter()
            .map(|part| match part {
                Part::Data(data) => data.len() as u64,
                Part::Trailers(_) => 0,
            })
            .sum();
        let rest = match &self.direct {
            Some(inner) => inner.size_hint(),
            None => match &*self.shared.source.lock() {
                Some(source) if source.ended => SizeHint::with_exact(0),
                Some(source) => source.inner.size_hint(),
                None => SizeHint::default(),
            },
        };
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower() + again);
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper + again);
        }
        hint
    }
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
            Self::Client(body) => {
                let mut polled = body.poll(cx);
                if let Poll::Ready(Some(Ok(frame))) = &mut polled
                    && let Some(trailers) = frame.trailers_mut()
                {
                    clean_trailers(trailers);
                }
                polled
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Client(body) => body.shared.progress() == Progress::Ended,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Client(body) => body.size_hint(),
        }
    }
}
