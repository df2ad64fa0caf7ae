//! Headers that the function host believes.

use http::HeaderName;

/// Whether the function host believes what this header says, so that no client may set it. Some workers read `_` as `-`.
pub(super) fn trusted_by_host(name: &HeaderName) -> bool {
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
