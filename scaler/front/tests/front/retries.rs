//! Requests that an instance did not take go elsewhere; all others do not.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use maniple_core::slots::message::InstanceUid;
use maniple_front::pool::{GroupSettings, Protocol};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};

use crate::{
    client::{get, get_request, send},
    cluster::{Front, HOST, Hub, settings, until},
    instance::Instance,
};

fn post(path: &str, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    Request::post(path)
        .header("host", HOST)
        .body(Full::new(body.into()))
        .unwrap()
}

fn h2c() -> GroupSettings {
    GroupSettings {
        protocol: Protocol::H2c,
        probe_path: None,
        ..settings()
    }
}

async fn text(response: Response<hyper::body::Incoming>) -> String {
    let body = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8_lossy(&body).into_owned()
}

/// An instance that refuses everything with the scale-out signal, once it has read it.
async fn full() -> Instance {
    let instance = Instance::start().await;
    instance
        .shed
        .store(true, std::sync::atomic::Ordering::SeqCst);
    instance
}

#[tokio::test]
async fn a_body_goes_elsewhere_with_its_request() {
    let hub = Hub::start();
    let (full, other) = (full().await, Instance::start().await);
    hub.add(1, full.address, 4);
    hub.add(2, other.address, 4);
    let front = Front::start(&hub, 1, settings()).await;
    let response = send(front.address, post("/echo", "whole")).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(text(response).await, "whole");
    assert_eq!((full.seen.total(), other.seen.total()), (1, 1));
}

#[tokio::test]
async fn a_body_that_is_too_long_to_be_kept_is_not_sent_twice() {
    let hub = Hub::start();
    let (full, other) = (full().await, Instance::start().await);
    hub.add(1, full.address, 4);
    hub.add(2, other.address, 4);
    let front = Front::start(&hub, 1, settings()).await;
    let response = send(front.address, post("/echo", vec![b'x'; 256 * 1024]))
        .await
        .unwrap();
    assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
    assert!(!response.headers().contains_key("x-function-scaleout"));
    assert_eq!((full.seen.total(), other.seen.total()), (1, 0));
}

#[tokio::test]
async fn after_two_others_the_request_waits_for_an_instance_that_takes_it() {
    let hub = Hub::start();
    let mut all = Vec::new();
    for uid in 1..=4 {
        let instance = full().await;
        hub.add(uid, instance.address, 4);
        all.push(instance);
    }
    let front = Front::start(&hub, 1, settings()).await;
    until("every instance serves", async || {
        front.group().instances().iter().all(|i| i.word().open())
    })
    .await;
    let waiting = tokio::spawn(send(front.address, get_request("/work")));
    until("three were asked", async || {
        all.iter().map(|i| i.seen.total()).sum::<u32>() == 3
    })
    .await;
    for instance in &all {
        instance
            .shed
            .store(false, std::sync::atomic::Ordering::SeqCst);
    }
    let response = waiting.await.unwrap().unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(all.iter().map(|i| i.seen.total()).sum::<u32>(), 4);
    until("the data role is told", async || {
        hub.look(|role| {
            (1..=4)
                .filter(|uid| role.available(InstanceUid(*uid), 0) == 0)
                .count()
                >= 3
        })
        .await
    })
    .await;
}

#[tokio::test]
async fn instances_that_take_nothing_are_not_asked_for_ever() {
    let hub = Hub::start();
    let full = full().await;
    hub.add(1, full.address, 4);
    let patience = Duration::from_millis(300);
    let front = Front::start(
        &hub,
        1,
        GroupSettings {
            patience,
            ..settings()
        },
    )
    .await;
    let (status, body) = get(front.address, "/work").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{body}");
    assert!(body.contains("waiting-room-timeout"), "{body}");
    assert_eq!(full.seen.total(), 1, "it was left alone");
}

#[tokio::test]
async fn an_answer_before_the_end_of_the_request_frees_slot_and_connection() {
    let hub = Hub::start();
    let instance = Instance::start().await;
    hub.add(1, instance.address, 1);
    let front = Front::start(&hub, 1, settings()).await;
    let (to, from) = futures::channel::mpsc::unbounded::<Result<Frame<Bytes>, std::io::Error>>();
    to.unbounded_send(Ok(Frame::data(Bytes::from_static(b"begin"))))
        .unwrap();
    let request = Request::post("/early")
        .header("host", HOST)
        .body(StreamBody::new(from))
        .unwrap();
    let response = send(front.address, request).await.unwrap();
    assert_eq!(text(response).await, "/early");
    // The upload has not ended, and nobody waits for it.
    let (status, _) = get(front.address, "/work").await;
    assert_eq!(status, StatusCode::OK);
    drop(to);
}

