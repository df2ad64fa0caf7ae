//! Health, reflection, connection age.

use futures::StreamExt;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

use crate::*;

#[tokio::test]
async fn health_follows_the_readiness() {
    let bench = Bench::start().await;
    let pending = bench.readiness.pending("first list");
    let mut client = HealthClient::new(bench.channel().await);
    for service in ["", "externalscaler.ExternalScaler"] {
        let request = HealthCheckRequest {
            service: service.to_owned(),
        };
        let mut watch = client.watch(request).await.unwrap().into_inner();
        // The first message may be older than the pending task.
        let mut wait_for = async |wanted: ServingStatus| {
            let found = async { while watch.next().await.unwrap().unwrap().status() != wanted {} };
            tokio::time::timeout(HANG, found).await.unwrap();
        };
        wait_for(ServingStatus::NotServing).await;
    }
    drop(pending);
    let mut watch = client
        .watch(HealthCheckRequest::default())
        .await
        .unwrap()
        .into_inner();
    let found =
        async { while watch.next().await.unwrap().unwrap().status() != ServingStatus::Serving {} };
    tokio::time::timeout(HANG, found).await.unwrap();
    // A watcher does not hold up the stop.
    bench.finish().await;
}

#[tokio::test]
async fn reflection_lists_the_services() {
    let bench = Bench::start().await;
    let mut client = ServerReflectionClient::new(bench.channel().await);
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut answers = client
        .server_reflection_info(tokio_stream::once(request))
        .await
        .unwrap()
        .into_inner();
    let answer = answers
        .next()
        .await
        .unwrap()
        .unwrap()
        .message_response
        .unwrap();
    let MessageResponse::ListServicesResponse(list) = answer else {
        panic!("{answer:?}")
    };
    let names: Vec<String> = list
        .service
        .into_iter()
        .map(|service| service.name)
        .collect();
    for name in ["externalscaler.ExternalScaler", "grpc.health.v1.Health"] {
        assert!(names.iter().any(|found| found == name), "{names:?}");
    }
    bench.finish().await;
}

#[tokio::test]
async fn an_old_connection_is_left_with_clean_stream_ends() {
    let args = GrpcArgs {
        grpc_connection_age_seconds: 1,
        ..GrpcArgs::plain(([127, 0, 0, 1], 0).into())
    };
    let bench = Bench::start_with(args).await;
    bench.write("shop", known(0, 0));
    let mut client = bench.client().await;
    let mut pushes = client
        .stream_is_active(object("shop"))
        .await
        .unwrap()
        .into_inner();
    let mut specs = client
        .stream_metric_spec(object("shop"))
        .await
        .unwrap()
        .into_inner();
    assert!(specs.next().await.unwrap().is_ok());
    // Ended by the server with OK: no message, no error.
    assert!(
        tokio::time::timeout(HANG, pushes.next())
            .await
            .unwrap()
            .is_none()
    );
    assert!(
        tokio::time::timeout(HANG, specs.next())
            .await
            .unwrap()
            .is_none()
    );
    // The client goes on over another connection.
    assert!(
        !client
            .is_active(object("shop"))
            .await
            .unwrap()
            .into_inner()
            .result
    );
    assert_eq!(
        bench.metric("maniple_external_scaler_connections_total"),
        Some(2.0)
    );
    drop(client);
    bench.finish().await;
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let bench = Bench::start().await;
    let address = ([127, 0, 0, 1], bench.port).into();
    let error = GrpcServer::bind(&GrpcArgs::plain(address))
        .await
        .unwrap_err();
    assert_eq!(error.category(), "bind");
    assert!(
        error.to_string().contains(&bench.port.to_string()),
        "{error}"
    );
    bench.finish().await;
}
