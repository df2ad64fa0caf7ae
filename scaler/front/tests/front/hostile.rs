//! Clients and instances that mean ill, or are very slow: everybody else is served, and nothing hangs.

use std::time::Duration;

use http::StatusCode;
use maniple_front::{routes::AdminPaths, server::ServerSettings};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::{
    client::{get, get_request, raw, send, send_http2},
    cluster::{Front, HOST, Hub, settings, until},
    instance::Instance,
};

async fn one(server: ServerSettings) -> (Hub, Instance, Front) {
    let hub = Hub::start();
    let instance = Instance::start().await;
    hub.add(1, instance.address, 4);
    let front = Front::with(&hub, 1, settings(), AdminPaths::Closed, server).await;
    (hub, instance, front)
}

/// What comes until the server closes; fails when it does not.
async fn rest(mut stream: TcpStream) -> String {
    let mut rest = Vec::new();
    tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut rest))
        .await
        .expect("closed by the server")
        .ok();
    String::from_utf8_lossy(&rest).into_owned()
}

async fn idle(front: &Front) {
    until("every slot is free", async || {
        let (_, busy, linger) = front.group().slots();
        busy + linger == 0
    })
    .await;
}

#[tokio::test]
async fn a_client_that_stops_in_its_body_is_told_and_frees_the_slot() {
    let (_hub, instance, front) = one(ServerSettings::default()).await;
    let mut stream = TcpStream::connect(front.address).await.unwrap();
    let head =
        format!("POST /echo-late HTTP/1.1\r\nhost: {HOST}\r\ncontent-length: 10\r\n\r\nfive ");
    stream.write_all(head.as_bytes()).await.unwrap();
    let answer = rest(stream).await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(answer.contains("request-body-silent"), "{answer}");
    assert_eq!(instance.seen.total(), 1);
    idle(&front).await;
}

#[tokio::test]
async fn idle_connections_make_room_for_new_ones() {
    let (_hub, _instance, front) = one(ServerSettings {
        connections: 8,
        ..ServerSettings::default()
    })
    .await;
    // Some never say a word, some stop in the head of a request.
    let mut silent = Vec::new();
    for i in 0..20 {
        let mut stream = TcpStream::connect(front.address).await.unwrap();
        if i % 2 == 0 {
            stream.write_all(b"GET / HT").await.unwrap();
        }
        silent.push(stream);
    }
    for _ in 0..20 {
        assert_eq!(get(front.address, "/work").await.0, StatusCode::OK);
    }
}

#[tokio::test]
async fn connections_at_work_do_not_make_room() {
    let (_hub, instance, front) = one(ServerSettings {
        connections: 2,
        ..ServerSettings::default()
    })
    .await;
    let streaming = send(front.address, get_request("/events")).await.unwrap();
    let held = tokio::spawn(send(front.address, get_request("/hold")));
    until("both run", async || instance.seen.running() == 2).await;
    let late = tokio::spawn(send(front.address, get_request("/work")));
    // It is looked for idle ones several times meanwhile.
    assert!(
        tokio::time::timeout(Duration::from_millis(500), async {
            while !late.is_finished() {
                tokio::task::yield_now().await;
            }
        })
        .await
        .is_err(),
        "there is no room"
    );
    instance.open.send_replace(true);
    assert_eq!(held.await.unwrap().unwrap().status(), StatusCode::OK);
    assert_eq!(late.await.unwrap().unwrap().status(), StatusCode::OK);
    let body = http_body_util::BodyExt::collect(streaming.into_body()).await;
    assert_eq!(body.unwrap().to_bytes(), "data: 1\n\ndata: 2\n\n");
}

/// Answers every request but the probe with `answer`, and keeps the connection.
async fn kept(answer: &'static [u8]) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut buffer = vec![0; 64 * 1024];
                while let Ok(count @ 1..) = stream.read(&mut buffer).await {
                    let probe = buffer[..count].starts_with(b"GET /probe");
                    let answer = if probe {
                        b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
                    } else {
                        answer
                    };
                    if stream.write_all(answer).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

#[tokio::test]
async fn a_second_response_that_nobody_asked_for_reaches_nobody() {
    let hub = Hub::start();
    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ngoodHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil";
    hub.add(1, kept(answer).await, 1);
    let front = Front::start(&hub, 1, settings()).await;
    for _ in 0..20 {
        let (status, body) = get(front.address, "/x").await;
        assert!(body != "evil", "{status}");
    }
    idle(&front).await;
}

#[tokio::test]
async fn trailers_that_belong_to_a_connection_do_not_stop_http2() {
    let hub = Hub::start();
    let answer = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nwhole\r\n0\r\nconnection: close\r\ntransfer-encoding: chunked\r\nx-end: yes\r\n\r\n";
    hub.add(1, kept(answer).await, 1);
    let front = Front::start(&hub, 1, settings()).await;
    let mut request = get_request("/x");
    *request.uri_mut() = format!("http://{HOST}/x").parse().unwrap();
    let response = send_http2(front.address, request).await.unwrap();
    let body = http_body_util::BodyExt::collect(response.into_body());
    let body = tokio::time::timeout(Duration::from_secs(10), body)
        .await
        .expect("the body ends")
        .unwrap();
    let trailers = body.trailers().unwrap();
    assert_eq!(
        (trailers.len(), &trailers["x-end"]),
        (1, &"yes".parse().unwrap())
    );
    idle(&front).await;
}

#[tokio::test]
async fn heads_of_instances_are_limited() {
    // Endless header, too many lines, two lengths, a length beside chunked: never taken for a good answer.
    let long: &'static [u8] = format!("HTTP/1.1 200 OK\r\nx: {}", "a".repeat(2 << 20))
        .into_bytes()
        .leak();
    let many: &'static [u8] = format!("HTTP/1.1 200 OK\r\n{}\r\n", "x: y\r\n".repeat(5_000))
        .into_bytes()
        .leak();
    let two: &'static [u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab";
    for answer in [long, many, two] {
        let hub = Hub::start();
        hub.add(1, kept(answer).await, 1);
        let front = Front::start(&hub, 1, settings()).await;
        let (status, body) = get(front.address, "/x").await;
        assert_eq!(status, StatusCode::BAD_GATEWAY, "{body}");
        assert!(body.contains("instance-lost"), "{body}");
        idle(&front).await;
    }
}

#[tokio::test]
async fn a_response_that_ends_in_a_chunk_is_no_whole_one() {
    for answer in [
        &b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nwhole\r\nzz\r\n"[..],
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nwhole\r\nfffffffffffffffffff\r\n",
    ] {
        let hub = Hub::start();
        hub.add(1, kept(answer).await, 1);
        let front = Front::start(&hub, 1, settings()).await;
        let request = format!("GET /x HTTP/1.1\r\nhost: {HOST}\r\nconnection: close\r\n\r\n");
        let answer = raw(front.address, request.as_bytes()).await;
        assert!(
            !answer.ends_with("0\r\n\r\n"),
            "it looks whole: {answer}"
        );
        idle(&front).await;
    }
}
