//! The scaler away, coming and going.

use http_body_util::BodyExt;
use maniple_core::slots::message::FrontEndSays;
use maniple_front::cold::StartAges;
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket};

use crate::{
    connect, get,
    process::Front,
    request,
    scaler::{GROUP, Instance, Known, Scaler},
    soon, until,
};

#[tokio::test]
async fn a_front_end_without_a_scaler_says_so_and_begins_when_there_is_one() {
    // A port at which nobody listens.
    let port = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = port.local_addr().unwrap();
    drop(port);
    let front = Front::start(address, &[]).await;
    let line = front.line("no stream to the scaler").await;
    assert!(
        line.contains(&address.to_string()) && line.contains("\"category\":\"connect\""),
        "{line}"
    );
    let (status, text) = front.readiness().await;
    assert_eq!(status, 503);
    assert!(text.contains("routes from the scaler"), "{text}");
    let early = get(front.address, "/x").await;
    assert_eq!(early.status(), 503);
    assert!(early.headers().contains_key("retry-after"));

    let instance = Instance::start().await;
    let _scaler = Scaler::start(address, Some(instance.address));
    front.until_ready(true).await;
    assert_eq!(get(front.address, "/x").await.status(), 200);
    // The scaler that was away was complained of once.
    assert_eq!(front.count("no stream to the scaler\""), 1);
}

#[tokio::test]
async fn held_slots_serve_while_the_stream_comes_and_goes() {
    let instance = Instance::start().await;
    let mut scaler = Scaler::start(([127, 0, 0, 1], 0).into(), Some(instance.address));
    let address = scaler.address;
    let front = Front::start(address, &[]).await;
    front.until_ready(true).await;
    assert_eq!(get(front.address, "/x").await.status(), 200);
    let mut client = connect(front.address).await;
    for _ in 0..4 {
        drop(scaler);
        until("the stream is down", async || {
            front.metric("maniple_front_streams").await == 0
        })
        .await;
        let response = soon("a response", client.send_request(request("/x")))
            .await
            .unwrap();
        assert_eq!(response.status(), 200);
        response.collect().await.unwrap();
        let (status, _) = front.readiness().await;
        assert_eq!(status, 200, "it goes on without a scaler");
        scaler = Scaler::start(address, Some(instance.address));
        until("a Hello", async || {
            matches!(scaler.said.lock().first(), Some(FrontEndSays::Hello(_)))
        })
        .await;
        let response = soon("a response", client.send_request(request("/x")))
            .await
            .unwrap();
        assert_eq!(response.status(), 200);
        response.collect().await.unwrap();
    }
}

#[tokio::test]
async fn a_cold_start_is_explained_in_the_response_the_log_and_the_metrics() {
    let scaler = Scaler::start(([127, 0, 0, 1], 0).into(), None);
    let front = Front::start(scaler.address, &["--cold-start-header=true"]).await;
    front.until_ready(true).await;
    let to = front.address;
    let waiting = tokio::spawn(async move { get(to, "/x").await });
    let told = |said: &FrontEndSays| match said {
        FrontEndSays::Sync(sync) => sync.demand.iter().any(|group| group.waiting == 1),
        _ => false,
    };
    until("the demand is told", async || {
        scaler.said.lock().iter().any(told)
    })
    .await;
    // The scaler took its time; these ages lie within the wait of the request.
    tokio::time::sleep(Duration::from_millis(100)).await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let ms = Duration::from_millis;
    scaler.known.send_replace(Known {
        address: Some(socket.local_addr().unwrap()),
        ages: Some(StartAges {
            decided: Some(ms(90)),
            seen: ms(70),
            addressed: ms(0),
        }),
        unrouted: false,
    });
    let busy = format!("maniple_front_slots{{group=\"{GROUP}\",state=\"free\"}}");
    until("the instance is known", async || {
        front.metric(&busy).await > 0
    })
    .await;
    let _instance = Instance::on(socket.listen(16).unwrap());
    let response = soon("the response", waiting).await.unwrap();
    let header = response.headers()["server-timing"]
        .to_str()
        .unwrap()
        .to_owned();
    let time = |phase: &str| -> f64 {
        let (_, rest) = header.split_once(&format!("{phase};dur=")).unwrap();
        rest.split(',').next().unwrap().parse().unwrap()
    };
    // Ages are exact between themselves, whatever the machine does.
    assert!((time("pod") - 20.0).abs() < 1.0, "{header}");
    assert!(time("address") >= 69.0, "{header}");
    assert!(time("decision") > 0.0, "{header}");
    let line = front.line("\"message\":\"cold start\"").await;
    assert!(
        line.contains(GROUP) && line.contains("\"address_ms\":"),
        "{line}"
    );
    let count =
        format!("maniple_front_cold_start_seconds_count{{group=\"{GROUP}\",phase=\"pod\"}}");
    assert_eq!(front.metric(&count).await, 1);
}

#[tokio::test]
async fn an_app_that_is_gone_is_answered_no_more_and_leaves_no_numbers() {
    let instance = Instance::start().await;
    let scaler = Scaler::start(([127, 0, 0, 1], 0).into(), Some(instance.address));
    let front = Front::start(scaler.address, &[]).await;
    front.until_ready(true).await;
    assert_eq!(get(front.address, "/x").await.status(), 200);
    let count = format!("maniple_front_requests_total{{group=\"{GROUP}\",code=\"2xx\"}}");
    assert_eq!(front.metric(&count).await, 1);
    scaler.known.send_modify(|known| known.unrouted = true);
    until("the route is gone", async || {
        get(front.address, "/x").await.status() == 404
    })
    .await;
    until("its numbers are gone", async || {
        front.metric(&count).await == 0
    })
    .await;
    let refused = "maniple_front_refused_total{group=\"\",category=\"unknown-host\"}";
    assert!(front.metric(refused).await > 0);
}
