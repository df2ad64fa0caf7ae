//! What a request that comes while no instance can serve is told of its wait.

use std::time::Duration;

use http::StatusCode;
use http_body_util::BodyExt;
use maniple_front::cold::PHASES;

use crate::{
    client::{get_request, send},
    cluster::{Front, Hub, group, settings, until},
    instance::Instance,
};

/// The parts of a `server-timing` header with their times in milliseconds.
fn timing(header: &str) -> Vec<(String, f64)> {
    let part = |part: &str| {
        let (name, time) = part.trim().split_once(";dur=").unwrap();
        (name.to_owned(), time.parse().unwrap())
    };
    header.split(',').map(part).collect()
}

#[tokio::test]
async fn a_cold_start_is_timed_by_phase_and_a_warm_request_is_not() {
    let hub = Hub::start();
    let front = Front::start(&hub, 1, settings()).await;
    let first = tokio::spawn(send(front.address, get_request("/work")));
    until("the data role hears of it", async || {
        hub.look(|role| role.demand(&group(), 0).waiting).await == 1
    })
    .await;
    // The address is known before anybody listens there.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    hub.add(1, socket.local_addr().unwrap(), 1);
    until("slots are there", async || front.group().slots().0 == 1).await;
    let listening = tokio::time::Instant::now();
    let _instance = Instance::on(socket.listen(64).unwrap());
    let response = first.await.unwrap().unwrap();
    let added = listening.elapsed();
    assert_eq!(response.status(), StatusCode::OK);
    let header = response.headers()["server-timing"].to_str().unwrap();
    let timing = timing(header);
    let names: Vec<&str> = timing.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names[0], "cold-start");
    assert_eq!(names[1..], PHASES);
    let sum: f64 = timing[1..].iter().map(|(_, time)| time).sum();
    assert!((sum - timing[0].1).abs() < 0.5, "{header}");
    assert!(
        timing[3].1 > 0.0,
        "the address had to be waited for: {header}"
    );
    assert!(timing[0].1 < 10_000.0, "{header}");
    eprintln!("from an open port to the response: {added:?}; {header}");
    assert!(added < Duration::from_secs(10));
    response.collect().await.unwrap();

    let warm = send(front.address, get_request("/work")).await.unwrap();
    assert!(!warm.headers().contains_key("server-timing"));
    let text = front.metrics();
    for phase in PHASES {
        let line =
            format!("front_cold_start_seconds_count{{group=\"ns/app/http\",phase=\"{phase}\"}} 1");
        assert!(text.contains(&line), "{text}");
    }
    front.numbers.forget(group().as_str());
    let text = front.metrics();
    assert!(!text.contains("group=\"ns/app/http\""), "{text}");
}
