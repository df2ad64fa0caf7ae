//! What an instance is told about the client and the first hop.

use std::{
    fmt::Write as _,
    net::{IpAddr, Ipv4Addr},
    ops::Range,
};

use bytes::Bytes;
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
    let scheme = origin.scheme.as_str();
    let (ours, node) = element(host, origin);
    match forwarding {
        Forwarding::Replace => {
            set(headers, X_FORWARDED_FOR, ours.slice(node));
            set(headers, header::FORWARDED, ours);
        }
        Forwarding::Append => {
            let peer = ours.slice(node);
            for (name, ours) in [(X_FORWARDED_FOR, peer), (header::FORWARDED, ours)] {
                let value = match joined(headers, &name) {
                    Some(before) => [before.as_bytes(), b", ", &ours].concat().into(),
                    None => ours,
                };
                set(headers, name, value);
            }
        }
    }
    // These name the outermost hop, which a trusted proxy has said already.
    if forwarding == Forwarding::Replace || !headers.contains_key(X_FORWARDED_PROTO) {
        headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(scheme));
    }
    if forwarding == Forwarding::Replace || !headers.contains_key(X_FORWARDED_HOST) {
        headers.insert(X_FORWARDED_HOST, host.clone());
    }
}

/// Our element of `Forwarded`, RFC 7239 section 4, and where the client's address stands in it.
fn element(host: &HeaderValue, origin: Origin) -> (Bytes, Range<usize>) {
    let mut text = String::with_capacity(80 + host.len());
    let node = match origin.peer.to_canonical() {
        IpAddr::V4(peer) => {
            text.push_str("for=");
            push_v4(&mut text, peer);
            4..text.len()
        }
        IpAddr::V6(peer) => {
            write!(text, "for=\"[{peer}]\"").expect("writing to a String cannot fail");
            6..text.len() - 2
        }
    };
    text.push_str(";host=\"");
    text.push_str(host.to_str().unwrap_or(""));
    text.push_str("\";proto=");
    text.push_str(origin.scheme.as_str());
    (text.into(), node)
}

/// What `Display` writes, which takes longer than all of the rest here.
fn push_v4(text: &mut String, address: Ipv4Addr) {
    for (place, octet) in address.octets().into_iter().enumerate() {
        if place > 0 {
            text.push('.');
        }
        if octet >= 100 {
            text.push(char::from(b'0' + octet / 100));
        }
        if octet >= 10 {
            text.push(char::from(b'0' + octet / 10 % 10));
        }
        text.push(char::from(b'0' + octet % 10));
    }
}

fn set(headers: &mut HeaderMap, name: HeaderName, value: Bytes) {
    // Of valid values only valid ones are made.
    if let Ok(value) = HeaderValue::from_maybe_shared(value) {
        headers.insert(name, value);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_written_as_they_are_displayed() {
        for bits in (0..=u32::MAX).step_by(999_983) {
            let (address, mut text) = (Ipv4Addr::from_bits(bits), String::new());
            push_v4(&mut text, address);
            assert_eq!(text, address.to_string());
        }
    }
}
