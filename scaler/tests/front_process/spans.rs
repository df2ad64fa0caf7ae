//! Requests as spans at a collector.

use std::path::Path;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Empty};
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;

use crate::{
    HOST,
    collector::{Collector, Mood, attribute},
    connect, connect_http2, get,
    process::Front,
    scaler::{GROUP, Instance, Scaler},
    soon, until,
};

async fn started(collector: &str, share: u32) -> (Scaler, Instance, Front) {
    started_with(collector, share, None).await
}

async fn started_with(collector: &str, share: u32, ca: Option<&Path>) -> (Scaler, Instance, Front) {
    let instance = Instance::start().await;
    let scaler = Scaler::start(([127, 0, 0, 1], 0).into(), Some(instance.address));
    let endpoint = format!("--otlp-endpoint={collector}");
    let share = format!("--trace-per-mille={share}");
    let ca = ca.map(|path| format!("--otlp-ca={}", path.display()));
    let mut arguments = vec![endpoint.as_str(), &share, "--stop-delay-seconds=0"];
    arguments.extend(ca.as_deref());
    let front = Front::start(scaler.address, &arguments).await;
    front.until_ready(true).await;
    (scaler, instance, front)
}

const SENT: &str = "maniple_front_spans_total{result=\"sent\"}";
const FAILED: &str = "maniple_front_spans_total{result=\"failed\"}";
const DROPPED: &str = "maniple_front_spans_total{result=\"dropped\"}";

#[tokio::test]
async fn a_trace_goes_on_through_the_front_end_and_what_is_left_is_sent_at_the_end() {
    let collector = Collector::start(Mood::Takes).await;
    let (_scaler, _instance, mut front) =
        started(&format!("http://{}", collector.address), 0).await;
    // Not asked for by anybody.
    get(front.address, "/x").await;
    let mut client = connect(front.address).await;
    let request = Request::post("/orders?code=secret")
        .header("host", HOST)
        .header(
            "traceparent",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        )
        .body(Empty::<Bytes>::new())
        .unwrap();
    client
        .send_request(request)
        .await
        .unwrap()
        .collect()
        .await
        .unwrap();
    until("a span", async || !collector.spans.lock().is_empty()).await;
    let (service, span) = collector.spans.lock().remove(0);
    assert_eq!(service, "maniple-front");
    assert_eq!(span.kind(), SpanKind::Server);
    assert_eq!(span.name, "POST");
    let number = |bytes: &[u8]| bytes.iter().fold(0, |n, b| n << 8 | u128::from(*b));
    assert_eq!(
        number(&span.trace_id),
        0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c
    );
    assert_eq!(number(&span.parent_span_id), 0xb7ad_6b71_6920_3331);
    assert!(span.end_time_unix_nano >= span.start_time_unix_nano);
    for (name, value) in [
        ("http.request.method", "POST"),
        ("url.path", "/orders"),
        ("url.scheme", "http"),
        ("server.address", HOST),
        ("network.protocol.version", "1.1"),
        ("http.response.status_code", "200"),
        ("maniple.group", GROUP),
    ] {
        assert_eq!(attribute(&span, name).as_deref(), Some(value), "{name}");
    }
    assert_eq!(attribute(&span, "error.type"), None);
    assert!(!format!("{span:?}").contains("secret"));
    until("it is counted", async || front.metric(SENT).await == 1).await;

    // Ended just before the process: sent all the same.
    let request = Request::get("/last")
        .header("host", HOST)
        .header(
            "traceparent",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        )
        .body(Empty::<Bytes>::new())
        .unwrap();
    client
        .send_request(request)
        .await
        .unwrap()
        .collect()
        .await
        .unwrap();
    front.terminate();
    front.ended().await;
    let spans = collector.spans.lock();
    let paths: Vec<_> = spans
        .iter()
        .map(|(_, span)| attribute(span, "url.path"))
        .collect();
    assert_eq!(paths, [Some("/last".to_owned())]);
}

#[tokio::test]
async fn a_collector_that_hangs_costs_spans_and_no_requests() {
    let collector = Collector::start(Mood::Hangs).await;
    let (_scaler, _instance, front) = started(&format!("http://{}", collector.address), 1000).await;
    let (client, _connection) = connect_http2(front.address).await;
    let work = async {
        // More than any queue holds.
        while front.metric(DROPPED).await == 0 {
            let requests = (0..1000).map(|_| {
                let mut client = client.clone();
                async move {
                    client.ready().await.unwrap();
                    let request = Request::get(format!("http://{HOST}/x"));
                    let request = request.body(Empty::<Bytes>::new()).unwrap();
                    let response = client.send_request(request).await.unwrap();
                    response.collect().await.unwrap();
                }
            });
            futures::future::join_all(requests).await;
        }
    };
    soon("more spans than find a place", work).await;
}

#[tokio::test]
async fn a_collector_that_is_away_is_told_of_once() {
    let port = tokio::net::TcpListener::bind(("127.0.0.1", 0))
        .await
        .unwrap();
    let address = port.local_addr().unwrap();
    drop(port);
    let (_scaler, _instance, front) = started(&format!("http://{address}"), 1000).await;
    for round in 1..=2 {
        assert_eq!(get(front.address, "/x").await.status(), 200);
        until("it is counted", async || {
            front.metric(FAILED).await >= round
        })
        .await;
    }
    assert_eq!(front.count("spans cannot be sent"), 1);
}

#[tokio::test]
async fn a_collector_may_be_encrypted() {
    maniple_runtime::install_tls_provider();
    let folder = tempfile::tempdir().unwrap();
    let pair = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let (certificate, key) = (pair.cert.pem(), pair.signing_key.serialize_pem());
    let ca = folder.path().join("ca.crt");
    std::fs::write(&ca, &certificate).unwrap();
    let collector = Collector::encrypted(&certificate, &key).await;
    let endpoint = format!("https://localhost:{}", collector.address.port());
    let (_scaler, _instance, front) = started_with(&endpoint, 1000, Some(&ca)).await;
    assert_eq!(get(front.address, "/x").await.status(), 200);
    until("a span", async || !collector.spans.lock().is_empty()).await;
}
