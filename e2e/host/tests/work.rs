//! HTTP functions, limits, drain, resume, restart and the end of the process, over a real port.

#![allow(clippy::unwrap_used, reason = "a test says what is wrong by failing")]

mod support;

use std::time::{Duration, Instant};

use serde_json::json;
use support::{Client, recipe_c, recorded, start};

fn spawn_slow(client: &Client, path: &str) -> tokio::task::JoinHandle<Option<u16>> {
    let (client, path) = (client.clone(), path.to_owned());
    tokio::spawn(async move {
        client
            .send("GET", &path, &[])
            .await
            .ok()
            .map(|answer| answer.status)
    })
}

async fn running(client: &Client, function: &str, number: u64) {
    client
        .wait_for("running requests", |stats| {
            stats["functions"][function]["inFlight"] == number
        })
        .await;
}

#[tokio::test]
async fn work_is_adjustable_by_query_and_definition() {
    let functions = json!([{ "name": "teapot", "work": { "status": 418, "bodyBytes": 7 }, "bindings": [
        { "authLevel": "anonymous", "type": "httpTrigger", "name": "req" } ] },
        { "name": "none", "work": { "failRatio": 1.0 }, "bindings": [
        { "authLevel": "anonymous", "type": "httpTrigger", "name": "req", "route": "always/fails" } ] }]);
    let environment = recipe_c(&[]).with("STANDIN_FUNCTIONS", functions.to_string());
    let (instance, client) = start(environment).await;
    let answer = client.get("/api/teapot").await;
    assert_eq!((answer.status, answer.text.as_str()), (418, "xxxxxxx"));
    assert_eq!(answer.headers["x-standin-instance"], "pod-1");
    let answer = client.get("/API/TEAPOT?bytes=1024&status=200").await;
    assert_eq!((answer.status, answer.text.len()), (200, 1024));
    let failed = client.get("/api/always/fails").await;
    assert_eq!((failed.status, failed.text.as_str()), (500, ""));
    let streamed = client
        .get("/api/teapot?mode=stream&chunks=3&bytes=2&status=0")
        .await;
    assert_eq!((streamed.status, streamed.text.as_str()), (200, "xxxxxx"));
    let seen = client
        .send(
            "GET",
            "/api/teapot?mode=headers&status=0",
            &[("x-ms-client-principal", "me")],
        )
        .await
        .unwrap()
        .json();
    assert_eq!(
        seen["headers"]["x-ms-client-principal"], "me",
        "the function sees what the host was sent"
    );
    let stats = client.stats().await;
    assert_eq!(stats["functions"]["none"]["failed"], 1);
    assert_eq!(stats["functions"]["teapot"]["succeeded"], 4);
    instance.terminate().await;
}

#[tokio::test]
async fn routes_follow_the_prefix_and_methods_of_the_app() {
    let environment =
        recipe_c(&[]).with("AzureFunctionsJobHost__extensions__http__routePrefix", "");
    let (instance, client) = start(environment).await;
    assert_eq!(client.get("/hello").await.status, 200);
    assert_eq!(client.get("/items").await.status, 200);
    assert_eq!(client.get("/items/17").await.status, 200);
    assert_eq!(client.get("/items/x").await.status, 404);
    assert_eq!(client.get("/api/hello").await.status, 404);
    let wrong_method = client.send("POST", "/slow", &[]).await.unwrap();
    assert_eq!(wrong_method.status, 404);
    instance.terminate().await;
}

#[tokio::test]
async fn concurrency_is_counted_until_the_response_has_ended() {
    let (instance, client) = start(recipe_c(&[])).await;
    let requests: Vec<_> = (0..5)
        .map(|_| spawn_slow(&client, "/api/slow?mode=stream&chunks=2&ms=700&bytes=1"))
        .collect();
    running(&client, "slow", 5).await;
    for request in requests {
        assert_eq!(request.await.unwrap(), Some(200));
    }
    let stats = client
        .wait_for("the end", |stats| stats["process"]["inFlight"] == 0)
        .await;
    assert_eq!(stats["process"]["maxInFlight"], 5);
    assert_eq!(stats["functions"]["slow"]["maxInFlight"], 5);
    assert_eq!(stats["functions"]["slow"]["succeeded"], 5);
    client
        .send("POST", "/standin/stats/reset", &[])
        .await
        .unwrap();
    assert_eq!(client.stats().await["process"]["maxInFlight"], 0);
    instance.terminate().await;
}

