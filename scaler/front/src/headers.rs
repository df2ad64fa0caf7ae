//! What changes in the headers on the way in and out.

use std::{fmt::Write as _, net::IpAddr};

use http::{HeaderMap, HeaderName, HeaderValue, header};

/// What to do with the forwarding headers that a client sends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Forwarding {
    /// Nobody in front is trusted: they are replaced.
    #[default]
    Replace,
    /// A trusted proxy stands in front: ours is added behind its own.
    Append,
}

/// Where a request came from.
#[derive(Clone, Copy, Debug)]
pub struct Origin {
    /// The client's address.
    pub peer: IpAddr,
    /// Whether its connection was encrypted.
    pub scheme: Scheme,
}

/// Scheme of the client's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// Without TLS.
    Http,
    /// With TLS.
    Https,
}

impl Scheme {
    /// As in a URL.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// Response header of the host that asks for another instance; of meaning only together with 429.
pub const SCALE_OUT: HeaderName = HeaderName::from_static("x-function-scaleout");

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const LOG_ID: HeaderName = HeaderName::from_static("x-arr-log-id");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Longest request id that is taken over from a client.
const MAX_REQUEST_ID: usize = 128;

/// Headers of one connection only, RFC 9110 section 7.6.1.
const HOP_BY_HOP: [HeaderName; 8] = [
    header::CONNECTION,
    KEEP_ALIVE,
    PROXY_CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HTTP2_SETTINGS,
];

/// Whether the function host believes what this header says, so that no client may set it. Some workers read `_` as `-`.
fn trusted_by_host(name: &HeaderName) -> bool {
    let name = name.as_str();
    let is = |known: &str| {
        name.len() == known.len()
            && name
                .bytes()
                .zip(known.bytes())
                .all(|(a, b)| a == b || (a == b'_' && b == b'-'))
    };
    let starts = |known: &str| {
        name.len() > known.len() && {
            let (head, _) = name.as_bytes().split_at(known.len());
            head.iter()
                .zip(known.bytes())
                .all(|(a, b)| *a == b || (*a == b'_' && b == b'-'))
        }
    };
    // The first letters decide for nearly every header.
    match name.as_bytes().first() {
        Some(b'w') => is("was-default-hostname"),
        Some(b'x') => {
            is("x-arr-log-id")
                || is("x-ms-site-token")
                || is("x-ms-site-restricted-token")
                || is("x-ms-client-principal")
                || starts("x-ms-client-principal-")
        }
        _ => false,
    }
}

/// The protocol that a request wants to change to; none for HTTP/2 over cleartext, which would lead around every rule here.
pub fn upgrade_wanted(headers: &HeaderMap) -> Option<HeaderValue> {
    let asks = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|value| {
            value
                .split(',')
                .any(|token| token.trim().eq_ignore_ascii_case("upgrade"))
        });
    let protocol = headers.get(header::UPGRADE)?;
    let cleartext_http2 = protocol.to_str().is_ok_and(|value| {
        value
            .split(',')
            .any(|p| p.trim().eq_ignore_ascii_case("h2c"))
    });
    (asks && !cleartext_http2).then(|| protocol.clone())
}

/// Takes out what belongs to one connection only.
pub fn remove_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(header::CONNECTION) {
        let listed: Vec<HeaderName> = headers
            .get_all(header::CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter_map(|token| token.trim().parse().ok())
            .collect();
        for name in listed {
            // Where the body ends is nobody's to take away.
            if name != header::CONTENT_LENGTH && name != header::HOST && name != header::TE {
                headers.remove(name);
            }
        }
    }
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
    // TE is of one connection too, but gRPC says with it that trailers get through, and they do.
    let trailers = headers.get_all(header::TE).iter().any(|value| {
        value.to_str().is_ok_and(|v| {
            v.split(',')
                .any(|t| t.trim().eq_ignore_ascii_case("trailers"))
        })
    });
    if headers.remove(header::TE).is_some() && trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
}

