//! When a new address serves: asked every few milliseconds from the moment it is known.

use std::{sync::Arc, time::Duration};

use http::{Method, Request, StatusCode, header};
use maniple_core::slots::word::Bar;
use tokio::time::Instant;

use crate::{
    pool::{Group, Instance, Protocol},
    upstream::RequestBody,
};

/// Between two attempts at first.
const EAGER: Duration = Duration::from_millis(5);

/// How long the attempts stay that close.
const EAGER_FOR: Duration = Duration::from_secs(30);

/// Between two attempts later: the instance starts slowly or not at all.
const PATIENT: Duration = Duration::from_millis(250);

/// One attempt.
const ATTEMPT_LIMIT: Duration = Duration::from_secs(2);

/// Asks `instance` until it answers or is gone, then lets requests in. Ends at once where no runtime is.
pub(crate) fn start(group: &Arc<Group>, instance: &Arc<Instance>) {
    let Ok(runtime) = tokio::runtime::Handle::try_current() else {
        return;
    };
    let (group, weak) = (group.clone(), Arc::downgrade(instance));
    let gone = instance.gone().clone();
    runtime.spawn(async move {
        let started = Instant::now();
        loop {
            let Some(instance) = weak.upgrade() else {
                return;
            };
            let asked = tokio::time::timeout(ATTEMPT_LIMIT, answers(&group, &instance));
            let served = tokio::select! {
                () = gone.cancelled() => return,
                served = asked => served.unwrap_or(false),
            };
            if served {
                instance.start().answered(Instant::now());
                group.lift(&instance, Bar::Unready);
                return;
            }
            drop(instance);
            tokio::time::sleep(if started.elapsed() < EAGER_FOR {
                EAGER
            } else {
                PATIENT
            })
            .await;
        }
    });
}

/// Whether a request now would be answered by the app. A refusal by the host itself (5xx) says that it is not.
async fn answers(group: &Group, instance: &Instance) -> bool {
    let settings = group.settings();
    let Some(path) = &settings.probe_path else {
        return tokio::net::TcpStream::connect(instance.address())
            .await
            .is_ok();
    };
    let target = match settings.protocol {
        Protocol::Http1 => path.clone(),
        Protocol::H2c => format!("http://{}{path}", instance.address()),
    };
    let request = Request::builder()
        .method(Method::GET)
        .uri(target)
        .header(header::HOST, instance.address().to_string())
        .header(header::USER_AGENT, "maniple-front-probe")
        .body(RequestBody::Empty);
    let Ok(request) = request else { return false };
    let Ok((response, connection)) = instance.upstream().send(settings.protocol, request).await
    else {
        return false;
    };
    // A probe needs no slot, so its connection must not be counted on by requests.
    drop(connection);
    response.status() < StatusCode::INTERNAL_SERVER_ERROR
}
