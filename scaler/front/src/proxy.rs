//! What happens to a request.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{
    HeaderValue, Method, Request, Response, StatusCode, Uri, Version, header, request::Parts,
};
use hyper::{body::Incoming, upgrade::OnUpgrade};
use hyper_util::rt::TokioIo;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use crate::{
    body::{GuardedBody, Held, ResponseBody},
    check::{self, Refusal},
    exchange::Exchange,
    headers::{self, Forwarding, Origin, SCALE_OUT},
    metrics::{GroupMetrics, Metrics},
    pool::{Group, NoSlot, Protocol, Slot},
    routes::{AdminPaths, Routes},
    upstream::{RequestBody, SendError},
};

/// How a front end treats all requests.
#[derive(Clone, Debug)]
pub struct ProxySettings {
    /// Forwarding headers of clients.
    pub forwarding: Forwarding,
    /// Longest silence within a request's body.
    pub body_silence: Duration,
    /// How long an instance that refused a request with the scale-out signal is left alone.
    pub shed_hold: Duration,
}

impl Default for ProxySettings {
    fn default() -> Self {
        Self {
            forwarding: Forwarding::Replace,
            body_silence: Duration::from_secs(60),
            shed_hold: Duration::from_secs(1),
        }
    }
}

/// Other instances that a request refused with the scale-out signal is offered to before it waits.
const SHED_TRIES: u32 = 2;

/// The proxy. One per process, shared by all connections.
#[derive(Debug)]
pub struct Proxy {
    routes: Routes,
    settings: ProxySettings,
    metrics: Metrics,
    tunnels: TaskTracker,
}

/// What the attempts of one request share.
struct Attempts<'a> {
    group: &'a Arc<Group>,
    numbers: &'a GroupMetrics,
    deadline: Instant,
    sheds: u32,
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
enum Failure {
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
    fn category(self) -> &'static str {
        match self {
            Self::Lost => "instance-lost",
            Self::Late => "response-timeout",
            Self::Body => "request-body",
            Self::Switched => "unasked-upgrade",
        }
    }

    fn status(self) -> StatusCode {
        match self {
            Self::Lost | Self::Switched => StatusCode::BAD_GATEWAY,
            Self::Late => StatusCode::GATEWAY_TIMEOUT,
            Self::Body => StatusCode::BAD_REQUEST,
        }
    }
}

impl Proxy {
    /// A proxy for these routes.
    pub fn new(routes: Routes, settings: ProxySettings, metrics: Metrics) -> Self {
        Self {
            routes,
            settings,
            metrics,
            tunnels: TaskTracker::new(),
        }
    }

    /// Upgraded connections under way.
    pub fn tunnels(&self) -> &TaskTracker {
        &self.tunnels
    }

    /// Answers a request.
    pub async fn handle(
        &self,
        mut request: Request<Incoming>,
        origin: Origin,
    ) -> Response<ResponseBody> {
        let started = Instant::now();
        let host = match check::check(&request) {
            Ok(host) => host,
            Err(refusal) => return self.refuse(refusal),
        };
        let (group, numbers) = {
            let table = self.routes.current();
            match table.find(check::without_port(&host), request.uri().path()) {
                Ok(route)
                    if route.admin == AdminPaths::Closed
                        && check::leads_to_admin(request.uri().path()) =>
                {
                    return self.refuse(Refusal::ClosedPath);
                }
                Ok(route) => (route.group.clone(), route.metrics.clone()),
                Err(no) => {
                    return self.answer(
                        StatusCode::NOT_FOUND,
                        no.category(),
                        &no.to_string(),
                        None,
                    );
                }
            }
        };
        let wants_upgrade = request.version() == Version::HTTP_11
            && headers::upgrade_wanted(request.headers()).is_some();
        let client = wants_upgrade.then(|| hyper::upgrade::on(&mut request));
        let (parts, body) = request.into_parts();
        let Some((parts, id)) = self.outgoing(parts, &host, origin, &group) else {
            return self.refuse(Refusal::Host);
        };
        let request =
            Request::from_parts(parts, RequestBody::new(body, self.settings.body_silence));
        let response = match self.run(&group, &numbers, request).await {
            Ok((response, held)) => self.reply(response, held, client, id),
            Err(response) => response,
        };
        numbers.answered(response.status(), started.elapsed());
        response
    }

    /// The head of the request as the instance gets it, and the request's id.
    fn outgoing(
        &self,
        mut parts: Parts,
        host: &str,
        origin: Origin,
        group: &Group,
    ) -> Option<(Parts, HeaderValue)> {
        let value = HeaderValue::from_str(host).ok()?;
        if parts.version == Version::HTTP_2 {
            join_cookies(&mut parts);
        }
        let id = headers::outgoing(&mut parts.headers, &value, origin, self.settings.forwarding);
        let path = parts
            .uri
            .path_and_query()
            .map_or("/", http::uri::PathAndQuery::as_str);
        // `OPTIONS *` arrives without a path.
        let path = if path.is_empty() { "/" } else { path };
        match group.settings().protocol {
            Protocol::Http1 => {
                parts.uri = path.parse().ok()?;
                parts.version = Version::HTTP_11;
            }
            Protocol::H2c => {
                parts.uri = Uri::builder()
                    .scheme("http")
                    .authority(host)
                    .path_and_query(path)
                    .build()
                    .ok()?;
                parts.version = Version::HTTP_2;
                // HTTP/2 names the host in its target and knows no upgrade.
                parts.headers.remove(header::HOST);
                parts.headers.remove(header::CONNECTION);
                parts.headers.remove(header::UPGRADE);
            }
        }
        parts.extensions.clear();
        Some((parts, id))
    }

