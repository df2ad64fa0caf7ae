//! Instances that refuse, answer nonsense, die or never answer.

use std::{net::SocketAddr, time::Duration};

use http::StatusCode;
use http_body_util::BodyExt;
use maniple_core::slots::message::InstanceUid;
use maniple_front::pool::GroupSettings;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use crate::{
    client::{get, get_request, send},
    cluster::{Front, Hub, settings, until},
    instance::Instance,
};

/// Answers the probe properly and everything else with `answer`, then closes.
async fn scripted(answer: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut head = Vec::new();
                let mut buffer = [0; 1024];
                while !head.windows(4).any(|w| w == b"\r\n\r\n") {
                    match stream.read(&mut buffer).await {
                        Ok(count) if count > 0 => head.extend_from_slice(&buffer[..count]),
                        _ => return,
                    }
                }
                let probe = head.starts_with(b"GET /probe");
                let answer = if probe {
                    b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
                } else {
                    answer
                };
                stream.write_all(answer).await.ok();
            });
        }
    });
    address
}

async fn one(address: SocketAddr, settings: GroupSettings) -> (Hub, Front) {
    let hub = Hub::start();
    hub.add(1, address, 1);
    let front = Front::start(&hub, 1, settings).await;
    (hub, front)
}

#[tokio::test]
async fn garbage_and_silence_are_bad_gateways_and_the_slot_comes_back() {
    for answer in [
        &b"nonsense\r\n\r\n"[..],
        b"",
        b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n",
        b"HTTP/1.1 2",
    ] {
        let (_hub, front) = one(scripted(answer).await, settings()).await;
        let (status, text) = get(front.address, "/").await;
        assert_eq!(status, StatusCode::BAD_GATEWAY, "{answer:?}");
        assert!(text.contains("\"error\":\"instance-lost\""), "{text}");
        until("the slot is free", async || {
            front.group().slots().1 + front.group().slots().2 == 0
        })
        .await;
        assert!(front.metrics().contains(
            "front_upstream_errors_total{group=\"ns/app/http\",category=\"instance-lost\"} 1"
        ));
    }
}

