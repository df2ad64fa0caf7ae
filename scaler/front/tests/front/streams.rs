//! Bodies in both directions as they come, upgrades, trailers.

use bytes::Bytes;
use http::{Request, StatusCode, Version};
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::Frame;
use hyper_util::rt::TokioIo;
use maniple_front::pool::{GroupSettings, Protocol};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{
    client::{get_request, send, send_http2},
    cluster::{Front, HOST, Hub, settings, until},
    instance::Instance,
};

async fn one(settings: GroupSettings) -> (Hub, Instance, Front) {
    let hub = Hub::start();
    let instance = Instance::start().await;
    hub.add(1, instance.address, 1);
    let front = Front::start(&hub, 1, settings).await;
    (hub, instance, front)
}

#[tokio::test]
async fn events_arrive_one_by_one_and_the_slot_is_kept_until_the_last() {
    let (_hub, instance, front) = one(settings()).await;
    let mut response = send(front.address, get_request("/events")).await.unwrap();
    let first = response
        .frame()
        .await
        .unwrap()
        .unwrap()
        .into_data()
        .unwrap();
    assert_eq!(first, "data: 1\n\n");
    assert_eq!(front.group().slots().1, 1, "busy while the stream goes on");
    instance.open.send_replace(true);
    let rest = response.collect().await.unwrap().to_bytes();
    assert_eq!(rest, "data: 2\n\n");
    until("the slot is free", async || front.group().slots().1 == 0).await;
}

#[tokio::test]
async fn both_directions_stream_at_once() {
    let (_hub, _instance, front) = one(settings()).await;
    let (to, from) = futures::channel::mpsc::unbounded::<Result<Frame<Bytes>, std::io::Error>>();
    let request = Request::post("/echo")
        .header("host", HOST)
        .body(StreamBody::new(from))
        .unwrap();
    let sending = tokio::spawn(send(front.address, request));
    to.unbounded_send(Ok(Frame::data(Bytes::from_static(b"one"))))
        .unwrap();
    let mut response = sending.await.unwrap().unwrap();
    assert_eq!(
        response
            .frame()
            .await
            .unwrap()
            .unwrap()
            .into_data()
            .unwrap(),
        "one"
    );
    // The request goes on after the response has begun.
    to.unbounded_send(Ok(Frame::data(Bytes::from_static(b"two"))))
        .unwrap();
    assert_eq!(
        response
            .frame()
            .await
            .unwrap()
            .unwrap()
            .into_data()
            .unwrap(),
        "two"
    );
    drop(to);
    assert!(response.frame().await.is_none());
}

#[tokio::test]
async fn large_bodies_pass_whole_in_both_directions() {
    let (_hub, _instance, front) = one(settings()).await;
    let mut body = send(front.address, get_request("/big"))
        .await
        .unwrap()
        .into_body();
    let mut total = 0;
    while let Some(frame) = body.frame().await {
        total += frame.unwrap().into_data().map_or(0, |data| data.len());
    }
    assert_eq!(total, 64 << 20);
    let upload = Bytes::from(vec![7; 8 << 20]);
    let request = Request::post("/echo")
        .header("host", HOST)
        .body(Full::new(upload.clone()))
        .unwrap();
    let echoed = send(front.address, request)
        .await
        .unwrap()
        .into_body()
        .collect()
        .await
        .unwrap()
        .to_bytes();
    assert_eq!(echoed, upload);
}

/// Memory of this process in KiB.
fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_client_that_does_not_read_costs_no_memory() {
    let (_hub, _instance, front) = one(settings()).await;
    let mut body = send(front.address, get_request("/big"))
        .await
        .unwrap()
        .into_body();
    body.frame().await.unwrap().unwrap();
    let before = resident_kib();
    // The instance offers 64 MiB; without back-pressure they would be here by now.
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    let grown = resident_kib().saturating_sub(before);
    assert!(grown < 32 * 1024, "{grown} KiB more");
    drop(body);
}

#[tokio::test]
async fn an_upgraded_connection_carries_bytes_and_holds_its_slot() {
    let (_hub, instance, front) = one(settings()).await;
    let request = Request::builder()
        .uri("/socket")
        .header("host", HOST)
        .header("connection", "Upgrade")
        .header("upgrade", "echo")
        .body(Empty::<Bytes>::new())
        .unwrap();
    let response = send(front.address, request).await.unwrap();
    assert_eq!(
        (response.status(), &response.headers()["upgrade"]),
        (StatusCode::SWITCHING_PROTOCOLS, &"echo".parse().unwrap())
    );
    let mut socket = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
    socket.write_all(b"ping").await.unwrap();
    let mut answer = [0; 4];
    socket.read_exact(&mut answer).await.unwrap();
    assert_eq!(
        (&answer, front.group().slots().1, instance.seen.running()),
        (b"ping", 1, 1)
    );
    socket.shutdown().await.unwrap();
    assert_eq!(socket.read(&mut answer).await.unwrap(), 0);
    until("the slot is free", async || {
        front.group().slots().1 == 0 && instance.seen.running() == 0
    })
    .await;
}

#[tokio::test]
async fn http2_passes_end_to_end_with_trailers() {
    let (_hub, _instance, front) = one(GroupSettings {
        protocol: Protocol::H2c,
        ..settings()
    })
    .await;
    let request = Request::post(format!("http://{HOST}/trailers"))
        .header("te", "trailers")
        .body(Full::new(Bytes::from_static(b"x")))
        .unwrap();
    let response = send_http2(front.address, request).await.unwrap();
    assert_eq!(response.version(), Version::HTTP_2);
    let collected = response.into_body().collect().await.unwrap();
    assert_eq!(collected.trailers().unwrap()["grpc-status"], "0");
    assert_eq!(collected.to_bytes(), "message");
    let request = Request::get(format!("http://{HOST}/headers"))
        .header("te", "trailers")
        .body(Empty::<Bytes>::new())
        .unwrap();
    let seen = send_http2(front.address, request)
        .await
        .unwrap()
        .into_body()
        .collect()
        .await
        .unwrap()
        .to_bytes();
    let seen = String::from_utf8_lossy(&seen).into_owned();
    assert!(
        seen.starts_with(&format!("GET http://{HOST}/headers HTTP/2.0\n"))
            && seen.contains("te: trailers"),
        "{seen}"
    );
}

#[tokio::test]
async fn http2_clients_reach_http1_instances_with_one_cookie_line() {
    let (_hub, _instance, front) = one(settings()).await;
    let request = Request::get(format!("http://{HOST}/headers"))
        .header("cookie", "a=1")
        .header("cookie", "b=2")
        .body(Empty::<Bytes>::new())
        .unwrap();
    let seen = send_http2(front.address, request)
        .await
        .unwrap()
        .into_body()
        .collect()
        .await
        .unwrap()
        .to_bytes();
    let seen = String::from_utf8_lossy(&seen).into_owned();
    assert!(
        seen.starts_with("GET /headers HTTP/1.1\n")
            && seen.contains("cookie: a=1; b=2\n")
            && seen.contains(&format!("host: {HOST}\n")),
        "{seen}"
    );
}
