//! Requests on the wire that two servers could read differently, limits, slow clients, the drain.

use std::time::Duration;

use maniple_front::{routes::AdminPaths, server::ServerSettings};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    client::{get, raw},
    cluster::{Front, Hub, settings, until},
    instance::Instance,
};

async fn one() -> (Hub, Instance, Front) {
    let hub = Hub::start();
    let instance = Instance::start().await;
    hub.add(1, instance.address, 4);
    let front = Front::start(&hub, 1, settings()).await;
    (hub, instance, front)
}

/// Each line with the status that it gets; none: the connection is closed without an answer.
const SMUGGLING: &[(&str, &str)] = &[
    (
        "POST /x HTTP/1.1\r\nHost: app.example\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nabcd",
        "400",
    ),
    (
        "POST /x HTTP/1.1\r\nHost: app.example\r\nContent-Length: +4\r\n\r\nabcd",
        "400",
    ),
    (
        "POST /x HTTP/1.1\r\nHost: app.example\r\nContent-Length: 4, 4\r\n\r\nabcd",
        "400",
    ),
    (
        "POST /x HTTP/1.1\r\nHost: app.example\r\nContent-Length: 0x4\r\n\r\nabcd",
        "400",
    ),
    (
        "POST /x HTTP/1.1\r\nHost: app.example\r\nContent-Length: -1\r\n\r\n",
        "400",
    ),
    (
        "POST /x HTTP/1.1\r\nHost: app.example\r\nContent-Length : 4\r\n\r\nabcd",
        "400",
    ),
    (
        "POST /x HTTP/1.1\r\nHost: app.example\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        "400",
    ),
    (
        "POST /x HTTP/1.1\r\nHost: app.example\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "501",
    ),
    (
        "POST /x HTTP/1.1\r\nHost: app.example\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        "400",
    ),
    (
        "POST /x HTTP/1.1\r\nHost: app.example\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "400",
    ),
    (
        "POST /x HTTP/1.1\r\nHost: app.example\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        "400",
    ),
    (
        "POST /x HTTP/1.1\r\nHost: app.example\r\nX: y\r\n Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "400",
    ),
    (
        "POST /x HTTP/1.0\r\nHost: app.example\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "400",
    ),
    (
        "GET /x HTTP/1.1\r\nHost: app.example\r\nHost: app.example\r\n\r\n",
        "400",
    ),
    ("GET /x HTTP/1.1\r\n\r\n", "400"),
    ("GET /x HTTP/1.1\r\nHost: app.example/x\r\n\r\n", "400"),
    (
        "GET /x HTTP/1.1\r\nHost: app.example\r\nX\0: y\r\n\r\n",
        "400",
    ),
    (
        "GET /x HTTP/1.1\r\nHost: app.example\r\nX: a\rb\r\n\r\n",
        "400",
    ),
    ("GET  /x HTTP/1.1\r\nHost: app.example\r\n\r\n", "400"),
    ("GET /x HTTP/1.1 \r\nHost: app.example\r\n\r\n", "400"),
    (
        "CONNECT app.example:80 HTTP/1.1\r\nHost: app.example\r\n\r\n",
        "405",
    ),
    ("TRACE /x HTTP/1.1\r\nHost: app.example\r\n\r\n", "405"),
];

#[tokio::test]
async fn requests_that_could_be_read_twice_are_refused_and_the_connection_carries_nothing_more() {
    let (_hub, instance, front) = one().await;
    for (bytes, status) in SMUGGLING {
        let smuggled = format!("{bytes}GET /smuggled HTTP/1.1\r\nHost: app.example\r\n\r\n");
        let answer = raw(front.address, smuggled.as_bytes()).await;
        let expected = format!("HTTP/1.1 {status} ");
        assert!(answer.starts_with(&expected), "{bytes:?} got {answer:?}");
    }
    // Where only one reading is left (the request was complete before ours began), the second request may run; it never did as part of the first.
    let refused = SMUGGLING.len() as u32;
    assert!(
        instance.seen.total() <= refused,
        "{}",
        instance.seen.total()
    );
}

#[tokio::test]
async fn of_two_lengths_one_reading_passes_and_the_connection_ends() {
    let (_hub, _instance, front) = one().await;
    for head in [
        "Content-Length: 6\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 6",
    ] {
        let smuggled = format!(
            "POST /echo HTTP/1.1\r\nHost: app.example\r\n{head}\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: app.example\r\n\r\n"
        );
        let answer = raw(front.address, smuggled.as_bytes()).await;
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer:?}");
        assert!(!answer.contains("smuggled"), "{answer:?}");
    }
}

#[tokio::test]
async fn the_administration_is_closed_however_it_is_spelt() {
    let (hub, instance, front) = one().await;
    for path in [
        "/admin/host/status",
        "/ADMIN",
        "//admin/host",
        "/%61dmin/vfs/x",
        "/x/%2e%2e/admin",
        "/x/../admin",
        "/%2561dmin",
    ] {
        let answer = raw(
            front.address,
            format!("GET {path} HTTP/1.1\r\nHost: app.example\r\n\r\n").as_bytes(),
        )
        .await;
        assert!(answer.starts_with("HTTP/1.1 404 "), "{path}: {answer}");
    }
    let absolute = raw(
        front.address,
        b"GET http://app.example/admin HTTP/1.1\r\nHost: app.example\r\n\r\n",
    )
    .await;
    assert!(absolute.starts_with("HTTP/1.1 404 "), "{absolute}");
    assert_eq!(instance.seen.total(), 0);
    let open = Front::with(
        &hub,
        2,
        settings(),
        AdminPaths::Open,
        ServerSettings::default(),
    )
    .await;
    assert_eq!(get(open.address, "/admin/x").await.1, "/admin/x");
}