#[tokio::test]
async fn a_body_that_breaks_off_breaks_off_for_the_client_too() {
    let (_hub, front) = one(
        scripted(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf").await,
        settings(),
    )
    .await;
    let response = send(front.address, get_request("/")).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert!(
        response.into_body().collect().await.is_err(),
        "never a short body that looks whole"
    );
    until("the slot is free", async || {
        front.group().slots().1 + front.group().slots().2 == 0
    })
    .await;
}

#[tokio::test]
async fn a_dying_instance_is_not_asked_again() {
    let hub = Hub::start();
    let instance = Instance::start().await;
    hub.add(1, instance.address, 2);
    let front = Front::start(&hub, 1, settings()).await;
    let response = send(front.address, get_request("/die")).await.unwrap();
    assert!(response.into_body().collect().await.is_err());
    assert_eq!(
        instance.seen.total(),
        1,
        "it may have run and is not sent twice"
    );
}

#[tokio::test]
async fn a_response_that_does_not_start_in_time_is_a_timeout_and_keeps_the_slot() {
    let hub = Hub::start();
    let instance = Instance::start().await;
    hub.add(1, instance.address, 1);
    let limits = GroupSettings {
        response_limit: Some(Duration::from_millis(100)),
        linger: Duration::from_millis(1),
        ..settings()
    };
    let front = Front::start(&hub, 1, limits).await;
    let (status, text) = get(front.address, "/hold").await;
    assert_eq!(status, StatusCode::GATEWAY_TIMEOUT);
    assert!(text.contains("\"error\":\"response-timeout\""), "{text}");
    assert_eq!(
        (front.group().slots().1, instance.seen.running()),
        (1, 1),
        "the instance still works on it"
    );
    instance.open.send_replace(true);
    until("the slot is free", async || front.group().slots().1 == 0).await;
}

#[tokio::test]
async fn a_refused_connection_goes_elsewhere() {
    let hub = Hub::start();
    let (first, second) = (Instance::start().await, Instance::start().await);
    hub.add(1, first.address, 1);
    hub.add(2, second.address, 1);
    let front = Front::start(&hub, 1, settings()).await;
    assert_eq!(get(front.address, "/work").await.1, "done");
    assert_eq!(first.seen.total(), 1);
    // Its port is closed now, and the idle connection with it.
    drop(first);
    for _ in 0..3 {
        assert_eq!(
            get(front.address, "/work").await,
            (StatusCode::OK, "done".to_owned())
        );
    }
    assert_eq!(second.seen.total(), 3);
}

#[tokio::test]
async fn a_scale_out_signal_goes_elsewhere_and_is_reported() {
    let hub = Hub::start();
    let full = scripted(
        b"HTTP/1.1 429 Too Many Requests\r\nx-function-scaleout: 1\r\ncontent-length: 0\r\n\r\n",
    )
    .await;
    let other = Instance::start().await;
    hub.add(1, full, 4);
    hub.add(2, other.address, 4);
    let front = Front::start(&hub, 1, settings()).await;
    let response = send(front.address, get_request("/work")).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(other.seen.total(), 1);
    until("the data role lends it less", async || {
        hub.look(|role| role.available(InstanceUid(1), 0)).await == 0
    })
    .await;
}

#[tokio::test]
async fn the_signal_alone_means_nothing_and_never_reaches_a_client() {
    let hub = Hub::start();
    let instance = Instance::start().await;
    hub.add(1, instance.address, 4);
    let front = Front::start(&hub, 1, settings()).await;
    let response = send(front.address, get_request("/scaleout-200"))
        .await
        .unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert!(!response.headers().contains_key("x-function-scaleout"));
}

#[tokio::test]
async fn unknown_hosts_are_not_found() {
    let hub = Hub::start();
    let front = Front::start(&hub, 1, settings()).await;
    let request = http::Request::builder()
        .uri("/")
        .header("host", "other.example")
        .body(http_body_util::Empty::<bytes::Bytes>::new())
        .unwrap();
    let response = send(front.address, request).await.unwrap();
    assert_eq!(response.status(), StatusCode::NOT_FOUND);
    let text = response.into_body().collect().await.unwrap().to_bytes();
    assert!(String::from_utf8_lossy(&text).contains("\"error\":\"unknown-host\""));
}

#[tokio::test]
async fn a_head_that_never_ends_is_a_timeout_too() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut drip = &b"HTTP/1.1 200 OK\r\nx: "[..];
                // Until the front end closes.
                while stream.write_all(drip).await.is_ok() {
                    drip = b"x";
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            });
        }
    });
    let limited = GroupSettings {
        response_limit: Some(Duration::from_millis(200)),
        run_limit: Some(Duration::from_millis(400)),
        probe_path: None,
        ..settings()
    };
    let (_hub, front) = one(address, limited).await;
    let (status, body) = get(front.address, "/x").await;
    assert_eq!(status, StatusCode::GATEWAY_TIMEOUT, "{body}");
    assert!(body.contains("response-timeout"), "{body}");
    until("the slot is free", async || {
        let (_, busy, linger) = front.group().slots();
        busy + linger == 0
    })
    .await;
}

#[tokio::test]
async fn a_body_that_is_broken_from_its_first_byte_takes_no_slot_away() {
    let hub = Hub::start();
    let instance = Instance::start().await;
    hub.add(1, instance.address, 1);
    let front = Front::start(&hub, 1, settings()).await;
    // Once on a new connection to the instance, and once on one that was used before.
    for warm in [false, true] {
        if warm {
            assert_eq!(get(front.address, "/").await.0, StatusCode::OK);
        }
        let seen = instance.seen.total();
        let mut client = tokio::net::TcpStream::connect(front.address).await.unwrap();
        client
            .write_all(
                b"POST / HTTP/1.1\r\nhost: app.example\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
            )
            .await
            .unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
        assert!(answer.contains("\"error\":\"request-body\""), "{answer}");
        assert_eq!(instance.seen.total(), seen, "nothing was sent");
        assert_eq!(front.group().slots().1 + front.group().slots().2, 0);
    }
}
