//! What is told of single requests: access log and spans, each for a share of the requests. What is switched off costs a look at one number.

use std::{
    fmt::{Debug, Write as _},
    net::IpAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version};
use maniple_core::slots::message::InstanceUid;
use tokio::time::Instant;

use crate::{
    body::Held,
    cold::{Phases, milliseconds},
    headers::{Origin, Scheme},
};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// Bytes of a path that are told.
const PATH: usize = 1024;

/// What takes finished requests as spans. It must never wait.
pub trait Spans: Debug + Send + Sync {
    /// One request has ended.
    fn take(&self, record: &Record);
}

/// Which requests are told of. Shares are out of a thousand.
#[derive(Clone, Debug, Default)]
pub struct Observer {
    /// Share of requests that get a line in the log.
    pub log_share: u32,
    /// Share of requests without a `traceparent` that become a trace. Others follow the one that they came with.
    pub trace_share: u32,
    /// Where spans go; none: requests keep the `traceparent` that they have.
    pub spans: Option<Arc<dyn Spans>>,
}

/// Place of a request in a trace, W3C Trace Context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trace {
    /// The trace.
    pub trace: u128,
    /// The span that this request is here.
    pub span: u64,
    /// The client's span.
    pub parent: Option<u64>,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum End {
    /// The client went before the response was complete.
    #[default]
    ByClient,
    /// The response was sent whole.
    Complete,
    /// The response of the instance broke off.
    ByInstance,
}

impl End {
    fn word(self) -> &'static str {
        match self {
            Self::ByClient => "client",
            Self::Complete => "complete",
            Self::ByInstance => "instance",
        }
    }
}

/// One request. Told when it is dropped: then the request has ended, however it did.
#[derive(Debug)]
pub struct Record {
    /// When its head was read.
    pub began: SystemTime,
    /// The same, by a clock that never jumps.
    began_at: Instant,
    /// The client, or the proxy before it.
    pub peer: IpAddr,
    /// How it came.
    pub scheme: Scheme,
    /// Version of HTTP.
    pub version: Version,
    /// Method.
    pub method: Method,
    /// Host as asked for; empty when there was none.
    pub host: String,
    /// Path without its query, in which there may be keys.
    pub path: String,
    /// `namespace/app/group`; empty when there is no route.
    pub group: String,
    /// Request id, when the request came that far.
    pub id: Option<HeaderValue>,
    /// Status of the response; none when there was none.
    pub status: Option<StatusCode>,
    /// Why the front end answered itself.
    pub category: Option<&'static str>,
    /// The instance that answered.
    pub instance: Option<InstanceUid>,
    /// Time in the waiting room.
    pub waited: Duration,
    /// What it waited for, when no instance could serve.
    pub cold: Option<Phases>,
    /// Bytes of the response's body.
    pub bytes: u64,
    /// How it ended.
    pub end: End,
    /// Its place in a trace, when it is traced.
    pub trace: Option<Trace>,
    logged: bool,
    spans: Option<Arc<dyn Spans>>,
}

impl Observer {
    /// A request came. None when nothing is told of it.
    pub(crate) fn begin<B>(&self, request: &Request<B>, origin: Origin) -> Option<Box<Record>> {
        if self.log_share == 0 && self.spans.is_none() {
            return None;
        }
        let logged = chosen(self.log_share);
        let spans = self.spans.as_ref();
        let trace = spans.and_then(|_| trace(request.headers(), self.trace_share));
        if !logged && trace.is_none() {
            return None;
        }
        let uri = request.uri();
        let host = uri.authority().map(http::uri::Authority::as_str);
        let host = host.or_else(|| request.headers().get(http::header::HOST)?.to_str().ok());
        let path = uri.path();
        let path = &path[..path.floor_char_boundary(PATH)];
        Some(Box::new(Record {
            began: SystemTime::now(),
            began_at: Instant::now(),
            peer: origin.peer,
            scheme: origin.scheme,
            version: request.version(),
            method: request.method().clone(),
            host: host.unwrap_or_default().to_owned(),
            path: path.to_owned(),
            group: String::new(),
            id: None,
            status: None,
            category: None,
            instance: None,
            waited: Duration::ZERO,
            cold: None,
            bytes: 0,
            end: End::default(),
            trace,
            logged,
            spans: trace.and(spans.cloned()),
        }))
    }
}

fn chosen(share: u32) -> bool {
    share > 0 && fastrand::u32(..1000) < share
}

