//! One request at one instance, until the head of its response.

use std::{future::Future, pin::Pin, time::Duration};

use http::{Request, Response};
use hyper::body::Incoming;
use tokio::time::Instant;

use crate::{
    body::{Held, discard},
    pool::Slot,
    upstream::{BodyShare, Connection, RequestBody, SendError},
};

type Answer = Result<(Response<Incoming>, Connection), SendError>;

/// A request under way. Dropped, it goes on without its client: the slot is needed until the instance has answered.
pub(crate) struct Exchange {
    sending: Option<Pin<Box<dyn Future<Output = Answer> + Send>>>,
    slot: Option<Slot>,
    body: Option<BodyShare>,
}

impl Exchange {
    pub(crate) fn start(slot: Slot, request: Request<RequestBody>) -> Self {
        let instance = slot.instance().clone();
        let body = request.body().share();
        let protocol = slot.group().settings().protocol;
        let sending = Box::pin(async move { instance.upstream().send(protocol, request).await });
        Self {
            sending: Some(sending),
            slot: Some(slot),
            body,
        }
    }

    /// The head of the response and the slot; none when that takes longer than `limit`. May be called once.
    pub(crate) async fn head(&mut self, limit: Option<Duration>) -> Option<(Answer, Slot)> {
        let (Some(sending), Some(slot)) = (&mut self.sending, &self.slot) else {
            unreachable!("the head is awaited once");
        };
        let answer = match limit {
            Some(limit) => {
                let limits = slot.instance().limits();
                limits.within(limit, sending.as_mut()).await?
            }
            None => sending.as_mut().await,
        };
        self.sending = None;
        let slot = self.slot.take().expect("taken with the answer only");
        Some((answer, slot))
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if let (Some(sending), Some(slot)) = (self.sending.take(), self.slot.take())
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(finish(sending, slot, self.body.take()));
        }
    }
}

async fn finish(
    sending: Pin<Box<dyn Future<Output = Answer> + Send>>,
    slot: Slot,
    body: Option<BodyShare>,
) {
    let (run_limit, linger) = {
        let settings = slot.group().settings();
        (settings.run_limit, settings.linger)
    };
    let answer = match run_limit {
        Some(limit) => tokio::time::timeout(limit, sending).await,
        None => Ok(sending.await),
    };
    match answer {
        Ok(Ok((response, connection))) => {
            let held = Held::new(slot, connection, body);
            let limit = Instant::now() + linger;
            discard(response.into_body(), held, limit).await;
        }
        Ok(Err(SendError::NotSent { .. })) => slot.refused(),
        Ok(Err(SendError::Unprocessed(_) | SendError::Lost { sent: false, .. })) => slot.unsent(),
        // The request body broke off with its client, so the end of the request is not seen.
        Ok(Err(SendError::Lost { .. })) => drop(slot),
        Err(_) => slot.complete(),
    }
}
