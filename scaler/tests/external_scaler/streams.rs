//! The two streams.

use futures::{StreamExt, future::join_all};
use maniple_proto::externalscaler::IsActiveResponse;
use tonic::Streaming;

use crate::*;

async fn open(
    client: &mut ExternalScalerClient<Channel>,
    app: &str,
) -> Streaming<IsActiveResponse> {
    client
        .stream_is_active(object(app))
        .await
        .unwrap()
        .into_inner()
}

/// The next message; `None` when the stream ended with OK.
async fn next(stream: &mut Streaming<IsActiveResponse>) -> Option<bool> {
    let message = tokio::time::timeout(HANG, stream.next())
        .await
        .expect("something happens");
    message.map(|message| message.expect("never an error").result)
}

#[tokio::test]
async fn a_wake_up_is_pushed_and_the_end_of_the_group_ends_the_stream() {
    let bench = Bench::start().await;
    bench.write("shop", known(0, 0));
    let mut stream = open(&mut bench.client().await, "shop").await;
    bench.write("shop", known(1, 1));
    assert_eq!(next(&mut stream).await, Some(true));
    bench.write("shop", known(5, 1));
    bench.write("shop", unknown());
    bench.write("shop", known(0, 5));
    bench.write("shop", Answer::NotFound);
    assert_eq!(next(&mut stream).await, None);
    bench.finish().await;
}

#[tokio::test]
async fn a_group_that_is_active_is_pushed_at_the_opening() {
    let bench = Bench::start().await;
    bench.write("shop", known(3, 3));
    let mut client = bench.client().await;
    let mut stream = open(&mut client, "shop").await;
    assert_eq!(next(&mut stream).await, Some(true));
    bench.write("shop", Answer::NotFound);
    assert_eq!(next(&mut stream).await, None);
    bench.finish().await;
}

#[tokio::test]
async fn a_stream_may_be_opened_before_the_app_is_known() {
    let bench = Bench::start().await;
    let mut stream = open(&mut bench.client().await, "shop").await;
    bench.write("shop", known(1, None));
    assert_eq!(next(&mut stream).await, Some(true));
    bench.finish().await;
}

#[tokio::test]
async fn a_push_is_repeated_until_instances_are_seen() {
    let bench = Bench::start().await;
    bench.write("shop", known(1, 0));
    let mut stream = open(&mut bench.client().await, "shop").await;
    assert_eq!(next(&mut stream).await, Some(true));
    assert_eq!(next(&mut stream).await, Some(true));
    assert_eq!(next(&mut stream).await, Some(true));
    assert_eq!(
        bench.metric("maniple_external_scaler_pushes_total"),
        Some(3.0)
    );
    bench.write("shop", known(1, 1));
    bench.write("shop", Answer::NotFound);
    // One more may have been under way.
    let mut late = 0;
    while next(&mut stream).await.is_some() {
        late += 1;
    }
    assert!(late <= 1, "{late}");
    bench.finish().await;
}

#[tokio::test]
async fn every_stream_gets_its_wake_up_on_one_connection_and_ends_cleanly_at_the_stop() {
    const STREAMS: usize = 2000;
    let bench = Bench::start().await;
    let client = bench.client().await;
    let apps: Vec<String> = (0..STREAMS).map(|n| format!("app-{n}")).collect();
    let mut streams = join_all(apps.iter().map(|app| {
        let mut client = client.clone();
        async move { open(&mut client, app).await }
    }))
    .await;
    let gauge = "maniple_external_scaler_open_streams{method=\"StreamIsActive\"}";
    assert_eq!(bench.metric(gauge), Some(STREAMS as f64));
    assert_eq!(
        bench.metric("maniple_external_scaler_connections_total"),
        Some(1.0)
    );
    for app in &apps {
        bench.write(app, known(1, 1));
    }
    for stream in &mut streams {
        assert_eq!(next(stream).await, Some(true));
    }
    bench.stop.cancel();
    for stream in &mut streams {
        assert_eq!(next(stream).await, None);
    }
    assert_eq!(bench.metric(gauge), Some(0.0));
    let ended = "maniple_external_scaler_calls_total{method=\"StreamIsActive\",code=\"OK\"}";
    assert_eq!(bench.metric(ended), Some(STREAMS as f64));
    drop(client);
    bench.finish().await;
}

#[tokio::test]
async fn a_client_that_leaves_is_forgotten() {
    let bench = Bench::start().await;
    let stream = open(&mut bench.client().await, "shop").await;
    let gauge = "maniple_external_scaler_open_streams{method=\"StreamIsActive\"}";
    assert_eq!(bench.metric(gauge), Some(1.0));
    drop(stream);
    let forgotten = async {
        while bench.metric(gauge) != Some(0.0) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(HANG, forgotten).await.unwrap();
    bench.finish().await;
}

#[tokio::test]
async fn the_spec_is_sent_at_once_and_the_stream_stays_open() {
    let bench = Bench::start().await;
    let mut client = bench.client().await;
    let mut stream = client
        .stream_metric_spec(object("shop"))
        .await
        .unwrap()
        .into_inner();
    let streamed = stream.next().await.unwrap().unwrap();
    assert_eq!(
        streamed,
        client
            .get_metric_spec(object("shop"))
            .await
            .unwrap()
            .into_inner()
    );
    let gauge = "maniple_external_scaler_open_streams{method=\"StreamMetricSpec\"}";
    assert_eq!(bench.metric(gauge), Some(1.0));
    bench.stop.cancel();
    assert!(
        tokio::time::timeout(HANG, stream.next())
            .await
            .unwrap()
            .is_none()
    );
    bench.finish().await;
}
