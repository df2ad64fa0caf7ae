//! Clients that want to leave HTTP: by an Upgrade of HTTP/1.1, or by an extended CONNECT of HTTP/2 (RFC 8441).
//!
//! An instance always gets the Upgrade. Instances that speak HTTP/2 get neither.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Version, header, request::Parts};
use hyper::{ext::Protocol, upgrade::OnUpgrade};

use crate::{check::WEBSOCKET, headers};

/// A client that waits for the other protocol.
#[derive(Debug)]
pub(super) struct Switch {
    client: OnUpgrade,
    by: By,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    Upgrade,
    Connect,
}

impl Switch {
    /// What the client wants, if it wants to leave HTTP.
    pub(super) fn wanted<B>(request: &mut Request<B>) -> Option<Self> {
        let by = match request.version() {
            Version::HTTP_11 if headers::upgrade_wanted(request.headers()).is_some() => By::Upgrade,
            Version::HTTP_2 if *request.method() == Method::CONNECT => By::Connect,
            _ => return None,
        };
        Some(Self {
            client: hyper::upgrade::on(request),
            by,
        })
    }

    /// Whether the success of any response means to the client that the protocol was changed.
    pub(super) fn by_success(&self) -> bool {
        self.by == By::Connect
    }

    /// The end of the client, and the status that tells it of the change; `headers` become those of that response.
    pub(super) fn agree(
        self,
        headers: &mut HeaderMap,
        protocol: Option<HeaderValue>,
    ) -> (OnUpgrade, StatusCode) {
        let status = match self.by {
            By::Upgrade => {
                if let Some(protocol) = protocol {
                    headers.insert(header::UPGRADE, protocol);
                }
                headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
                StatusCode::SWITCHING_PROTOCOLS
            }
            By::Connect => {
                headers.remove(header::SEC_WEBSOCKET_ACCEPT);
                StatusCode::OK
            }
        };
        (self.client, status)
    }
}

/// Makes an extended CONNECT the request that asks for the same by HTTP/1.1 (RFC 8441, section 5).
pub(super) fn as_upgrade(parts: &mut Parts) {
    if parts.extensions.remove::<Protocol>().is_none() {
        return;
    }
    parts.method = Method::GET;
    let key = STANDARD.encode(fastrand::u128(..).to_be_bytes());
    let key = HeaderValue::from_str(&key).expect("base64 is a valid value");
    let headers = &mut parts.headers;
    headers.insert(header::UPGRADE, HeaderValue::from_static(WEBSOCKET));
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::SEC_WEBSOCKET_KEY, key);
    headers.remove(header::CONTENT_LENGTH);
}
