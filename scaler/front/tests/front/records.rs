//! What is told of single requests, however they end.

use std::{io::Write, sync::Arc};

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use maniple_front::observe::{End, Observer, Record, Spans};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{
    client::{get, get_request, send},
    cluster::{Front, HOST, Hub, group, until},
    instance::Instance,
};

/// Path, status, reason, bytes, end.
type Told = (String, Option<u16>, Option<&'static str>, u64, End);

#[derive(Debug, Default)]
struct Collected(Mutex<Vec<Told>>);

impl Spans for Collected {
    fn take(&self, record: &Record) {
        self.0.lock().push((
            record.path.clone(),
            record.status.map(|status| status.as_u16()),
            record.category,
            record.bytes,
            record.end,
        ));
    }
}

impl Collected {
    async fn next(&self) -> Told {
        until("a record", async || !self.0.lock().is_empty()).await;
        self.0.lock().remove(0)
    }
}

#[tokio::test]
async fn every_end_of_a_request_is_told() {
    let (hub, spans) = (Hub::start(), Arc::new(Collected::default()));
    let observer = Observer {
        trace_share: 1000,
        spans: Some(spans.clone()),
        ..Observer::default()
    };
    let front = Front::observed(&hub, 1, observer).await;
    let instance = Instance::start().await;
    hub.add(1, instance.address, 4);
    let told =
        |path: &str, status, reason, bytes, end| (path.to_owned(), status, reason, bytes, end);

    // Whole, with the trace carried on to the instance.
    let (_, listing) = get(front.address, "/headers?code=secret").await;
    let parent = listing
        .lines()
        .find_map(|l| l.strip_prefix("traceparent: 00-"));
    assert!(parent.unwrap().ends_with("-01"), "{listing}");
    let bytes = listing.len() as u64;
    let expected = told("/headers", Some(200), None, bytes, End::Complete);
    assert_eq!(spans.next().await, expected);

    // Answered here.
    let (status, body) = get(front.address, "/admin/host/status").await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    let (path, status, reason, bytes, end) = spans.next().await;
    assert_eq!(
        (path.as_str(), status, end),
        ("/admin/host/status", Some(404), End::Complete)
    );
    assert!(body.contains(reason.unwrap()), "{body}");
    assert_eq!(bytes, body.len() as u64);

    // Left by the client, before and within the response.
    let left = tokio::spawn(send(front.address, get_request("/hold")));
    until("it runs", async || instance.seen.running() > 0).await;
    left.abort();
    let expected = told("/hold", None, None, 0, End::ByClient);
    assert_eq!(spans.next().await, expected);
    instance.open.send_replace(true);
    until("it ended", async || instance.seen.running() == 0).await;
    instance.open.send_replace(false);
    let mut events = send(front.address, get_request("/events")).await.unwrap();
    events.frame().await.unwrap().unwrap();
    drop(events);
    let expected = told("/events", Some(200), None, 9, End::ByClient);
    assert_eq!(spans.next().await, expected);

    // Broken off by the instance.
    let broken = send(front.address, get_request("/die")).await.unwrap();
    assert!(broken.collect().await.is_err());
    let expected = told("/die", Some(200), None, 4, End::ByInstance);
    assert_eq!(spans.next().await, expected);

    // An upgraded connection ends when it is closed.
    let request = Request::get("/socket")
        .header("host", HOST)
        .header("connection", "upgrade")
        .header("upgrade", "echo")
        .body(Empty::<Bytes>::new())
        .unwrap();
    let response = send(front.address, request).await.unwrap();
    let mut socket = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
    socket.write_all(b"ping").await.unwrap();
    let mut answer = [0; 4];
    socket.read_exact(&mut answer).await.unwrap();
    assert!(spans.0.lock().is_empty(), "it goes on");
    socket.shutdown().await.unwrap();
    let expected = told("/socket", Some(101), None, 4, End::Complete);
    assert_eq!(spans.next().await, expected);
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn the_access_log_names_what_is_safe_to_name() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .json()
        .with_writer(move || writer.clone())
        .finish();
    // The runtime of this test has one thread.
    let _guard = tracing::subscriber::set_default(subscriber);
    let hub = Hub::start();
    let observer = Observer {
        log_share: 1000,
        ..Observer::default()
    };
    let front = Front::observed(&hub, 1, observer).await;
    let instance = Instance::start().await;
    hub.add(1, instance.address, 4);
    let request = Request::get("/work?code=secret")
        .header("host", HOST)
        .header("x-request-id", "mine-1")
        .header("authorization", "Bearer secret")
        .body(Empty::<Bytes>::new())
        .unwrap();
    send(front.address, request)
        .await
        .unwrap()
        .collect()
        .await
        .unwrap();
    let text = || String::from_utf8(log.0.lock().clone()).unwrap();
    until("a line", async || text().contains("\"target\":\"access\"")).await;
    let text = text();
    let line = text
        .lines()
        .find(|line| line.contains("\"target\":\"access\""))
        .unwrap();
    for part in [
        "\"method\":\"GET\"".to_owned(),
        "\"path\":\"/work\"".to_owned(),
        "\"status\":200".to_owned(),
        "\"end\":\"complete\"".to_owned(),
        "\"bytes\":4".to_owned(),
        "\"request_id\":\"mine-1\"".to_owned(),
        format!("\"group\":\"{}\"", group().as_str()),
        format!("\"host\":\"{HOST}\""),
    ] {
        assert!(line.contains(&part), "{part} is missing: {line}");
    }
    assert!(!text.contains("secret"), "{text}");
}