    /// Sends the request until one instance has taken it.
    async fn run(
        &self,
        group: &Arc<Group>,
        numbers: &GroupMetrics,
        mut request: Request<RequestBody>,
    ) -> Result<(Response<Incoming>, Held), Response<ResponseBody>> {
        let mut attempts = Attempts {
            group,
            numbers,
            deadline: Instant::now() + group.settings().patience,
            sheds: 0,
        };
        loop {
            let slot = attempts.slot().await.map_err(|no| self.no_slot(no))?;
            match self.attempt(&mut attempts, slot, request).await {
                Outcome::Answered(response, held) => return Ok((*response, held)),
                Outcome::Again(whole) => request = *whole,
                Outcome::Failed(failure) => {
                    self.metrics.upstream(failure.category());
                    return Err(self.answer(
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
                    self.metrics.upstream("shed");
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
                self.metrics.upstream("not-sent");
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

    fn reply(
        &self,
        response: Response<Incoming>,
        held: Held,
        client: Option<OnUpgrade>,
        id: HeaderValue,
    ) -> Response<ResponseBody> {
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            let Some(client) = client else {
                held.slot.broken();
                let failure = Failure::Switched;
                self.metrics.upstream(failure.category());
                return self.answer(
                    failure.status(),
                    failure.category(),
                    &failure.to_string(),
                    None,
                );
            };
            return self.tunnel(response, held, client, id);
        }
        let (mut parts, body) = response.into_parts();
        headers::incoming(&mut parts.headers, id);
        parts.version = Version::HTTP_11;
        parts.extensions.clear();
        Response::from_parts(parts, ResponseBody::Proxied(GuardedBody::new(body, held)))
    }

    /// Joins both ends of an upgraded connection; the slot is taken until they are closed.
    fn tunnel(
        &self,
        mut response: Response<Incoming>,
        held: Held,
        client: OnUpgrade,
        id: HeaderValue,
    ) -> Response<ResponseBody> {
        let instance = hyper::upgrade::on(&mut response);
        let (mut parts, _) = response.into_parts();
        let protocol = parts.headers.get(header::UPGRADE).cloned();
        headers::incoming(&mut parts.headers, id);
        if let Some(protocol) = protocol {
            parts.headers.insert(header::UPGRADE, protocol);
        }
        parts
            .headers
            .insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        parts.extensions.clear();
        self.tunnels.spawn(async move {
            let ends = tokio::try_join!(client, instance);
            let Ok((client, instance)) = ends else {
                held.slot.broken();
                return;
            };
            let (mut client, mut instance) = (TokioIo::new(client), TokioIo::new(instance));
            match tokio::io::copy_bidirectional(&mut client, &mut instance).await {
                Ok(_) => held.slot.complete(),
                Err(_) => held.slot.broken(),
            }
        });
        Response::from_parts(parts, ResponseBody::Own(None))
    }

    fn refuse(&self, refusal: Refusal) -> Response<ResponseBody> {
        self.answer(
            refusal.status(),
            refusal.category(),
            &refusal.to_string(),
            None,
        )
    }

    fn no_slot(&self, no: NoSlot) -> Response<ResponseBody> {
        match no {
            NoSlot::Full => self.answer(
                StatusCode::TOO_MANY_REQUESTS,
                no.category(),
                &no.to_string(),
                Some("1"),
            ),
            NoSlot::TimedOut => self.answer(
                StatusCode::SERVICE_UNAVAILABLE,
                no.category(),
                &no.to_string(),
                Some("5"),
            ),
        }
    }

    /// An answer of our own. `retry_after` in seconds.
    fn answer(
        &self,
        status: StatusCode,
        category: &'static str,
        message: &str,
        retry_after: Option<&'static str>,
    ) -> Response<ResponseBody> {
        self.metrics.refused(category);
        let text = format!("{{\"error\":\"{category}\",\"message\":\"{message}\"}}\n");
        let mut response = Response::new(ResponseBody::Own(Some(Bytes::from(text))));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        if let Some(seconds) = retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static(seconds));
        }
        response
    }
}

impl Attempts<'_> {
    async fn slot(&self) -> Result<Slot, NoSlot> {
        if let Some(slot) = self.group.try_acquire() {
            return Ok(slot);
        }
        let started = Instant::now();
        if !self
            .group
            .instances()
            .iter()
            .any(|instance| instance.word().open())
        {
            self.numbers.cold_start();
        }
        let slot = self
            .group
            .acquire(self.deadline.saturating_duration_since(started))
            .await;
        self.numbers.waited(started.elapsed());
        slot
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

/// HTTP/2 may send one cookie a line; HTTP/1.1 has one line for all, RFC 9113 section 8.2.3.
fn join_cookies(parts: &mut Parts) {
    let cookies: Vec<&[u8]> = parts
        .headers
        .get_all(header::COOKIE)
        .iter()
        .map(HeaderValue::as_bytes)
        .collect();
    if cookies.len() > 1
        && let Ok(joined) = HeaderValue::from_bytes(&cookies.join(&b"; "[..]))
    {
        parts.headers.insert(header::COOKIE, joined);
    }
}