/// The place of a request with these headers; none when it is not traced.
fn trace(headers: &HeaderMap, share: u32) -> Option<Trace> {
    let span = fastrand::u64(1..);
    match headers
        .get(TRACEPARENT)
        .and_then(|value| parse(value.as_bytes()))
    {
        Some((trace, parent, sampled)) => sampled.then_some(Trace {
            trace,
            span,
            parent: Some(parent),
        }),
        None => chosen(share).then(|| Trace {
            trace: fastrand::u128(1..),
            span,
            parent: None,
        }),
    }
}

/// Trace, parent and whether it is sampled, of a header that is valid by W3C Trace Context section 3.2.
fn parse(value: &[u8]) -> Option<(u128, u64, bool)> {
    if !crate::headers::valid_traceparent(value) {
        return None;
    }
    let text = std::str::from_utf8(value).ok()?;
    Some((
        u128::from_str_radix(&text[3..35], 16).ok()?,
        u64::from_str_radix(&text[36..52], 16).ok()?,
        u8::from_str_radix(&text[53..55], 16).ok()? & 1 == 1,
    ))
}

impl Record {
    /// Makes the instance continue the trace from this span.
    pub(crate) fn carry_on(&self, headers: &mut HeaderMap) {
        if let Some(Trace { trace, span, .. }) = self.trace {
            let mut text = String::with_capacity(55);
            write!(text, "00-{trace:032x}-{span:016x}-01")
                .expect("writing to a String cannot fail");
            let value = HeaderValue::from_str(&text).expect("hexadecimal digits are a valid value");
            headers.insert(TRACEPARENT, value);
        }
    }

    /// An instance answered.
    pub(crate) fn answered<B>(
        mut self: Box<Self>,
        response: &Response<B>,
        held: &Held,
    ) -> Box<Self> {
        self.status = Some(response.status());
        self.instance = Some(held.slot.instance().uid());
        self
    }

    /// Time since the head of the request was read.
    pub fn took(&self) -> Duration {
        self.began_at.elapsed()
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if let Some(spans) = self.spans.take() {
            spans.take(self);
        }
        if !self.logged {
            return;
        }
        tracing::info!(
            target: "access",
            peer = %self.peer,
            scheme = self.scheme.as_str(),
            version = ?self.version,
            method = %self.method,
            host = self.host,
            path = self.path,
            group = self.group,
            status = self.status.map(|status| status.as_u16()),
            reason = self.category,
            end = self.end.word(),
            bytes = self.bytes,
            took_ms = milliseconds(self.took()),
            waited_ms = milliseconds(self.waited),
            cold = self.cold.is_some(),
            instance = self.instance.map(|uid| format!("{:032x}", uid.0)),
            request_id = self.id.as_ref().and_then(|id| id.to_str().ok()),
            trace_id = self.trace.map(|trace| format!("{:032x}", trace.trace)),
            "request"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[derive(Debug)]
    struct Nowhere;

    impl Spans for Nowhere {
        fn take(&self, _record: &Record) {}
    }

    fn begin(observer: &Observer, parent: Option<&str>) -> Option<Box<Record>> {
        let mut request = Request::get("/api/x?code=secret");
        if let Some(parent) = parent {
            request = request.header("traceparent", parent);
        }
        let origin = Origin {
            peer: [127, 0, 0, 1].into(),
            scheme: Scheme::Https,
        };
        observer.begin(&request.body(()).unwrap(), origin)
    }

    fn tracing(trace_share: u32) -> Observer {
        Observer {
            trace_share,
            spans: Some(Arc::new(Nowhere)),
            ..Observer::default()
        }
    }

    #[test]
    fn nothing_is_told_unless_it_was_asked_for() {
        assert!(begin(&Observer::default(), Some(PARENT)).is_none());
        assert!(begin(&tracing(0), None).is_none());
        let unsampled = PARENT.replace("-01", "-00");
        assert!(begin(&tracing(1000), Some(&unsampled)).is_none());
    }

    #[test]
    fn a_trace_goes_on_and_a_query_is_not_told() {
        let record = begin(&tracing(0), Some(PARENT)).unwrap();
        let trace = record.trace.unwrap();
        assert_eq!(trace.trace, 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c);
        assert_eq!(trace.parent, Some(0xb7ad_6b71_6920_3331));
        assert_eq!(record.path, "/api/x");
        let mut headers = HeaderMap::new();
        record.carry_on(&mut headers);
        let carried = headers["traceparent"].to_str().unwrap();
        let expected = format!("00-0af7651916cd43dd8448eb211c80319c-{:016x}-01", trace.span);
        assert_eq!(carried, expected);
    }

    #[test]
    fn a_trace_begins_where_there_is_none_or_a_wrong_one() {
        for parent in [None, Some("00-0-0-01"), Some("garbage")] {
            let trace = begin(&tracing(1000), parent).unwrap().trace.unwrap();
            assert_eq!(trace.parent, None);
        }
    }
}
