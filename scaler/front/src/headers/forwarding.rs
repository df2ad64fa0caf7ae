//! What an instance is told about the client and the first hop.

use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue, header};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

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

/// Sets the forwarding headers.
pub(super) fn forwarded(
    headers: &mut HeaderMap,
    host: &HeaderValue,
    origin: Origin,
    forwarding: Forwarding,
) {
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