#[tokio::test]
async fn a_response_that_falls_silent_is_broken_off() {
    let hub = Hub::start();
    let instance = Instance::start().await;
    hub.add(1, instance.address, 1);
    let front = Front::start(
        &hub,
        1,
        GroupSettings {
            response_limit: Some(Duration::from_millis(200)),
            ..settings()
        },
    )
    .await;
    let mut response = send(front.address, get_request("/events")).await.unwrap();
    let first = response.frame().await.unwrap().unwrap();
    assert_eq!(first.data_ref().unwrap(), "data: 1\n\n");
    assert!(
        response.frame().await.unwrap().is_err(),
        "silent, not ended"
    );
    until("the slot is free", async || {
        let (_, busy, linger) = front.group().slots();
        busy + linger == 0
    })
    .await;
}

/// Speaks just enough HTTP/2 to refuse everything: `answer` is sent for every request.
async fn refusing(answer: fn(u32) -> Vec<u8>) -> (SocketAddr, Arc<Semaphore>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let asked = Arc::new(Semaphore::new(0));
    let count = asked.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(refuse(stream, answer, count.clone()));
        }
    });
    (address, asked)
}

async fn refuse(
    mut stream: TcpStream,
    answer: fn(u32) -> Vec<u8>,
    asked: Arc<Semaphore>,
) -> std::io::Result<()> {
    const SETTINGS: u8 = 4;
    const HEADERS: u8 = 1;
    const ACK: u8 = 1;
    stream.read_exact(&mut [0; 24]).await?;
    stream.write_all(&frame(SETTINGS, 0, 0, &[])).await?;
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let id = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        stream
            .read_exact(&mut vec![0; usize::try_from(length).unwrap()])
            .await?;
        match (head[3], head[4]) {
            (SETTINGS, 0) => stream.write_all(&frame(SETTINGS, ACK, 0, &[])).await?,
            (HEADERS, _) => {
                asked.add_permits(1);
                stream.write_all(&answer(id)).await?;
            }
            _ => {}
        }
    }
}

fn frame(kind: u8, flags: u8, id: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend_from_slice(&id.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

fn refused_stream(id: u32) -> Vec<u8> {
    frame(3, 0, id, &7_u32.to_be_bytes())
}

fn cancelled_stream(id: u32) -> Vec<u8> {
    frame(3, 0, id, &8_u32.to_be_bytes())
}

/// The last stream that was looked at is 0.
fn going_away(_: u32) -> Vec<u8> {
    frame(7, 0, 0, &[0; 8])
}

#[tokio::test]
async fn streams_that_were_not_looked_at_go_elsewhere() {
    for answer in [refused_stream, going_away] {
        let hub = Hub::start();
        let (address, asked) = refusing(answer).await;
        let other = Instance::start().await;
        hub.add(1, address, 1);
        hub.add(2, other.address, 1);
        let front = Front::start(&hub, 1, h2c()).await;
        let response = send(front.address, post("/echo", "whole")).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(text(response).await, "whole");
        assert!(asked.available_permits() >= 1, "it was asked first");
        assert_eq!(other.seen.total(), 1);
        until("every slot is free", async || {
            let (_, busy, linger) = front.group().slots();
            busy + linger == 0
        })
        .await;
    }
}

#[tokio::test]
async fn a_stream_that_may_have_run_is_not_sent_again() {
    let hub = Hub::start();
    let (address, asked) = refusing(cancelled_stream).await;
    let other = Instance::start().await;
    hub.add(1, address, 1);
    hub.add(2, other.address, 1);
    let front = Front::start(&hub, 1, h2c()).await;
    let (status, body) = get(front.address, "/work").await;
    assert_eq!(status, StatusCode::BAD_GATEWAY, "{body}");
    assert_eq!((asked.available_permits(), other.seen.total()), (1, 0));
}

#[tokio::test]
async fn connections_are_added_when_an_instance_allows_few_streams() {
    let hub = Hub::start();
    let instance = Instance::with_streams(1).await;
    hub.add(1, instance.address, 3);
    let front = Front::start(&hub, 1, h2c()).await;
    assert_eq!(get(front.address, "/work").await.0, StatusCode::OK);
    let requests: Vec<_> = (0..3)
        .map(|_| tokio::spawn(send(front.address, get_request("/hold"))))
        .collect();
    until("all run at a time", async || instance.seen.running() == 3).await;
    instance.open.send_replace(true);
    for request in requests {
        assert_eq!(request.await.unwrap().unwrap().status(), StatusCode::OK);
    }
}
