//! Limits of the HTTP extension: one request too many is answered 429 or waits.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use http_body_util::BodyExt as _;
use hyper::body::{Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::host_json::HttpOptions;

/// Admission of requests. Admin requests do not pass here.
#[derive(Debug)]
pub struct Throttle {
    outstanding: Option<Arc<Semaphore>>,
    concurrent: Option<Arc<Semaphore>>,
}

/// A request that was admitted; its places are free again when this is dropped.
#[derive(Debug)]
pub struct Admitted {
    _outstanding: Option<OwnedSemaphorePermit>,
    _concurrent: Option<OwnedSemaphorePermit>,
}

impl Throttle {
    /// Limits from host.json.
    pub fn new(options: &HttpOptions) -> Self {
        let places = |limit: Option<u64>| {
            limit.map(|limit| {
                let limit = usize::try_from(limit).unwrap_or(usize::MAX);
                Arc::new(Semaphore::new(limit.min(Semaphore::MAX_PERMITS)))
            })
        };
        Self {
            outstanding: places(options.max_outstanding),
            concurrent: places(options.max_concurrent),
        }
    }

    /// Admits a request, perhaps after a wait. `None`: too many are outstanding.
    pub async fn admit(&self) -> Option<Admitted> {
        let outstanding = match &self.outstanding {
            Some(places) => Some(Arc::clone(places).try_acquire_owned().ok()?),
            None => None,
        };
        let concurrent = match &self.concurrent {
            Some(places) => Arc::clone(places).acquire_owned().await.ok(),
            None => None,
        };
        Some(Admitted {
            _outstanding: outstanding,
            _concurrent: concurrent,
        })
    }
}

/// Keeps `held` until the body has ended or is dropped.
pub fn hold<T: Send + Unpin + 'static>(body: Body, held: T) -> Body {
    Body::new(Held {
        body,
        held: Some(held),
    })
}

struct Held<T> {
    body: Body,
    held: Option<T>,
}

impl<T: Unpin> HttpBody for Held<T> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        let is_end = match &frame {
            Poll::Ready(None | Some(Err(_))) => true,
            Poll::Ready(Some(Ok(_))) => self.body.is_end_stream(),
            Poll::Pending => false,
        };
        if is_end {
            self.held = None;
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Reads a whole body, for callers that need it.
pub async fn read(body: Body) -> Result<Bytes, axum::Error> {
    Ok(body.collect().await?.to_bytes())
}