#[tokio::test]
async fn requests_with_a_name_are_remembered_in_order() {
    let (instance, client) = start(recipe_c(&[])).await;
    for name in ["a", "b", "c"] {
        let named = [("x-standin-request", name)];
        let answer = client.send("GET", "/api/hello", &named).await.unwrap();
        assert_eq!(answer.status, 200);
    }
    client.get("/api/hello").await;
    let runs = client.get("/standin/runs").await.json();
    assert_eq!(runs["names"], serde_json::json!(["a", "b", "c"]));
    let rest = client.get("/standin/runs?from=2").await.json();
    assert_eq!(rest["names"], serde_json::json!(["c"]));
    assert_eq!(rest["process"], runs["process"]);
    instance.terminate().await;
}

#[tokio::test]
async fn vectors_one_outstanding_request_too_many_is_sent_elsewhere() {
    let environment = recipe_c(&[]).with(
        "AzureFunctionsJobHost__extensions__http__maxOutstandingRequests",
        "2",
    );
    let (instance, client) = start(environment).await;
    let held = [
        spawn_slow(&client, "/api/slow?ms=60000"),
        spawn_slow(&client, "/api/slow?ms=60000"),
    ];
    running(&client, "slow", 2).await;
    let expected = recorded("http-429-maxOutstanding20-only.json");
    for path in ["/api/hello", "/nosuch", "/"] {
        let refused = client.get(path).await;
        assert_eq!(
            Some(u64::from(refused.status)),
            expected["status"].as_u64(),
            "{path}"
        );
        assert_eq!(
            Some(refused.text.as_str()),
            expected["body"].as_str(),
            "{path}"
        );
        for name in ["X-FUNCTION-SCALEOUT", "Content-Length", "Retry-After"] {
            let answered = refused
                .headers
                .get(name)
                .and_then(|value| value.to_str().ok());
            assert_eq!(
                answered,
                expected["headers"][name].as_str(),
                "{path}: {name}"
            );
        }
    }
    assert_eq!(client.get("/admin/host/ping").await.status, 200);
    held.iter().for_each(tokio::task::JoinHandle::abort);
    drop(instance);
}

#[tokio::test]
async fn concurrent_requests_beyond_the_limit_wait() {
    let environment = recipe_c(&[]).with(
        "AzureFunctionsJobHost__extensions__http__maxConcurrentRequests",
        "2",
    );
    let (instance, client) = start(environment).await;
    let requests: Vec<_> = (0..6)
        .map(|_| spawn_slow(&client, "/api/slow?ms=60"))
        .collect();
    for request in requests {
        assert_eq!(request.await.unwrap(), Some(200));
    }
    assert_eq!(client.stats().await["process"]["maxInFlight"], 2);
    instance.terminate().await;
}

