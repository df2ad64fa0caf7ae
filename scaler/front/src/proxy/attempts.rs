//! Sending one request until an instance has taken it.

use std::sync::Arc;

use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use tokio::time::Instant;

use super::{
    Proxy, Story,
    reply::{answer, no_slot},
};
use crate::{
    body::{Held, ResponseBody},
    cold,
    exchange::Exchange,
    headers::SCALE_OUT,
    metrics::GroupMetrics,
    pool::{Group, NoSlot, Slot},
    upstream::{RequestBody, SendError},
};

/// Other instances that a request refused with the scale-out signal is offered to before it waits.
const SHED_TRIES: u32 = 2;

/// What the attempts of one request share.
struct Attempts<'a> {
    group: &'a Arc<Group>,
    numbers: &'a GroupMetrics,
    deadline: Instant,
    sheds: u32,
    story: &'a mut Story,
}

/// How one attempt ended.
enum Outcome {
    Answered(Box<Response<Incoming>>, Held),
    /// Tried elsewhere, with the whole request.
    Again(Box<Request<RequestBody>>),
    Failed(Failure),
}

/// Why an instance gave no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Failure {
    #[error(
        "the instance closed the connection or sent no valid HTTP; it may have run the request, so it was not sent again"
    )]
    Lost,
    #[error(
        "the instance did not start its response in time: answer earlier, or raise the request timeout of the app"
    )]
    Late,
    #[error("the request body ended early")]
    Body,
    #[error("the instance changed to another protocol unasked")]
    Switched,
}

impl Failure {
    pub(super) fn category(self) -> &'static str {
        match self {
            Self::Lost => "instance-lost",
            Self::Late => "response-timeout",
            Self::Body => "request-body",
            Self::Switched => "unasked-upgrade",
        }
    }

    pub(super) fn status(self) -> StatusCode {
        match self {
            Self::Lost | Self::Switched => StatusCode::BAD_GATEWAY,
            Self::Late => StatusCode::GATEWAY_TIMEOUT,
            Self::Body => StatusCode::BAD_REQUEST,
        }
    }
}

impl Proxy {
    /// Sends the request until one instance has taken it.
    pub(super) async fn run(
        &self,
        group: &Arc<Group>,
        numbers: &GroupMetrics,
        mut request: Request<RequestBody>,
        story: &mut Story,
    ) -> Result<(Response<Incoming>, Held), Response<ResponseBody>> {
        let mut attempts = Attempts {
            group,
            numbers,
            deadline: Instant::now() + group.settings().patience,
            sheds: 0,
            story,
        };
        loop {
            let slot = attempts.slot().await.map_err(no_slot)?;
            match self.attempt(&mut attempts, slot, request).await {
                Outcome::Answered(response, held) => return Ok((*response, held)),
                Outcome::Again(whole) => request = *whole,
                Outcome::Failed(failure) => {
                    numbers.upstream(failure.category());
                    return Err(answer(
                        failure.status(),
                        failure.category(),
                        &failure.to_string(),
                        None,
                    ));
                }
            }
        }
    }

    async fn attempt(
        &self,
        attempts: &mut Attempts<'_>,
        slot: Slot,
        request: Request<RequestBody>,
    ) -> Outcome {
        let spare =
            (attempts.sheds < SHED_TRIES && request.body().is_empty()).then(|| copy_of(&request));
        let limit = attempts.group.settings().response_limit;
        let mut exchange = Exchange::start(slot, request);
        let answered = match limit {
            Some(limit) => tokio::time::timeout(limit, exchange.head()).await,
            None => Ok(exchange.head().await),
        };
        // Dropped without its answer, the exchange goes on by itself and keeps the slot.
        let Ok((answer, slot)) = answered else {
            return Outcome::Failed(Failure::Late);
        };
        match answer {
            Ok((response, connection)) => {
                let shed = response.status() == StatusCode::TOO_MANY_REQUESTS
                    && response.headers().contains_key(&SCALE_OUT);
                if shed {
                    attempts.numbers.upstream("shed");
                    slot.shed(self.settings.shed_hold);
                }
                match spare {
                    Some(whole) if shed => {
                        attempts.sheds += 1;
                        // The connection is not reused: its response was not read.
                        drop((response, connection));
                        slot.unsent();
                        Outcome::Again(Box::new(whole))
                    }
                    _ => Outcome::Answered(Box::new(response), Held { slot, connection }),
                }
            }
            Err(SendError::NotSent { request, reason }) => {
                attempts.numbers.upstream("not-sent");
                tracing::debug!(instance = ?slot.instance().uid(), reason, "request goes elsewhere");
                slot.refused();
                Outcome::Again(request)
            }
            Err(SendError::Lost(error)) if error.is_user() => {
                drop(slot);
                Outcome::Failed(Failure::Body)
            }
            Err(SendError::Lost(error)) => {
                tracing::debug!(instance = ?slot.instance().uid(), %error, "no answer");
                slot.broken();
                Outcome::Failed(Failure::Lost)
            }
        }
    }
}

impl Attempts<'_> {
    async fn slot(&mut self) -> Result<Slot, NoSlot> {
        if let Some(slot) = self.group.try_acquire() {
            return Ok(slot);
        }
        let began = Instant::now();
        let cold = !self
            .group
            .instances()
            .iter()
            .any(|instance| instance.word().open());
        if cold {
            self.numbers.cold_start();
        }
        let slot = self
            .group
            .acquire(self.deadline.saturating_duration_since(began))
            .await;
        let now = Instant::now();
        self.numbers.waited(now - began);
        self.story.waited += now - began;
        if let Ok(slot) = &slot
            && cold
        {
            self.warmed(slot, began, now);
        }
        slot
    }

    fn warmed(&mut self, slot: &Slot, began: Instant, now: Instant) {
        let start = slot.instance().start();
        let phases = start.phases(began, now);
        self.numbers.warmed(&phases);
        self.story.cold = Some(phases);
        if start.log_once() {
            let [decision, pod, address, answer, dispatch] =
                phases.durations().map(cold::milliseconds);
            tracing::info!(
                group = self.group.id().as_str(),
                instance = ?slot.instance().uid(),
                total_ms = cold::milliseconds(phases.total()),
                decision_ms = decision,
                pod_ms = pod,
                address_ms = address,
                answer_ms = answer,
                dispatch_ms = dispatch,
                "cold start"
            );
        }
    }
}

/// A second copy of a request without a body.
fn copy_of(request: &Request<RequestBody>) -> Request<RequestBody> {
    let mut copy = Request::new(RequestBody::Empty);
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.version_mut() = request.version();
    *copy.headers_mut() = request.headers().clone();
    debug_assert!(*copy.method() != Method::CONNECT, "refused at the door");
    copy
}
