//! When a new address serves: asked every few milliseconds from the moment it is known.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use http::{Method, Request, StatusCode, header};
use maniple_core::slots::word::Bar;
use tokio::time::Instant;

use crate::{
    pool::{Group, Instance, Protocol},
    upstream::RequestBody,
};

/// Between two attempts, in the time after the first one that is named beside it: half of it is added to every cold start.
const PAUSES: [(Duration, Duration); 2] = [
    (Duration::from_secs(1), Duration::from_millis(2)),
    (Duration::from_secs(30), Duration::from_millis(5)),
];

/// Between two attempts later: the instance starts slowly or not at all.
const PATIENT: Duration = Duration::from_millis(250);

/// For each instance that is asked at the same time the attempts are this much further apart: at most 20,000 a second in all.
const SHARE: Duration = Duration::from_micros(50);

/// One connection attempt. Short, because the first packet to a new address is lost where the network learns of it late, and is sent again after a
/// second only.
const CONNECT_LIMIT: Duration = Duration::from_millis(200);

/// One answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);

/// Instances that are asked now.
static ASKED: AtomicU32 = AtomicU32::new(0);

/// Counts one of them.
struct Asked;

impl Asked {
    fn new() -> Self {
        ASKED.fetch_add(1, Ordering::Relaxed);
        Self
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        ASKED.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The pause after an attempt that came `since` the first one, while `asked` instances are asked.
fn pause(since: Duration, asked: u32) -> Duration {
    let alone = PAUSES.iter().find(|(until, _)| since < *until);
    alone
        .map_or(PATIENT, |(_, pause)| *pause)
        .max(SHARE * asked)
}

/// Asks `instance` until it answers or is gone, then lets requests in. Ends at once where no runtime is.
pub(crate) fn start(group: &Arc<Group>, instance: &Arc<Instance>) {
    let Ok(runtime) = tokio::runtime::Handle::try_current() else {
        return;
    };
    let (group, weak) = (group.clone(), Arc::downgrade(instance));
    let gone = instance.gone().clone();
    runtime.spawn(async move {
        let (started, _asked) = (Instant::now(), Asked::new());
        loop {
            let Some(instance) = weak.upgrade() else {
                return;
            };
            let served = tokio::select! {
                () = gone.cancelled() => return,
                served = answers(&group, &instance) => served,
            };
            if served {
                instance.start().answered(Instant::now());
                group.lift(&instance, Bar::Unready);
                return;
            }
            drop(instance);
            let pause = pause(started.elapsed(), ASKED.load(Ordering::Relaxed));
            tokio::time::sleep(pause).await;
        }
    });
}

/// Whether a request now would be answered by the app. A refusal by the host itself (5xx) says that it is not.
async fn answers(group: &Group, instance: &Instance) -> bool {
    let open = tokio::net::TcpStream::connect(instance.address());
    if !matches!(tokio::time::timeout(CONNECT_LIMIT, open).await, Ok(Ok(_))) {
        return false;
    }
    let settings = group.settings();
    let Some(path) = &settings.probe_path else {
        return true;
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
    let asked = instance.upstream().send(settings.protocol, request);
    let Ok(Ok((response, connection))) = tokio::time::timeout(ANSWER_LIMIT, asked).await else {
        return false;
    };
    // A probe needs no slot, so its connection must not be counted on by requests.
    drop(connection);
    response.status() < StatusCode::INTERNAL_SERVER_ERROR
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_instances_at_once_are_asked_less_often_each() {
        let ms = Duration::from_millis;
        for (since, asked, expected) in [
            (0, 1, 2),
            (0, 40, 2),
            (0, 1_000, 50),
            (1_000, 1, 5),
            (29_999, 100, 5),
            (29_999, 1_000, 50),
            (30_000, 1, 250),
            (30_000, 10_000, 500),
        ] {
            assert_eq!(pause(ms(since), asked), ms(expected), "{since} {asked}");
        }
    }
}
