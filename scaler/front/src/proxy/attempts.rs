//! Sending one request until an instance has taken it.

use std::{sync::Arc, time::Duration};

use http::{Request, Response, StatusCode};
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
    upstream::{BodyShare, Progress, RequestBody, SendError, Unprocessed},
};

/// Other instances that a request refused with the scale-out signal is offered to before it waits.
const SHED_TRIES: u32 = 2;

/// Connections that may be closed by instances under one request before such an instance is taken for one that does not serve.
const GOING_AWAY_TRIES: u32 = 3;

/// What the attempts of one request share.
struct Attempts<'a> {
    group: &'a Arc<Group>,
    numbers: &'a GroupMetrics,
    deadline: Instant,
    sheds: u32,
    going_away: u32,
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
    #[error("the client sent no part of the request body for too long")]
    Silent,
    #[error(
        "the instance refused the request before it looked at it, and too much of its body was sent already to offer it to another one: send it again"
    )]
    Refused,
    #[error("the instance changed to another protocol unasked")]
    Switched,
    #[error("the instance answered a WebSocket request without changing to that protocol")]
    NotSwitched,
}

impl Failure {
    pub(super) fn category(self) -> &'static str {
        match self {
            Self::Lost => "instance-lost",
            Self::Late => "response-timeout",
            Self::Body => "request-body",
            Self::Silent => "request-body-silent",
            Self::Refused => "instance-refused",
            Self::Switched => "unasked-upgrade",
            Self::NotSwitched => "no-upgrade",
        }
    }

    pub(super) fn status(self) -> StatusCode {
        match self {
            Self::Lost | Self::Switched | Self::NotSwitched => StatusCode::BAD_GATEWAY,
            Self::Late => StatusCode::GATEWAY_TIMEOUT,
            Self::Body => StatusCode::BAD_REQUEST,
            Self::Silent => StatusCode::REQUEST_TIMEOUT,
            Self::Refused => StatusCode::SERVICE_UNAVAILABLE,
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
            going_away: 0,
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
                        (failure == Failure::Refused).then_some("1"),
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
        let spare = Spare::of(&request);
        let limit = attempts.group.settings().response_limit;
        let mut exchange = Exchange::start(slot, request);
        // Dropped without its answer, the exchange goes on by itself and keeps the slot.
        let Some((answer, slot)) = exchange.head(limit).await else {
            return Outcome::Failed(Failure::Late);
        };
        match answer {
            Ok((response, connection)) => {
                let shed = response.status() == StatusCode::TOO_MANY_REQUESTS
                    && response.headers().contains_key(&SCALE_OUT);
                if shed {
                    slot.shed(self.settings.shed_hold);
                    if let Some(whole) = attempts.again(&spare) {
                        attempts.numbers.upstream("shed");
                        let held = Held::new(slot, connection, spare.body);
                        held.unsent(&response);
                        attempts.pause(self.settings.shed_hold).await;
                        return Outcome::Again(whole);
                    }
                    attempts.numbers.upstream("shed-passed-on");
                }
                spare.taken();
                Outcome::Answered(Box::new(response), Held::new(slot, connection, spare.body))
            }
            Err(SendError::NotSent { request, reason }) => {
                attempts.numbers.upstream("not-sent");
                tracing::debug!(instance = ?slot.instance().uid(), reason, "request goes elsewhere");
                slot.refused();
                Outcome::Again(request)
            }
            Err(SendError::Unprocessed(how)) => {
                attempts.numbers.upstream("unprocessed");
                match how {
                    Unprocessed::Refused => slot.shed(self.settings.shed_hold),
                    Unprocessed::GoingAway => attempts.going_away += 1,
                }
                if attempts.going_away > GOING_AWAY_TRIES {
                    // Every new connection is closed: asked again when it serves.
                    slot.refused();
                } else {
                    slot.unsent();
                }
                let Some(whole) = attempts.again(&spare) else {
                    return Outcome::Failed(Failure::Refused);
                };
                if how == Unprocessed::Refused {
                    attempts.pause(self.settings.shed_hold).await;
                }
                Outcome::Again(whole)
            }
            Err(SendError::Lost { error, sent }) => {
                let failure = match spare.body.as_ref().map(BodyShare::progress) {
                    Some(Progress::Broken) => Failure::Body,
                    Some(Progress::Silent) => Failure::Silent,
                    _ => Failure::Lost,
                };
                if !sent {
                    // A body that is broken from its first byte takes no instance away.
                    slot.unsent();
                } else if failure == Failure::Lost {
                    tracing::debug!(instance = ?slot.instance().uid(), %error, "no answer");
                    slot.broken();
                } else {
                    drop(slot);
                }
                Outcome::Failed(failure)
            }
        }
    }
}

impl Attempts<'_> {
    /// The whole request, if it may be offered to another instance.
    fn again(&self, spare: &Spare) -> Option<Box<Request<RequestBody>>> {
        let over = self.sheds > SHED_TRIES && Instant::now() >= self.deadline;
        (!over).then(|| spare.again())?
    }

    /// An instance takes no more at the moment. After some others have said the same the request waits, as long as it may: more instances are asked for.
    async fn pause(&mut self, hold: Duration) {
        self.sheds += 1;
        if self.sheds > SHED_TRIES {
            let left = self.deadline.saturating_duration_since(Instant::now());
            tokio::time::sleep(hold.min(left)).await;
        }
    }

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

/// What is needed to send a request once more.
struct Spare {
    head: Request<()>,
    body: Option<BodyShare>,
}

impl Spare {
    fn of(request: &Request<RequestBody>) -> Self {
        let mut head = Request::new(());
        *head.method_mut() = request.method().clone();
        *head.uri_mut() = request.uri().clone();
        *head.version_mut() = request.version();
        *head.headers_mut() = request.headers().clone();
        Self {
            head,
            body: request.body().share(),
        }
    }

    /// The whole request; none when too much of its body was read.
    fn again(&self) -> Option<Box<Request<RequestBody>>> {
        let body = match &self.body {
            None => RequestBody::Empty,
            Some(share) => share.take()?,
        };
        Some(Box::new(self.head.clone().map(|()| body)))
    }

    /// The instance has begun to answer: it is not sent again.
    fn taken(&self) {
        if let Some(share) = &self.body {
            share.taken();
        }
    }
}