#[tokio::test]
async fn drain_serves_http_and_is_forgotten_by_resume() {
    let (instance, client) = start(recipe_c(&[])).await;
    let status = || async { client.admin("GET", "/admin/host/drain/status").await.json() };
    assert_eq!(status().await["state"], "Disabled");
    assert_eq!(client.admin("POST", "/admin/host/drain").await.status, 202);
    assert_eq!(
        status().await,
        json!({ "state": "Completed", "outstandingInvocations": 0, "outstandingRetries": 0 })
    );
    assert_eq!(
        client.admin("GET", "/admin/host/status").await.json()["state"],
        "Running"
    );
    let request = spawn_slow(&client, "/api/slow?ms=60000");
    running(&client, "slow", 1).await;
    let seen = status().await;
    assert_eq!(
        (
            seen["state"].as_str(),
            seen["outstandingInvocations"].as_u64()
        ),
        (Some("InProgress"), Some(1))
    );

    let resumed = client.admin("POST", "/admin/host/resume").await;
    assert_eq!(
        (resumed.status, resumed.json()),
        (200, json!({ "state": "Running" }))
    );
    assert_eq!(
        status().await,
        json!({ "state": "Disabled", "outstandingInvocations": 0, "outstandingRetries": 0 })
    );
    assert!(
        !request.is_finished(),
        "a request in flight is never answered"
    );
    assert_eq!(client.stats().await["functions"]["slow"]["lost"], 1);
    assert_eq!(client.get("/api/hello").await.status, 200);
    request.abort();
    instance.terminate().await;
}

#[tokio::test]
async fn restart_holds_requests_until_the_app_has_loaded() {
    let (instance, client) = start(recipe_c(&[]).with("STANDIN_LOAD_MS", "400")).await;
    let answer = client.admin("POST", "/admin/host/restart").await;
    assert_eq!(answer.json()["scriptPath"], "/home/site/wwwroot");
    let begun = Instant::now();
    client
        .wait_for("the restart", |stats| stats["state"] == "Running")
        .await;
    assert_eq!(client.get("/api/hello").await.status, 200);
    assert!(
        begun.elapsed() >= Duration::from_millis(300),
        "the request was held"
    );
    instance.terminate().await;
}

#[tokio::test]
async fn a_run_beyond_the_timeout_fails() {
    let (instance, client) =
        start(recipe_c(&[]).with("AzureFunctionsJobHost__functionTimeout", "00:00:00.1")).await;
    assert_eq!(client.get("/api/slow?ms=60000").await.status, 500);
    assert_eq!(client.stats().await["functions"]["slow"]["failed"], 1);
    instance.terminate().await;
}

#[tokio::test]
async fn at_the_end_the_port_closes_first_and_requests_in_flight_are_answered() {
    let (instance, client) = start(recipe_c(&[])).await;
    let request = spawn_slow(&client, "/api/slow?ms=1500");
    running(&client, "slow", 1).await;
    let host = std::sync::Arc::clone(&instance.host);
    let end = tokio::spawn(instance.terminate());
    let refused = async {
        while client.send("GET", "/admin/host/ping", &[]).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(1), refused)
        .await
        .unwrap();
    assert_eq!(
        host.activity.in_flight(),
        1,
        "the request still runs while connections are refused"
    );
    assert_eq!(request.await.unwrap(), Some(200));
    end.await.unwrap();
}

#[tokio::test]
async fn at_the_end_http_has_its_own_limit_and_other_work_another() {
    let environment = recipe_c(&[]).with("ASPNETCORE_SHUTDOWNTIMEOUTSECONDS", "1");
    let (instance, client) = start(environment).await;
    let instance = instance.with_work_limit(Duration::from_millis(300));
    let request = spawn_slow(&client, "/api/slow?ms=60000");
    running(&client, "slow", 1).await;
    let host = std::sync::Arc::clone(&instance.host);
    let begun = Instant::now();
    instance.terminate().await;
    assert_eq!(request.await.unwrap(), None, "reset without an answer");
    assert!(
        begun.elapsed() >= Duration::from_millis(1300),
        "one limit after the other"
    );
    assert_eq!(host.activity.process().lost, 1);
}

#[tokio::test]
async fn the_port_is_closed_until_the_start_is_over() {
    let probe = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = probe.local_addr().unwrap();
    drop(probe);
    let environment = recipe_c(&[])
        .with("ASPNETCORE_URLS", format!("http://{address}"))
        .with("STANDIN_START_MS", "400");
    let start = tokio::spawn(start(environment));
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
    let (instance, client) = start.await.unwrap();
    assert_eq!(client.get("/api/hello").await.status, 200);
    instance.terminate().await;
}