#[tokio::test]
async fn trusted_headers_do_not_reach_the_instance() {
    let (_hub, _instance, front) = one().await;
    let answer = raw(
        front.address,
        b"GET /headers HTTP/1.1\r\nHost: app.example\r\nWAS-DEFAULT-HOSTNAME: evil\r\nx-ms-site-token: evil\r\nx-ms-client-principal: evil\r\nX-Forwarded-For: 6.6.6.6\r\nConnection: close, x-mine\r\nx-mine: evil\r\nx-kept: yes\r\n\r\n",
    )
    .await;
    assert!(
        !answer.contains("evil") && !answer.contains("6.6.6.6"),
        "{answer}"
    );
    for part in [
        "x-kept: yes",
        "x-forwarded-for: 127.0.0.1",
        "x-forwarded-proto: http",
        "traceparent: 00-",
        "x-request-id: ",
        "x-arr-log-id: ",
    ] {
        assert!(answer.contains(part), "{part} in {answer}");
    }
}

#[tokio::test]
async fn heads_are_limited_in_size_and_time() {
    let hub = Hub::start();
    let instance = Instance::start().await;
    hub.add(1, instance.address, 4);
    let server = ServerSettings {
        head_limit: Duration::from_millis(200),
        head_bytes: 16 * 1024,
        ..ServerSettings::default()
    };
    let front = Front::with(&hub, 1, settings(), AdminPaths::Closed, server).await;
    let long = format!(
        "GET /{} HTTP/1.1\r\nHost: app.example\r\n\r\n",
        "a".repeat(9000)
    );
    assert!(
        raw(front.address, long.as_bytes())
            .await
            .starts_with("HTTP/1.1 414 ")
    );
    let big = format!(
        "GET / HTTP/1.1\r\nHost: app.example\r\nX: {}\r\n\r\n",
        "a".repeat(20_000)
    );
    assert!(
        raw(front.address, big.as_bytes())
            .await
            .starts_with("HTTP/1.1 431 ")
    );
    let many = format!(
        "GET / HTTP/1.1\r\nHost: app.example\r\n{}\r\n",
        "X: y\r\n".repeat(200)
    );
    assert!(
        raw(front.address, many.as_bytes())
            .await
            .starts_with("HTTP/1.1 431 ")
    );
    // A client that sends its head a byte at a time is closed.
    let mut slow = TcpStream::connect(front.address).await.unwrap();
    slow.write_all(b"GET / HT").await.unwrap();
    let mut rest = Vec::new();
    tokio::time::timeout(Duration::from_secs(5), slow.read_to_end(&mut rest))
        .await
        .expect("closed by the server")
        .ok();
    assert_eq!(instance.seen.total(), 0);
}

#[tokio::test]
async fn an_expected_continue_is_answered_before_the_body_comes() {
    let (_hub, _instance, front) = one().await;
    let mut stream = TcpStream::connect(front.address).await.unwrap();
    stream
        .write_all(b"POST /echo HTTP/1.1\r\nHost: app.example\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")
        .await
        .unwrap();
    let mut answer = [0; 25];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"body").await.unwrap();
    let mut rest = vec![0; 4096];
    let mut text = String::new();
    while !text.contains("body") {
        let count = stream.read(&mut rest).await.unwrap();
        assert!(count > 0, "{text}");
        text.push_str(&String::from_utf8_lossy(&rest[..count]));
    }
    assert!(text.starts_with("HTTP/1.1 200 "), "{text}");
}

#[tokio::test]
async fn a_drain_lets_requests_end_and_closes_their_connections() {
    let (_hub, instance, front) = one().await;
    let to = front.address;
    let mut stream = TcpStream::connect(to).await.unwrap();
    stream
        .write_all(b"GET /hold HTTP/1.1\r\nHost: app.example\r\n\r\n")
        .await
        .unwrap();
    until("it runs", async || instance.seen.running() == 1).await;
    front.stop.cancel();
    until("new connections are refused", async || {
        TcpStream::connect(to).await.is_err()
    })
    .await;
    instance.open.send_replace(true);
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    assert!(
        text.starts_with("HTTP/1.1 200 ") && text.to_lowercase().contains("connection: close"),
        "{text}"
    );
    front.served.await.unwrap();
}

#[tokio::test]
async fn before_it_stops_kept_connections_end_with_an_answer() {
    let (_hub, _instance, front) = one().await;
    let mut kept = TcpStream::connect(front.address).await.unwrap();
    let request = b"GET /once HTTP/1.1\r\nHost: app.example\r\n\r\n";
    kept.write_all(request).await.unwrap();
    let mut first = [0; 4096];
    let count = kept.read(&mut first).await.unwrap();
    let first = String::from_utf8_lossy(&first[..count]).to_lowercase();
    assert!(
        first.starts_with("http/1.1 200 ") && !first.contains("connection: close"),
        "{first}"
    );
    front.proxy.leave();
    kept.write_all(request).await.unwrap();
    let mut rest = String::new();
    kept.read_to_string(&mut rest).await.unwrap();
    let rest = rest.to_lowercase();
    assert!(
        rest.contains("http/1.1 200 ") && rest.contains("connection: close"),
        "{rest}"
    );
    TcpStream::connect(front.address).await.unwrap();
}