/// Makes the headers of a client's request those of ours to an instance. Returns the request id.
pub fn outgoing(
    headers: &mut HeaderMap,
    host: &HeaderValue,
    origin: Origin,
    forwarding: Forwarding,
) -> HeaderValue {
    let upgrade = upgrade_wanted(headers);
    remove_hop_by_hop(headers);
    let trusted: Vec<HeaderName> = headers
        .keys()
        .filter(|name| trusted_by_host(name))
        .cloned()
        .collect();
    for name in trusted {
        headers.remove(name);
    }
    // The client was answered 100 when its body was first read.
    headers.remove(header::EXPECT);
    headers.insert(header::HOST, host.clone());
    forwarded(headers, host, origin, forwarding);
    let random = fastrand::u128(1..);
    let mut id = String::with_capacity(32);
    write!(id, "{random:032x}").expect("writing to a String cannot fail");
    let fresh = HeaderValue::from_str(&id).expect("hexadecimal digits are a valid value");
    // Without one the host takes a request for its platform's own.
    headers.insert(LOG_ID, fresh.clone());
    if !headers
        .get(TRACEPARENT)
        .is_some_and(|value| valid_traceparent(value.as_bytes()))
    {
        let parent = format!("00-{id}-{:016x}-00", fastrand::u64(1..));
        headers.insert(
            TRACEPARENT,
            HeaderValue::from_str(&parent).expect("hexadecimal digits are a valid value"),
        );
    }
    let kept = headers.get(REQUEST_ID).filter(|value| {
        !value.is_empty()
            && value.len() <= MAX_REQUEST_ID
            && value.as_bytes().iter().all(u8::is_ascii_graphic)
    });
    let id = kept.cloned().unwrap_or(fresh);
    headers.insert(REQUEST_ID, id.clone());
    if let Some(protocol) = upgrade {
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, protocol);
    }
    id
}

fn forwarded(headers: &mut HeaderMap, host: &HeaderValue, origin: Origin, forwarding: Forwarding) {
    let peer = origin.peer.to_canonical();
    let scheme = origin.scheme.as_str();
    let node = match peer {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => format!("\"[{v6}]\""),
    };
    let ours = format!(
        "for={node};host=\"{}\";proto={scheme}",
        host.to_str().unwrap_or("")
    );
    let add = |headers: &mut HeaderMap, name: HeaderName, ours: &str| {
        let before = match forwarding {
            Forwarding::Replace => None,
            Forwarding::Append => joined(headers, &name),
        };
        let value = before.map_or_else(|| ours.to_owned(), |before| format!("{before}, {ours}"));
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(name, value);
        }
    };
    add(headers, X_FORWARDED_FOR, &peer.to_string());
    add(headers, header::FORWARDED, &ours);
    // These name the outermost hop, which a trusted proxy has said already.
    if forwarding == Forwarding::Replace || !headers.contains_key(X_FORWARDED_PROTO) {
        headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(scheme));
    }
    if forwarding == Forwarding::Replace || !headers.contains_key(X_FORWARDED_HOST) {
        headers.insert(X_FORWARDED_HOST, host.clone());
    }
}

fn joined(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let values: Vec<&str> = headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .collect();
    (!values.is_empty()).then(|| values.join(", "))
}

/// `00-<32 hex>-<16 hex>-<2 hex>` with ids other than zero, W3C Trace Context section 3.2.
fn valid_traceparent(value: &[u8]) -> bool {
    let hex = |part: &[u8]| {
        part.iter()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(b))
    };
    let zero = |part: &[u8]| part.iter().all(|b| *b == b'0');
    value.len() == 55
        && value[..2] == *b"00"
        && value[2] == b'-'
        && value[35] == b'-'
        && value[52] == b'-'
        && hex(&value[3..35])
        && !zero(&value[3..35])
        && hex(&value[36..52])
        && !zero(&value[36..52])
        && hex(&value[53..])
}

