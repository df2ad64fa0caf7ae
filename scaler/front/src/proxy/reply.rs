//! What a client gets: the instance's response, an upgraded connection, or an answer of our own.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, Version, header};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;

use super::{Proxy, attempts::Failure, switch::Switch};
use crate::{
    body::{GuardedBody, Held, ResponseBody},
    check::Refusal,
    headers,
    metrics::GroupMetrics,
    observe::{End, Record},
    pool::NoSlot,
    tunnel,
};

impl Proxy {
    pub(super) fn reply(
        &self,
        response: Response<Incoming>,
        held: Held,
        client: Option<Switch>,
        id: HeaderValue,
        numbers: &GroupMetrics,
        record: &mut Option<Box<Record>>,
    ) -> Response<ResponseBody> {
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            let Some(client) = client else {
                held.slot.broken();
                let failure = Failure::Switched;
                numbers.upstream(failure.category());
                return answer(
                    failure.status(),
                    failure.category(),
                    &failure.to_string(),
                    None,
                );
            };
            return self.tunnel(response, held, client, id, record.take());
        }
        if response.status().is_success() && client.is_some_and(|client| client.by_success()) {
            // Nobody reads it, and the slot is free when it has ended.
            drop(GuardedBody::new(response.into_body(), held, None));
            let failure = Failure::NotSwitched;
            numbers.upstream(failure.category());
            return answer(
                failure.status(),
                failure.category(),
                &failure.to_string(),
                None,
            );
        }
        let record = record
            .take()
            .map(|record| record.answered(&response, &held));
        let (mut parts, body) = response.into_parts();
        headers::incoming(&mut parts.headers, id);
        parts.version = Version::HTTP_11;
        parts.extensions.clear();
        Response::from_parts(
            parts,
            ResponseBody::Proxied(GuardedBody::new(body, held, record)),
        )
    }

    /// Joins both ends of an upgraded connection; the slot is taken until they are closed.
    fn tunnel(
        &self,
        mut response: Response<Incoming>,
        held: Held,
        client: Switch,
        id: HeaderValue,
        record: Option<Box<Record>>,
    ) -> Response<ResponseBody> {
        let mut record = record.map(|record| record.answered(&response, &held));
        let instance = hyper::upgrade::on(&mut response);
        let (mut parts, _) = response.into_parts();
        let protocol = parts.headers.get(header::UPGRADE).cloned();
        headers::incoming(&mut parts.headers, id);
        let (client, status) = client.agree(&mut parts.headers, protocol);
        parts.status = status;
        parts.extensions.clear();
        let open = self.metrics.connection("upgraded");
        self.tunnels.spawn(async move {
            let _open = open;
            let ends = tokio::try_join!(client, instance);
            let Ok((client, instance)) = ends else {
                held.slot.broken();
                return;
            };
            let ended = tunnel::join(TokioIo::new(client), TokioIo::new(instance)).await;
            if let Some(record) = &mut record {
                record.bytes = ended.answered;
                if ended.whole {
                    record.end = End::Complete;
                }
            }
            if ended.by_instance {
                held.slot.complete();
            } else {
                held.slot.broken();
            }
        });
        Response::from_parts(parts, ResponseBody::Own(None))
    }
}

/// In the extensions of an answer of our own: its category.
#[derive(Clone, Copy, Debug)]
pub(super) struct OwnAnswer(pub(super) &'static str);

pub(super) fn refuse(refusal: Refusal) -> Response<ResponseBody> {
    let mut response = answer(
        refusal.status(),
        refusal.category(),
        &refusal.to_string(),
        None,
    );
    if refusal.closes() {
        response
            .headers_mut()
            .insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

pub(super) fn no_slot(no: NoSlot) -> Response<ResponseBody> {
    match no {
        NoSlot::Full => answer(
            StatusCode::TOO_MANY_REQUESTS,
            no.category(),
            &no.to_string(),
            Some("1"),
        ),
        NoSlot::TimedOut => answer(
            StatusCode::SERVICE_UNAVAILABLE,
            no.category(),
            &no.to_string(),
            Some("5"),
        ),
    }
}

/// An answer of our own. `retry_after` in seconds.
pub(super) fn answer(
    status: StatusCode,
    category: &'static str,
    message: &str,
    retry_after: Option<&'static str>,
) -> Response<ResponseBody> {
    let text = format!("{{\"error\":\"{category}\",\"message\":\"{message}\"}}\n");
    let mut response = Response::new(ResponseBody::Own(Some(Bytes::from(text))));
    *response.status_mut() = status;
    response.extensions_mut().insert(OwnAnswer(category));
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    if let Some(seconds) = retry_after {
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static(seconds));
    }
    response
}
