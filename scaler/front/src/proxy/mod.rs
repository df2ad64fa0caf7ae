//! What happens to a request.

mod attempts;
mod reply;
mod switch;

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use http::{
    HeaderName, HeaderValue, Request, Response, StatusCode, Uri, Version, header, request::Parts,
    uri::PathAndQuery,
};
use hyper::body::{Body as _, Incoming};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use reply::{OwnAnswer, answer, refuse};
use switch::{Switch, as_upgrade};

use crate::{
    body::ResponseBody,
    check::{self, Refusal},
    cold::Phases,
    headers::{self, Forwarding, Origin},
    metrics::Metrics,
    observe::{End, Observer, Record},
    pool::{Group, Protocol},
    routes::{AdminPaths, Routes},
    upstream::RequestBody,
};

const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// How a front end treats all requests.
#[derive(Clone, Debug)]
pub struct ProxySettings {
    /// Forwarding headers of clients.
    pub forwarding: Forwarding,
    /// Longest silence within a request's body.
    pub body_silence: Duration,
    /// How long an instance that refused a request with the scale-out signal is left alone.
    pub shed_hold: Duration,
    /// Whether responses to requests that waited for an instance to start carry `server-timing` with what they waited for.
    pub cold_start_header: bool,
    /// Which requests are told of one by one.
    pub observer: Observer,
}

impl Default for ProxySettings {
    fn default() -> Self {
        Self {
            forwarding: Forwarding::Replace,
            body_silence: Duration::from_secs(60),
            shed_hold: Duration::from_secs(1),
            cold_start_header: false,
            observer: Observer::default(),
        }
    }
}

/// What became of a request on its way to an instance.
#[derive(Debug, Default)]
struct Story {
    /// Time in the waiting room.
    waited: Duration,
    /// What it waited for, when no instance could serve.
    cold: Option<Phases>,
}

/// The proxy. One per process, shared by all connections.
#[derive(Debug)]
pub struct Proxy {
    routes: Routes,
    settings: ProxySettings,
    metrics: Metrics,
    tunnels: TaskTracker,
    /// Written once in the life of the process.
    leaving: AtomicBool,
}

impl Proxy {
    /// A proxy for these routes.
    pub fn new(routes: Routes, settings: ProxySettings, metrics: Metrics) -> Self {
        Self {
            routes,
            settings,
            metrics,
            tunnels: TaskTracker::new(),
            leaving: AtomicBool::new(false),
        }
    }

    /// From now on HTTP/1.1 responses say that their connection closes after them. Said some time before idle connections are closed, it leaves only those
    /// open that nobody uses: a request that meets the closing of its connection is lost. HTTP/2 has GOAWAY for that.
    pub fn leave(&self) {
        self.leaving.store(true, Ordering::Relaxed);
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Upgraded connections under way.
    pub fn tunnels(&self) -> &TaskTracker {
        &self.tunnels
    }

    /// Answers a request.
    pub async fn handle(
        &self,
        request: Request<Incoming>,
        origin: Origin,
    ) -> Response<ResponseBody> {
        let mut record = self.settings.observer.begin(&request, origin);
        let version = request.version();
        let mut response = self.serve(request, origin, &mut record).await;
        if self.leaving.load(Ordering::Relaxed)
            && version == Version::HTTP_11
            && response.status() != StatusCode::SWITCHING_PROTOCOLS
        {
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(header::CONNECTION, close);
        }
        if let Some(mut record) = record {
            // Of our own: it has been made whole.
            record.status = Some(response.status());
            record.category = response.extensions().get().map(|OwnAnswer(word)| *word);
            record.bytes = response.body().size_hint().exact().unwrap_or_default();
            record.end = End::Complete;
        }
        response
    }

    /// Answers a request; the record goes on with the response when that is an instance's.
    async fn serve(
        &self,
        mut request: Request<Incoming>,
        origin: Origin,
        record: &mut Option<Box<Record>>,
    ) -> Response<ResponseBody> {
        let started = Instant::now();
        let host = match check::check(&request) {
            Ok(host) => host,
            Err(refusal) => return self.unrouted(refuse(refusal)),
        };
        let (group, numbers) = {
            let table = self.routes.current();
            let name = check::without_port(host.to_str().unwrap_or_default());
            match table.find(name, request.uri().path()) {
                Ok(route)
                    if route.admin == AdminPaths::Closed
                        && check::leads_to_admin(request.uri().path()) =>
                {
                    route.metrics.refused(Refusal::ClosedPath.category());
                    return refuse(Refusal::ClosedPath);
                }
                Ok(route) => (route.group.clone(), route.metrics.clone()),
                Err(no) => {
                    return self.unrouted(answer(
                        no.status(),
                        no.category(),
                        &no.to_string(),
                        no.retry_after(),
                    ));
                }
            }
        };
        let client = Switch::wanted(&mut request);
        let by_connect = client.as_ref().is_some_and(Switch::by_success);
        if by_connect && group.settings().protocol == Protocol::H2c {
            return self.unrouted(refuse(Refusal::Method));
        }
        let (mut parts, body) = request.into_parts();
        if by_connect {
            as_upgrade(&mut parts);
        }
        let Some((mut parts, id)) = self.outgoing(parts, host, origin, &group) else {
            return self.unrouted(refuse(Refusal::Host));
        };
        if let Some(record) = record {
            record.group.push_str(group.id().as_str());
            record.id = Some(id.clone());
            record.carry_on(&mut parts.headers);
        }
        let request =
            Request::from_parts(parts, RequestBody::new(body, self.settings.body_silence));
        let mut story = Story::default();
        let ran = self.run(&group, &numbers, request, &mut story).await;
        if let Some(record) = record {
            record.waited = story.waited;
            record.cold = story.cold;
        }
        let mut response = match ran {
            Ok((response, held)) => self.reply(response, held, client, id, &numbers, record),
            Err(response) => response,
        };
        if let Some(OwnAnswer(category)) = response.extensions().get() {
            numbers.refused(category);
        }
        if let Some(phases) = &story.cold
            && self.settings.cold_start_header
        {
            // Beside the app's own, of which there may be several.
            response
                .headers_mut()
                .append(SERVER_TIMING, phases.server_timing());
        }
        numbers.answered(response.status(), started.elapsed());
        response
    }

    /// A request that belongs to no group is answered.
    fn unrouted(&self, response: Response<ResponseBody>) -> Response<ResponseBody> {
        if let Some(OwnAnswer(category)) = response.extensions().get() {
            self.metrics.refused(category);
        }
        response
    }

    /// The head of the request as the instance gets it, and the request's id.
    fn outgoing(
        &self,
        mut parts: Parts,
        host: HeaderValue,
        origin: Origin,
        group: &Group,
    ) -> Option<(Parts, HeaderValue)> {
        if parts.version == Version::HTTP_2 {
            join_cookies(&mut parts);
        }
        let id = headers::outgoing(&mut parts.headers, &host, origin, self.settings.forwarding);
        let uri = std::mem::take(&mut parts.uri);
        // Most targets are a path alone, which stays as it is.
        let path = uri.into_parts().path_and_query;
        // `OPTIONS *` arrives without a path.
        let path = path
            .filter(|path| !path.as_str().is_empty())
            .unwrap_or_else(|| PathAndQuery::from_static("/"));
        match group.settings().protocol {
            Protocol::Http1 => {
                parts.uri = path.into();
                parts.version = Version::HTTP_11;
            }
            Protocol::H2c => {
                parts.uri = Uri::builder()
                    .scheme("http")
                    .authority(host.as_bytes())
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
