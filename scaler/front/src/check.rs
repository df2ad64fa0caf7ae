//! Requests that are refused before anything looks at them: shapes that two servers could read differently, closed paths, limits.

mod host;

use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, Version, header};
use hyper::ext::Protocol;
use percent_encoding::percent_decode_str;

use host::host;
pub use host::without_port;

/// Longest request target in bytes, as in Azure.
pub const MAX_TARGET: usize = 8192;

/// Name of the protocol in an Upgrade and in an extended CONNECT.
pub(crate) const WEBSOCKET: &str = "websocket";

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Missing, repeated or broken Host.
    #[error("the request has to name one valid host")]
    Host,
    /// A transfer coding other than chunked alone.
    #[error("only the transfer coding chunked is supported")]
    TransferCoding,
    /// Both ways to say where the body ends, or one of them twice.
    #[error("the request says more than once where its body ends")]
    Framing,
    /// Neither a path nor a whole URL.
    #[error("the request target has to begin with a slash or be a whole URL")]
    Target,
    /// Longer than [`MAX_TARGET`].
    #[error("the request target is longer than {MAX_TARGET} bytes")]
    TargetTooLong,
    /// CONNECT except for a WebSocket, TRACE.
    #[error("this method is not proxied")]
    Method,
    /// An Expect other than 100-continue.
    #[error("only the expectation 100-continue is supported")]
    Expectation,
    /// Administration of the host.
    #[error("not found")]
    ClosedPath,
}

impl Refusal {
    /// Stable name for logs, metrics and response bodies.
    pub fn category(self) -> &'static str {
        match self {
            Self::Host => "bad-host",
            Self::TransferCoding => "bad-transfer-coding",
            Self::Framing => "bad-framing",
            Self::Target => "bad-target",
            Self::TargetTooLong => "target-too-long",
            Self::Method => "method-not-proxied",
            Self::Expectation => "expectation-failed",
            Self::ClosedPath => "closed-path",
        }
    }

    /// Whether the connection must carry nothing more: another server may read an end of this request elsewhere.
    pub(crate) fn closes(self) -> bool {
        matches!(self, Self::TransferCoding | Self::Framing)
    }

    /// The answer.
    pub fn status(self) -> StatusCode {
        match self {
            Self::Host | Self::Framing | Self::Target => StatusCode::BAD_REQUEST,
            Self::TransferCoding => StatusCode::NOT_IMPLEMENTED,
            Self::TargetTooLong => StatusCode::URI_TOO_LONG,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::Expectation => StatusCode::EXPECTATION_FAILED,
            Self::ClosedPath => StatusCode::NOT_FOUND,
        }
    }
}

/// Refuses what must not pass, and returns host and port as the client named them.
///
/// What hyper already refuses does not come here: bad header names and values, folded lines, differing Content-Length, a Transfer-Encoding that does not end in chunked. Of
/// Transfer-Encoding beside Content-Length it keeps only the first and closes the connection afterwards, so the instance sees one meaning.
pub fn check<B>(request: &Request<B>) -> Result<HeaderValue, Refusal> {
    let (uri, headers) = (request.uri(), request.headers());
    let proxied = match *request.method() {
        Method::CONNECT => is_websocket(request),
        Method::TRACE => false,
        _ => true,
    };
    if !proxied {
        return Err(Refusal::Method);
    }
    // The form of CONNECT: a host and a port alone.
    if uri.scheme().is_none() && uri.authority().is_some() {
        return Err(Refusal::Target);
    }
    if target_length(uri) > MAX_TARGET {
        return Err(Refusal::TargetTooLong);
    }
    framing(headers)?;
    if let Some(expect) = headers.get(header::EXPECT)
        && !expect.as_bytes().eq_ignore_ascii_case(b"100-continue")
    {
        return Err(Refusal::Expectation);
    }
    host(request.version(), uri, headers)
}

/// Whether it is an extended CONNECT of HTTP/2 for a WebSocket, the only kind of CONNECT that is a request to an app (RFC 8441).
fn is_websocket<B>(request: &Request<B>) -> bool {
    request.version() == Version::HTTP_2
        && request
            .extensions()
            .get::<Protocol>()
            .is_some_and(|protocol| protocol.as_str().eq_ignore_ascii_case(WEBSOCKET))
}

fn target_length(uri: &Uri) -> usize {
    uri.path_and_query()
        .map_or(0, |target| target.as_str().len())
}

fn framing(headers: &HeaderMap) -> Result<(), Refusal> {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    let coding = codings.next();
    if codings.next().is_some() {
        return Err(Refusal::Framing);
    }
    if let Some(coding) = coding {
        if !coding.as_bytes().eq_ignore_ascii_case(b"chunked") {
            return Err(Refusal::TransferCoding);
        }
        if headers.contains_key(header::CONTENT_LENGTH) {
            return Err(Refusal::Framing);
        }
    }
    if headers
        .get_all(header::CONTENT_LENGTH)
        .iter()
        .nth(1)
        .is_some()
    {
        return Err(Refusal::Framing);
    }
    Ok(())
}

