//! Which host a request names.

use http::{HeaderMap, HeaderValue, Uri, Version, header};

use super::Refusal;

pub(super) fn host(
    version: Version,
    uri: &Uri,
    headers: &HeaderMap,
) -> Result<HeaderValue, Refusal> {
    let mut named = headers.get_all(header::HOST).iter();
    let header = named.next();
    if named.next().is_some() {
        return Err(Refusal::Host);
    }
    if header.is_none() && version == Version::HTTP_11 {
        return Err(Refusal::Host);
    }
    // An absolute target counts more than Host; HTTP/2 has only that, and a Host beside it has to agree.
    let host = match (uri.authority(), header) {
        (Some(authority), Some(header))
            if version == Version::HTTP_2
                && !authority
                    .as_str()
                    .as_bytes()
                    .eq_ignore_ascii_case(header.as_bytes()) =>
        {
            return Err(Refusal::Host);
        }
        (Some(authority), _) => {
            HeaderValue::from_str(authority.as_str()).map_err(|_| Refusal::Host)?
        }
        // Not copied: it shares the memory that the request was read into.
        (None, Some(header)) => header.clone(),
        (None, None) => return Err(Refusal::Host),
    };
    if !is_authority(host.as_bytes()) {
        return Err(Refusal::Host);
    }
    Ok(host)
}

/// Whether `text` is a name or an address, IPv6 in brackets, with or without a port. Narrower than RFC 3986: no users, no encoded or other special characters.
fn is_authority(text: &[u8]) -> bool {
    let (name_valid, rest) = if let Some(bracketed) = text.strip_prefix(b"[") {
        let Some(end) = bracketed.iter().position(|b| *b == b']') else {
            return false;
        };
        let (address, rest) = bracketed.split_at(end);
        let valid = |b: &u8| b.is_ascii_hexdigit() || matches!(b, b':' | b'.');
        (end > 0 && address.iter().all(valid), &rest[1..])
    } else {
        let end = text.iter().position(|b| *b == b':').unwrap_or(text.len());
        let (name, rest) = text.split_at(end);
        let valid = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
        (end > 0 && name.iter().all(valid), rest)
    };
    let port_valid = match rest.split_first() {
        None => true,
        Some((b':', port)) => port.len() <= 5 && port.iter().all(u8::is_ascii_digit),
        Some(_) => false,
    };
    name_valid && port_valid
}

/// The host of `authority` without its port.
pub fn without_port(authority: &str) -> &str {
    if let Some(end) = authority.rfind(']') {
        return &authority[..=end];
    }
    authority
        .split_once(':')
        .map_or(authority, |(host, _)| host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_lose_their_port() {
        for (authority, host) in [
            ("a.b", "a.b"),
            ("a.b:80", "a.b"),
            ("[::1]:80", "[::1]"),
            ("[::1]", "[::1]"),
        ] {
            assert_eq!(without_port(authority), host);
        }
    }

    #[test]
    fn an_authority_is_a_name_or_address_with_or_without_port() {
        for valid in ["a", "a.b-c_d.", "10.0.0.7:80", "a:", "[::1]", "[::1]:8080"] {
            assert!(is_authority(valid.as_bytes()), "{valid}");
        }
        for wrong in [
            "", ":80", "a:b", "a:1:2", "a:123456", "[]", "[::1", "::1", "[::1]a", "[::1]80",
            "a[::1]", "[g::]", "a@b", "a/b", "a b", "a%41", "a,b", "\u{e4}",
        ] {
            assert!(!is_authority(wrong.as_bytes()), "{wrong}");
        }
    }
}
