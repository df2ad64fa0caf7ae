//! Headers of one connection, which end here.

use http::{HeaderMap, HeaderName, HeaderValue, header};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");

/// Headers of one connection only, RFC 9110 section 7.6.1.
const HOP_BY_HOP: [HeaderName; 9] = [
    header::CONNECTION,
    header::TE,
    KEEP_ALIVE,
    PROXY_CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HTTP2_SETTINGS,
];

/// Which of them are there, a bit for each. Mostly none is, and one look at each name costs less than nine searches.
fn present(headers: &HeaderMap) -> u16 {
    let bit = |name: &HeaderName| match name.as_str() {
        "connection" => 1,
        "te" => 1 << 1,
        "keep-alive" => 1 << 2,
        "proxy-connection" => 1 << 3,
        "proxy-authenticate" => 1 << 4,
        "proxy-authorization" => 1 << 5,
        "transfer-encoding" => 1 << 6,
        "upgrade" => 1 << 7,
        "http2-settings" => 1 << 8,
        _ => 0,
    };
    headers.keys().fold(0, |bits, name| bits | bit(name))
}

/// The protocol that a request wants to change to; none for HTTP/2 over cleartext, which would lead around every rule here.
pub fn upgrade_wanted(headers: &HeaderMap) -> Option<HeaderValue> {
    let protocol = headers.get(header::UPGRADE)?;
    let asks = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|value| {
            value
                .split(',')
                .any(|token| token.trim().eq_ignore_ascii_case("upgrade"))
        });
    let cleartext_http2 = protocol.to_str().is_ok_and(|value| {
        value
            .split(',')
            .any(|p| p.trim().eq_ignore_ascii_case("h2c"))
    });
    (asks && !cleartext_http2).then(|| protocol.clone())
}

/// Takes out what belongs to one connection only.
pub fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let present = present(headers);
    if present == 0 {
        return;
    }
    if headers.contains_key(header::CONNECTION) {
        let listed: Vec<HeaderName> = headers
            .get_all(header::CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .map(str::trim)
            // The usual one, which is taken out anyway.
            .filter(|token| !token.eq_ignore_ascii_case("keep-alive"))
            .filter_map(|token| token.parse().ok())
            .collect();
        for name in listed {
            // Where the body ends is nobody's to take away.
            if name != header::CONTENT_LENGTH && name != header::HOST && name != header::TE {
                headers.remove(name);
            }
        }
    }
    // TE is of one connection too, but gRPC says with it that trailers get through, and they do.
    let trailers = headers.get_all(header::TE).iter().any(|value| {
        value.to_str().is_ok_and(|v| {
            v.split(',')
                .any(|t| t.trim().eq_ignore_ascii_case("trailers"))
        })
    });
    for (place, name) in HOP_BY_HOP.iter().enumerate() {
        if present & (1 << place) != 0 {
            headers.remove(name);
        }
    }
    if trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_header_of_a_connection_has_its_bit() {
        for (place, name) in HOP_BY_HOP.iter().enumerate() {
            let mut headers = HeaderMap::new();
            headers.insert("x-other", HeaderValue::from_static("x"));
            assert_eq!(present(&headers), 0);
            headers.insert(name, HeaderValue::from_static("x"));
            assert_eq!(present(&headers), 1 << place, "{name}");
            remove_hop_by_hop(&mut headers);
            assert_eq!(headers.len(), 1, "{name}");
        }
    }
}
