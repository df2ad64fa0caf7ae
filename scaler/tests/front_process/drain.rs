//! The end of the process: everything under way ends in order, or at the limit.

use http_body_util::BodyExt;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    connect, connect_http2, get,
    process::Front,
    request,
    scaler::{CAP, Instance, Scaler},
    socket, soon, until,
};

const ANY: ([u8; 4], u16) = ([127, 0, 0, 1], 0);

#[tokio::test]
async fn what_runs_ends_in_its_own_way_and_every_slot_goes_back() {
    let instance = Instance::start().await;
    let scaler = Scaler::start(ANY.into(), Some(instance.address));
    let arguments = ["--stop-delay-seconds=3", "--drain-seconds=60"];
    let mut front = Front::start(scaler.address, &arguments).await;
    front.until_ready(true).await;

    let mut idle = connect(front.address).await;
    let response = idle.send_request(request("/x")).await.unwrap();
    response.collect().await.unwrap();
    let mut first = connect(front.address).await;
    let first = tokio::spawn(async move { first.send_request(request("/hold")).await });
    let (mut second, second_ended) = connect_http2(front.address).await;
    let held = second.send_request(request(&format!("http://{}/hold", crate::HOST)));
    let held = tokio::spawn(held);
    let mut socket = socket(front.address).await;
    let busy = format!(
        "maniple_front_slots{{group=\"{}\",state=\"busy\"}}",
        crate::scaler::GROUP
    );
    until("all run", async || front.metric(&busy).await == 3).await;

    let open = front
        .metric("maniple_front_connections{scheme=\"upgraded\"}")
        .await;
    assert_eq!(open, 1);

    front.terminate();
    front.until_ready(false).await;
    // Nobody knows yet that this pod is leaving.
    assert_eq!(get(front.address, "/x").await.status(), 200);
    until("the port is closed", async || {
        TcpStream::connect(front.address).await.is_err()
    })
    .await;
    until("the idle connection is closed", async || idle.is_closed()).await;
    until("no more on the HTTP/2 connection", async || {
        let more = request(&format!("http://{}/x", crate::HOST));
        second.send_request(more).await.is_err()
    })
    .await;
    assert!(!held.is_finished(), "its request still runs");
    assert!(!scaler.bye());

    instance.open.send_replace(true);
    let response = soon("the first", first).await.unwrap().unwrap();
    assert_eq!(response.headers()["connection"], "close");
    assert_eq!(response.collect().await.unwrap().to_bytes(), "held");
    let response = soon("the second", held).await.unwrap().unwrap();
    assert_eq!(response.collect().await.unwrap().to_bytes(), "held");
    soon("GOAWAY", second_ended).await.unwrap().unwrap();

    // An upgraded connection goes on until it is closed.
    let mut word = [0; 4];
    socket.read_exact(&mut word).await.unwrap();
    assert_eq!(&word, b"open");
    socket.write_all(b"more").await.unwrap();
    socket.read_exact(&mut word).await.unwrap();
    assert_eq!(&word, b"more");
    assert!(!scaler.bye());
    drop(socket);

    front.ended().await;
    assert!(scaler.bye(), "{:?}", scaler.said.lock());
    assert_eq!(scaler.released(), CAP);
}

#[tokio::test]
async fn at_the_limit_the_rest_is_cut_and_its_slot_is_left_to_the_scaler() {
    let instance = Instance::start().await;
    let scaler = Scaler::start(ANY.into(), Some(instance.address));
    let arguments = ["--stop-delay-seconds=0", "--drain-seconds=1"];
    let mut front = Front::start(scaler.address, &arguments).await;
    front.until_ready(true).await;
    let mut socket = socket(front.address).await;
    let mut word = [0; 4];
    socket.read_exact(&mut word).await.unwrap();
    front.terminate();
    // Nothing ends it but the limit.
    let rest = soon("the cut", socket.read(&mut word)).await;
    assert!(matches!(rest, Ok(0) | Err(_)), "{rest:?}");
    front.ended().await;
    assert_eq!(front.count("cut at the drain limit"), 1);
    // The instance may still work on it: the slot must not be lent to others yet.
    assert!(!scaler.bye());
    assert_eq!(scaler.released(), CAP - 1);
}
