//! The request that tells the platform the triggers, against what was recorded from the real host.

#![allow(clippy::unwrap_used, reason = "a test says what is wrong by failing")]

mod support;

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode, Uri};
use function_host_standin::auth::{self, Authorizer, Credentials};
use function_host_standin::environment::Environment;
use serde_json::{Value, json};
use support::{KEY, SITE, recipe_c, recorded, seconds_since_1970, start};
use tokio::sync::mpsc;

type Received = (String, HeaderMap, Value);

/// A receiver as the platform has it.
async fn receiver(status: StatusCode) -> (String, mpsc::UnboundedReceiver<Received>) {
    let (sender, received) = mpsc::unbounded_channel();
    let sender = Arc::new(sender);
    let router = Router::new().fallback(
        move |uri: Uri, headers: HeaderMap, body: Bytes| async move {
            let body = serde_json::from_slice(&body).unwrap();
            sender.send((uri.to_string(), headers, body)).unwrap();
            status
        },
    );
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    (format!("http://{address}"), received)
}

/// The environment of the recording, with functions that have the recorded bindings.
fn recipe_a(server: &str, functions: &[Value]) -> Environment {
    recipe_c(&[])
        .with("WEBSITE_SKU", "FlexConsumption")
        .with("MANAGED_ENVIRONMENT", "lab")
        .with("FUNCTIONS_API_SERVER", server)
        .with("WEBSITE_AUTH_ENCRYPTION_KEY", KEY)
        .with("CONTAINER_ENCRYPTION_KEY", "")
        .with("FUNCTIONS_TARGET_GROUP", "http")
        .with("CONTAINER_APP_NAME", "labapp")
        .with("CONTAINER_APP_NAMESPACE", "fns")
        .with("CONTAINER_APP_REVISION", "labapp-rev1")
        .with("STANDIN_FUNCTIONS", json!(functions).to_string())
}

#[tokio::test]
async fn vectors_sync_triggers() {
    let expected = recorded("sync-triggers-body.json");
    let functions: Vec<Value> = expected["functions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|function| json!({ "name": function["name"], "bindings": function["config"]["bindings"] }))
        .collect();
    let (server, mut received) = receiver(StatusCode::OK).await;
    let (instance, client) = start(recipe_a(&server, &functions)).await;
    let answer = client.admin("POST", "/admin/host/synctriggers").await;
    assert_eq!(
        (answer.status, answer.json()),
        (200, json!({ "status": "success" }))
    );

    let (path, headers, body) = received.recv().await.unwrap();
    let request = recorded("sync-triggers-request.json");
    assert_eq!(request["path"], path);
    for name in [
        "User-Agent",
        "K8SE-APP-NAME",
        "K8SE-APP-NAMESPACE",
        "K8SE-APP-REVISION",
        "Content-Type",
    ] {
        assert_eq!(
            request["headers"][name].as_str(),
            headers[name].to_str().ok(),
            "{name}"
        );
    }
    assert!(headers.contains_key("X-ARR-LOG-ID"));
    for part in ["triggers", "hostId", "hostConfig", "functions"] {
        assert_eq!(body[part], expected[part], "{part}");
    }
    assert!(body.get("secrets").is_none(), "keys are never sent");

    // The token is for the platform; it must not open the admin API of the app.
    let token = headers["x-ms-site-token"].to_str().unwrap();
    let authorizer = Authorizer::new(&Environment::from_pairs([
        ("WEBSITE_SITE_NAME", SITE),
        ("WEBSITE_AUTH_ENCRYPTION_KEY", KEY),
    ]));
    let credentials = Credentials {
        token: Some(token),
        ..Credentials::default()
    };
    assert_eq!(
        authorizer.admin(credentials, seconds_since_1970() as f64),
        auth::Admission::Unauthorized
    );
    instance.terminate().await;
}

#[tokio::test]
async fn vectors_sync_triggers_of_queues_and_blobs() {
    let expected = recorded("sync-triggers-queue-blob.json");
    let functions: Vec<Value> = expected["triggers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|trigger| {
            let mut binding = trigger.clone();
            let members = binding.as_object_mut().unwrap();
            let name = members.remove("functionName");
            members.remove("functionGroup");
            json!({ "name": name, "bindings": [binding] })
        })
        .collect();
    let (server, mut received) = receiver(StatusCode::OK).await;
    let environment = recipe_a(&server, &functions)
        .with(
            "AzureFunctionsWebHost__hostid",
            expected["hostId"].as_str().unwrap(),
        )
        .with("AzureFunctionsJobHost__extensions__queues__batchSize", "4")
        .with("DOTNET_PROCESSOR_COUNT", "2")
        .with("QN", "lab-q1");
    let (instance, client) = start(environment).await;
    assert_eq!(
        client
            .admin("POST", "/admin/host/synctriggers")
            .await
            .status,
        200
    );
    let body = received.recv().await.unwrap().2;
    assert_eq!(body["triggers"], expected["triggers"]);
    assert_eq!(body["hostId"], expected["hostId"]);
    let queues = |body: &Value| body["hostConfig"]["extensions"]["queues"].clone();
    assert_eq!(queues(&body), queues(&expected));
    let errors = client
        .admin("GET", "/admin/functions/bl/status")
        .await
        .json();
    assert!(
        errors["errors"][0]
            .as_str()
            .unwrap()
            .contains("only supports EventGrid"),
        "the polling blob function is refused, and sent all the same"
    );
    instance.terminate().await;
}

#[tokio::test]
async fn a_receiver_that_refuses_is_reported() {
    let (server, _received) = receiver(StatusCode::SERVICE_UNAVAILABLE).await;
    let (instance, client) = start(recipe_a(&server, &[])).await;
    let answer = client.admin("POST", "/admin/host/synctriggers").await;
    assert_eq!(answer.status, 500);
    assert_eq!(answer.json()["status"], "SyncTriggers operation failed.");
    instance.terminate().await;
}
