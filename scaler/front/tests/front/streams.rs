//! Bodies in both directions as they come, upgrades, trailers.

use bytes::Bytes;
use http::{Request, StatusCode, Version};
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::Frame;
use hyper_util::rt::{TokioExecutor, TokioIo};
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

/// An extended CONNECT on a connection that has heard that the server allows it.
async fn connect(
    to: std::net::SocketAddr,
    path: &str,
) -> hyper::Result<http::Response<hyper::body::Incoming>> {
    let stream = tokio::net::TcpStream::connect(to).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let settled = Request::get(format!("http://{HOST}/first"))
        .body(Empty::<Bytes>::new())
        .unwrap();
    sender.send_request(settled).await?;
    let request = Request::connect(format!("http://{HOST}{path}"))
        .extension(hyper::ext::Protocol::from_static("websocket"))
        .header("sec-websocket-version", "13")
        .body(Empty::<Bytes>::new())
        .unwrap();
    sender.send_request(request).await
}

#[tokio::test]
async fn a_websocket_over_http2_reaches_an_instance_as_an_upgrade() {
    let (_hub, instance, front) = one(settings()).await;
    let response = connect(front.address, "/socket").await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    for name in ["upgrade", "connection", "sec-websocket-accept"] {
        assert!(!response.headers().contains_key(name), "{name}");
    }
    let mut socket = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
    socket.write_all(b"there and back").await.unwrap();
    let mut back = [0; 14];
    socket.read_exact(&mut back).await.unwrap();
    assert_eq!(&back, b"there and back");
    assert_eq!((instance.seen.running(), front.group().slots().1), (1, 1));
    socket.shutdown().await.unwrap();
    assert_eq!(socket.read(&mut back).await.unwrap(), 0);
    until("the slot is free", async || front.group().slots().1 == 0).await;
}

#[tokio::test]
async fn a_websocket_that_the_instance_does_not_open_is_refused_by_http2_too() {
    let (_hub, _instance, front) = one(settings()).await;
    // A success would mean to the client that it is open.
    let response = connect(front.address, "/plain").await.unwrap();
    assert_eq!(response.status(), StatusCode::BAD_GATEWAY);
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert!(String::from_utf8_lossy(&body).contains("no-upgrade"));
    until("the slot is free", async || {
        let (_, busy, linger) = front.group().slots();
        busy + linger == 0
    })
    .await;
}

#[tokio::test]
async fn what_asks_for_a_websocket_over_http2_is_a_whole_handshake() {
    let (_hub, _instance, front) = one(settings()).await;
    let response = connect(front.address, "/handshake").await.unwrap();
    assert_eq!(response.status(), StatusCode::UPGRADE_REQUIRED);
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let seen = String::from_utf8_lossy(&body).into_owned();
    assert!(seen.starts_with("GET /handshake HTTP/1.1\n"), "{seen}");
    for line in [
        "upgrade: websocket\n",
        "connection: upgrade\n",
        "sec-websocket-version: 13\n",
    ] {
        assert!(seen.contains(line), "{seen}");
    }
    let key = seen.split("sec-websocket-key: ").nth(1).unwrap();
    assert_eq!(key.lines().next().unwrap().len(), 24);
}

#[tokio::test]
async fn a_stream_without_an_end_is_stopped_when_its_client_has_gone() {
    let (_hub, instance, front) = one(GroupSettings {
        linger: std::time::Duration::from_secs(60),
        ..settings()
    })
    .await;
    let mut response = send(front.address, get_request("/ticks")).await.unwrap();
    response.frame().await.unwrap().unwrap();
    drop(response);
    until("the instance is told", async || {
        instance.seen.running() == 0
    })
    .await;
    until("the slot rests", async || front.group().slots().2 == 1).await;
    assert_eq!(front.group().slots().1, 0, "it may still run");
}
