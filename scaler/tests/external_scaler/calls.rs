//! The three unary calls.

use maniple_proto::externalscaler::GetMetricsRequest;
use maniple_scaler::grpc::METRIC_NAME;
use tonic::{Code, Status};

use crate::*;

async fn desired(
    client: &mut ExternalScalerClient<Channel>,
    app: &str,
) -> Result<(i64, f64), Status> {
    let request = GetMetricsRequest {
        scaled_object_ref: Some(object(app)),
        metric_name: METRIC_NAME.to_owned(),
    };
    let response = client.get_metrics(request).await?.into_inner();
    assert_eq!(response.metric_values.len(), 1);
    let value = &response.metric_values[0];
    assert_eq!(value.metric_name, METRIC_NAME);
    Ok((value.metric_value, value.metric_value_float))
}

#[tokio::test]
async fn value_and_activity_follow_the_decision() {
    let bench = Bench::start().await;
    let mut client = bench.client().await;
    for (count, integer, float) in [
        (0, 0, 0.0),
        (1, 1, 1.0),
        (11, 11, 11.0),
        (1000, 1000, 1000.0),
        (u32::MAX, 4_294_967_295, 4_294_967_295.0),
    ] {
        bench.write("shop", known(count, 5));
        assert_eq!(
            desired(&mut client, "shop").await.unwrap(),
            (integer, float)
        );
        let active = client
            .is_active(object("shop"))
            .await
            .unwrap()
            .into_inner()
            .result;
        assert_eq!(active, count > 0);
    }
    bench.finish().await;
}

#[tokio::test]
async fn what_is_not_known_is_an_error_and_never_zero() {
    let bench = Bench::start().await;
    let mut client = bench.client().await;
    let paused = Answer::Paused {
        reason: "spec.scaling.paused".into(),
    };
    let table = [
        (unknown(), Code::Unavailable, "check the connection string"),
        (paused, Code::FailedPrecondition, "spec.scaling.paused"),
        (Answer::NotFound, Code::NotFound, "no such function group"),
    ];
    for (answer, code, text) in table {
        bench.write("shop", answer);
        let status = desired(&mut client, "shop").await.unwrap_err();
        assert_eq!(status.code(), code);
        assert!(status.message().contains(text), "{status}");
        assert!(status.message().contains("ns/shop http"), "{status}");
        assert_eq!(
            client.is_active(object("shop")).await.unwrap_err().code(),
            code
        );
    }
    bench.finish().await;
}

#[tokio::test]
async fn the_spec_is_the_same_for_every_group_also_unknown_ones() {
    let bench = Bench::start().await;
    bench.write("blind", unknown());
    bench.write("busy", known(7, 7));
    let mut client = bench.client().await;
    for app in ["blind", "busy", "not-there"] {
        let specs = client
            .get_metric_spec(object(app))
            .await
            .unwrap()
            .into_inner()
            .metric_specs;
        assert_eq!(specs.len(), 1);
        assert_eq!(specs[0].metric_name, METRIC_NAME);
        assert_eq!(specs[0].target_size_float.to_string(), "1");
        #[allow(deprecated, reason = "older KEDA reads it")]
        let integer = specs[0].target_size;
        assert_eq!(integer, 1);
    }
    bench.finish().await;
}

#[tokio::test]
async fn bad_references_are_refused_by_every_call() {
    let bench = Bench::start().await;
    let mut client = bench.client().await;
    let mut bad = object("shop");
    bad.scaler_metadata.remove("group");
    let request = GetMetricsRequest {
        scaled_object_ref: Some(bad.clone()),
        metric_name: String::new(),
    };
    let statuses = [
        client.is_active(bad.clone()).await.unwrap_err(),
        client.get_metric_spec(bad.clone()).await.unwrap_err(),
        client.get_metrics(request).await.unwrap_err(),
        client.stream_is_active(bad.clone()).await.unwrap_err(),
        client.stream_metric_spec(bad).await.unwrap_err(),
    ];
    for status in statuses {
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().contains("\"group\""), "{status}");
    }
    let empty = GetMetricsRequest {
        scaled_object_ref: None,
        metric_name: String::new(),
    };
    let status = client.get_metrics(empty).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("scaledObjectRef"), "{status}");
    bench.finish().await;
}

#[tokio::test]
async fn calls_are_counted() {
    let bench = Bench::start().await;
    bench.write("shop", known(2, 2));
    let mut client = bench.client().await;
    assert_eq!(
        bench.metric("maniple_external_scaler_last_poll_timestamp_seconds"),
        Some(0.0)
    );
    for _ in 0..3 {
        desired(&mut client, "shop").await.unwrap();
    }
    desired(&mut client, "other").await.unwrap_err();
    let count =
        |labels: &str| bench.metric(&format!("maniple_external_scaler_calls_total{{{labels}}}"));
    assert_eq!(count("method=\"GetMetrics\",code=\"OK\""), Some(3.0));
    assert_eq!(count("method=\"GetMetrics\",code=\"NOT_FOUND\""), Some(1.0));
    let seconds = "maniple_external_scaler_call_duration_seconds_count{method=\"GetMetrics\"}";
    assert_eq!(bench.metric(seconds), Some(4.0));
    assert!(bench.metric("maniple_external_scaler_last_poll_timestamp_seconds") > Some(1.6e9));
    bench.finish().await;
}