/// Makes the headers of an instance's response those of ours to the client.
pub fn incoming(headers: &mut HeaderMap, request_id: HeaderValue) {
    remove_hop_by_hop(headers);
    headers.remove(SCALE_OUT);
    headers.insert(REQUEST_ID, request_id);
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn map(pairs: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        }
        headers
    }

    fn sent(pairs: &[(&str, &str)], forwarding: Forwarding) -> HeaderMap {
        let mut headers = map(pairs);
        let origin = Origin {
            peer: IpAddr::V4(Ipv4Addr::new(10, 0, 0, 7)),
            scheme: Scheme::Https,
        };
        outgoing(
            &mut headers,
            &HeaderValue::from_static("app.example"),
            origin,
            forwarding,
        );
        headers
    }

    #[test]
    fn nothing_that_the_host_trusts_gets_in() {
        let sent = sent(
            &[
                ("WAS-DEFAULT-HOSTNAME", "evil:1"),
                ("x-arr-log-id", "evil"),
                ("X-MS-Site-Token", "evil"),
                ("x-ms-site-restricted-token", "evil"),
                ("x-ms-client-principal", "evil"),
                ("x-ms-client-principal-id", "evil"),
                ("x_ms_client_principal", "evil"),
                ("x-ms-client-principalx", "kept"),
                ("x-ms-version", "kept"),
            ],
            Forwarding::Replace,
        );
        assert!(sent.values().all(|value| value != "evil"), "{sent:?}");
        assert_eq!(sent.values().filter(|value| *value == "kept").count(), 2);
        assert!(sent.contains_key("x-arr-log-id"));
    }

    #[test]
    fn connection_headers_end_here() {
        let sent = sent(
            &[
                ("connection", "x-one, Keep-Alive, content-length"),
                ("x-one", "gone"),
                ("keep-alive", "5"),
                ("te", "gzip, trailers"),
                ("transfer-encoding", "chunked"),
                ("upgrade", "h2c"),
                ("http2-settings", "AAA"),
                ("proxy-authorization", "secret"),
                ("content-length", "3"),
                ("x-two", "kept"),
            ],
            Forwarding::Replace,
        );
        for name in [
            "connection",
            "x-one",
            "keep-alive",
            "transfer-encoding",
            "upgrade",
            "http2-settings",
            "proxy-authorization",
        ] {
            assert!(!sent.contains_key(name), "{name}");
        }
        assert_eq!(
            (&sent["te"], &sent["x-two"], &sent["content-length"]),
            (
                &"trailers".parse().unwrap(),
                &"kept".parse().unwrap(),
                &"3".parse().unwrap()
            )
        );
    }

    #[test]
    fn upgrades_pass_except_cleartext_http2() {
        let socket = sent(
            &[
                ("connection", "keep-alive, Upgrade"),
                ("upgrade", "websocket"),
            ],
            Forwarding::Replace,
        );
        assert_eq!(
            (&socket["connection"], &socket["upgrade"]),
            (&"upgrade".parse().unwrap(), &"websocket".parse().unwrap())
        );
        let http2 = sent(
            &[
                ("connection", "Upgrade, HTTP2-Settings"),
                ("upgrade", "h2c"),
            ],
            Forwarding::Replace,
        );
        assert!(!http2.contains_key("upgrade") && !http2.contains_key("connection"));
    }

    #[test]
    fn forwarding_headers_are_replaced_or_extended() {
        let client = [
            ("x-forwarded-for", "1.1.1.1"),
            ("forwarded", "for=1.1.1.1"),
            ("x-forwarded-proto", "http"),
            ("x-forwarded-host", "evil"),
        ];
        let replaced = sent(&client, Forwarding::Replace);
        assert_eq!(replaced["x-forwarded-for"], "10.0.0.7");
        assert_eq!(
            replaced["forwarded"],
            "for=10.0.0.7;host=\"app.example\";proto=https"
        );
        assert_eq!(
            (
                &replaced["x-forwarded-proto"],
                &replaced["x-forwarded-host"]
            ),
            (&"https".parse().unwrap(), &"app.example".parse().unwrap())
        );
        let appended = sent(&client, Forwarding::Append);
        assert_eq!(appended["x-forwarded-for"], "1.1.1.1, 10.0.0.7");
        assert_eq!(appended["x-forwarded-proto"], "http");
    }

    #[test]
    fn traces_and_ids_are_kept_when_valid_and_made_otherwise() {
        let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let kept = sent(
            &[("traceparent", parent), ("x-request-id", "abc")],
            Forwarding::Replace,
        );
        assert_eq!(
            (&kept["traceparent"], &kept["x-request-id"]),
            (&parent.parse().unwrap(), &"abc".parse().unwrap())
        );
        for bad in [
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "zz",
            "00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ] {
            let made = sent(
                &[("traceparent", bad), ("x-request-id", "a b")],
                Forwarding::Replace,
            );
            assert!(
                valid_traceparent(made["traceparent"].as_bytes()) && made["traceparent"] != bad
            );
            assert_eq!(made["x-request-id"].len(), 32);
        }
    }
}
