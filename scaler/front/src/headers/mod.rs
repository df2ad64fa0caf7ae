//! What changes in the headers on the way in and out.

mod connection;
mod forwarding;
#[cfg(test)]
mod tests;
mod trusted;

use std::fmt::Write as _;

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

/// Makes the headers of an instance's response those of ours to the client.
pub fn incoming(headers: &mut HeaderMap, request_id: HeaderValue) {
    remove_hop_by_hop(headers);
    headers.remove(SCALE_OUT);
    headers.insert(REQUEST_ID, request_id);
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
