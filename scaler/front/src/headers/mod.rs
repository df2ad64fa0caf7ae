//! What changes in the headers on the way in and out.

mod connection;
mod forwarding;
#[cfg(test)]
mod tests;
mod trusted;

use std::ops::Range;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header};

pub use connection::{remove_hop_by_hop, upgrade_wanted};
use forwarding::forwarded;
pub use forwarding::{Forwarding, Origin, Scheme};
use trusted::trusted_by_host;

/// Response header of the host that asks for another instance; of meaning only together with 429.
pub const SCALE_OUT: HeaderName = HeaderName::from_static("x-function-scaleout");

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const LOG_ID: HeaderName = HeaderName::from_static("x-arr-log-id");

/// Headers that a request may gain here.
const ADDED: usize = 8;

/// Where the ids stand in a traceparent.
const TRACE_ID: Range<usize> = 3..35;
const SPAN_ID: Range<usize> = 36..52;

/// Longest request id that is taken over from a client.
const MAX_REQUEST_ID: usize = 128;

/// Makes the headers of a client's request those of ours to an instance. Returns the request id.
pub fn outgoing(
    headers: &mut HeaderMap,
    host: &HeaderValue,
    origin: Origin,
    forwarding: Forwarding,
) -> HeaderValue {
    let upgrade = upgrade_wanted(headers);
    remove_hop_by_hop(headers);
    remove_trusted(headers);
    // The client was answered 100 when its body was first read.
    headers.remove(header::EXPECT);
    // Grown once, and not step by step.
    headers.reserve(ADDED);
    headers.insert(header::HOST, host.clone());
    forwarded(headers, host, origin, forwarding);
    let parent = new_traceparent();
    let fresh = shared(parent.slice(TRACE_ID));
    // Without one the host takes a request for its platform's own.
    headers.insert(LOG_ID, fresh.clone());
    if !headers
        .get(TRACEPARENT)
        .is_some_and(|value| valid_traceparent(value.as_bytes()))
    {
        headers.insert(TRACEPARENT, shared(parent));
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

fn remove_trusted(headers: &mut HeaderMap) {
    // Nearly always there is none, and a list of none is no allocation.
    let trusted: Vec<HeaderName> = headers
        .keys()
        .filter(|name| trusted_by_host(name))
        .cloned()
        .collect();
    for name in trusted {
        headers.remove(name);
    }
}

/// The start of a trace, not sampled. One piece of memory holds it and the ids that are cut out of it.
fn new_traceparent() -> Bytes {
    let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
    write_hex(&mut text[TRACE_ID], fastrand::u128(1..));
    write_hex(&mut text[SPAN_ID], fastrand::u64(1..).into());
    Bytes::copy_from_slice(&text)
}

/// Lower-case digits of `value`, its last ones when there are more than fit.
fn write_hex(text: &mut [u8], mut value: u128) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in text.iter_mut().rev() {
        *byte = DIGITS[(value & 15) as usize];
        value >>= 4;
    }
}

/// A value of text that was made here.
fn shared(text: Bytes) -> HeaderValue {
    HeaderValue::from_maybe_shared(text).expect("hexadecimal digits are a valid value")
}

/// Makes the headers of an instance's response those of ours to the client.
pub fn incoming(headers: &mut HeaderMap, request_id: HeaderValue) {
    remove_hop_by_hop(headers);
    headers.remove(SCALE_OUT);
    headers.insert(REQUEST_ID, request_id);
}

/// Takes out of trailers what only a head may say (RFC 9110 section 6.5.1): where the body ends, whom the request is for, what the host believes, and
/// what belongs to one connection, with which HTTP/2 would never end the body.
pub(crate) fn clean_trailers(trailers: &mut HeaderMap) {
    remove_hop_by_hop(trailers);
    remove_trusted(trailers);
    for name in [header::CONTENT_LENGTH, header::HOST, header::TE] {
        trailers.remove(name);
    }
}

/// `00-<32 hex>-<16 hex>-<2 hex>` with ids other than zero, W3C Trace Context section 3.2.
pub(crate) fn valid_traceparent(value: &[u8]) -> bool {
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