/// Whether any reading of `path` leads into the host's administration.
///
/// Servers differ in what they decode and normalise and in which order, so every stage is looked at, each with dot segments resolved and not, with empty
/// segments dropped and parameters cut off.
pub fn leads_to_admin(path: &str) -> bool {
    // The ordinary case without an allocation.
    let first = path
        .split('/')
        .find(|segment| !segment.is_empty())
        .unwrap_or("");
    if first.eq_ignore_ascii_case("admin") {
        return true;
    }
    if !path.contains(['%', '\\', ';', '.']) {
        return false;
    }
    let mut stage = path.to_owned();
    for _ in 0..4 {
        if first_segments(&stage).any(|segment| segment.eq_ignore_ascii_case("admin")) {
            return true;
        }
        let decoded = percent_decode_str(&stage).decode_utf8_lossy().into_owned();
        if decoded == stage {
            break;
        }
        stage = decoded;
    }
    false
}

/// The first segment of `path` as it stands, and after dot segments are resolved.
fn first_segments(path: &str) -> impl Iterator<Item = String> + use<> {
    let clean = |segment: &str| {
        segment
            .split(';')
            .next()
            .unwrap_or("")
            .trim_matches(|c: char| c.is_whitespace() || c.is_control())
            .to_owned()
    };
    let mut resolved: Vec<String> = Vec::new();
    let mut plain = None;
    for segment in path.split(['/', '\\']).map(clean) {
        match segment.as_str() {
            "" | "." => {}
            ".." => {
                resolved.pop();
            }
            _ => {
                plain.get_or_insert_with(|| segment.clone());
                resolved.push(segment);
            }
        }
    }
    plain.into_iter().chain(resolved.into_iter().next())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_spelling_opens_the_administration() {
        let closed = [
            "/admin",
            "/admin/",
            "/ADMIN/host/status",
            "//admin/host",
            "/./admin",
            "/x/../admin",
            "/%61dmin/host",
            "/%2561dmin/host",
            "/%2e/admin",
            "/x/%2e%2e/admin",
            "/x%2f..%2fadmin",
            "/\\admin",
            "/%5cadmin",
            "/admin;a=b/host",
            "/%41DMIN",
            "/x/..;/admin",
            "/admin%20/host",
            "/admin%00",
            "/..%2fadmin",
            "/a/b/../../admin/vfs",
            "/%2fadmin",
        ];
        for path in closed {
            assert!(leads_to_admin(path), "{path}");
        }
        let open = [
            "/",
            "/api/admin",
            "/administrator",
            "/admins",
            "/x/admin",
            "/api/x;y",
            "/a.b/c%20d",
            "/%61dminx",
            "/api/..x/admin",
            "/runtime/webhooks/durabletask",
        ];
        for path in open {
            assert!(!leads_to_admin(path), "{path}");
        }
    }

    #[test]
    fn ambiguous_requests_are_refused() {
        let request = |build: fn(http::request::Builder) -> http::request::Builder| {
            check(&build(Request::builder().uri("/x")).body(()).unwrap())
        };
        assert_eq!(
            request(|r| r.header("host", "a:1")),
            Ok(HeaderValue::from_static("a:1"))
        );
        assert_eq!(request(|r| r), Err(Refusal::Host));
        assert_eq!(
            request(|r| r.header("host", "a").header("host", "a")),
            Err(Refusal::Host)
        );
        assert_eq!(request(|r| r.header("host", "a/b")), Err(Refusal::Host));
        assert_eq!(request(|r| r.header("host", "a@b")), Err(Refusal::Host));
        assert_eq!(
            request(|r| r
                .header("host", "a")
                .header("transfer-encoding", "gzip, chunked")),
            Err(Refusal::TransferCoding)
        );
        assert_eq!(
            request(|r| r
                .header("host", "a")
                .header("transfer-encoding", "chunked")
                .header("content-length", "3")),
            Err(Refusal::Framing)
        );
        assert_eq!(
            request(|r| r
                .header("host", "a")
                .header("content-length", "3")
                .header("content-length", "3")),
            Err(Refusal::Framing)
        );
        assert_eq!(
            request(|r| r.method("TRACE").header("host", "a")),
            Err(Refusal::Method)
        );
        let connect = |protocol: &'static str| {
            let request = Request::builder()
                .method("CONNECT")
                .version(Version::HTTP_2)
                .uri("http://a/x")
                .extension(Protocol::from_static(protocol));
            check(&request.body(()).unwrap())
        };
        assert_eq!(connect("websocket"), Ok(HeaderValue::from_static("a")));
        assert_eq!(connect("connect-udp"), Err(Refusal::Method));
        assert_eq!(
            request(|r| r.method("CONNECT").uri("a:1").header("host", "a:1")),
            Err(Refusal::Method)
        );
        assert_eq!(
            request(|r| r.header("host", "a").header("expect", "200-ok")),
            Err(Refusal::Expectation)
        );
        assert_eq!(
            request(|r| r.uri("http://b:8/x").header("host", "a")),
            Ok(HeaderValue::from_static("b:8"))
        );
        assert_eq!(
            request(|r| r
                .version(Version::HTTP_2)
                .uri("http://b/x")
                .header("host", "a")),
            Err(Refusal::Host)
        );
    }

    #[test]
    fn long_targets_are_refused() {
        let target = format!("/{}", "a".repeat(MAX_TARGET));
        let request = Request::builder()
            .uri(target)
            .header("host", "a")
            .body(())
            .unwrap();
        assert_eq!(check(&request), Err(Refusal::TargetTooLong));
    }
}
