//! The admin API, over a real port.

#![allow(clippy::unwrap_used, reason = "a test says what is wrong by failing")]

mod support;

use serde_json::{Value, json};
use support::{KEY, app, recipe_c, recorded, start};

/// Requests of the recording whose answers are not those of a stand-in, and why.
const DIFFERENT: &[(&str, &str)] = &[
    (
        "GET /admin/functions",
        "the app has other functions; compared by its own test",
    ),
    ("GET /admin/functions/minutely", "compared by its own test"),
    ("GET /admin/host/processes", "other processes"),
    ("GET /admin/host/keys", "other keys"),
    ("GET /admin/host/functionkeys", "other keys"),
    ("GET /admin/instance/info", "no Node version"),
    (
        "GET /runtime/health",
        "the recorded host is older than this route",
    ),
    (
        "GET /runtime/health/ready",
        "the recorded host is older than this route",
    ),
    ("GET /", "another page"),
    ("GET /api/slow?ms=0", "another body"),
    (
        "POST /admin/host/synctriggers",
        "the recording used the environment that may send",
    ),
    ("GET /admin/host/systemkeys", "other links"),
    (
        "POST /admin/functions/warmup",
        "the app has no such function",
    ),
];

#[tokio::test]
async fn vectors_admin_responses() {
    let (instance, client) = start(recipe_c(&[])).await;
    let mut compared = 0;
    for (request, expected) in recorded("admin-responses.json").as_object().unwrap() {
        if DIFFERENT.iter().any(|(name, _)| name == request) {
            continue;
        }
        let (method, path) = request.split_once(' ').unwrap();
        let answer = client.admin(method, path).await;
        assert_eq!(
            u64::from(answer.status),
            expected["status"].as_u64().unwrap(),
            "{request}"
        );
        for name in ["Content-Type", "Cache-Control", "Pragma"] {
            let expected = expected["headers"][name].as_str();
            let answered = answer
                .headers
                .get(name)
                .and_then(|value| value.to_str().ok());
            assert_eq!(answered, expected, "{request}: {name}");
        }
        match &expected["body"] {
            Value::String(text) => assert_eq!(&answer.text, text, "{request}"),
            body if path == "/admin/host/status" => {
                let answered = answer.json();
                let names = |value: &Value| {
                    value
                        .as_object()
                        .unwrap()
                        .keys()
                        .cloned()
                        .collect::<Vec<_>>()
                };
                assert_eq!(names(&answered), names(body));
                for name in ["id", "state", "version", "instanceId"] {
                    assert_eq!(answered[name], body[name], "{name}");
                }
            }
            body => assert_eq!(&answer.json(), body, "{request}"),
        }
        assert!(
            answer.headers.contains_key("x-function-host-standin"),
            "{request}"
        );
        compared += 1;
    }
    assert!(compared >= 15, "only {compared} answers were compared");
    instance.terminate().await;
}

#[tokio::test]
async fn functions_are_listed_also_when_they_are_not_loaded() {
    let (instance, client) = start(recipe_c(&["HELLO", "minutely"])).await;
    let listed = client.admin("GET", "/admin/functions").await.json();
    assert_eq!(
        listed.as_array().unwrap().len(),
        app().as_array().unwrap().len()
    );
    let expected = &recorded("admin-responses.json")["GET /admin/functions/minutely"]["body"];
    let one = client
        .admin("GET", "/admin/functions/minutely")
        .await
        .json();
    let names = |value: &Value| {
        value
            .as_object()
            .unwrap()
            .keys()
            .cloned()
            .collect::<Vec<_>>()
    };
    assert_eq!(names(&one), names(expected));
    assert_eq!(names(&one["config"]), names(&expected["config"]));
    assert_eq!(
        one["config"]["bindings"][0]["schedule"], "%MINUTELY%",
        "texts are not resolved"
    );
    let hello = listed
        .as_array()
        .unwrap()
        .iter()
        .find(|function| function["name"] == "hello")
        .unwrap();
    assert_eq!(
        hello["invoke_url_template"],
        "https://labapp.azurewebsites.net/api/hello"
    );

    assert_eq!(client.get("/api/hello").await.status, 200);
    assert_eq!(client.get("/api/slow").await.status, 404, "not in the list");
    assert_eq!(
        client.admin("POST", "/admin/functions/slow").await.status,
        404
    );
    assert_eq!(
        client
            .admin("GET", "/admin/functions/slow/status")
            .await
            .status,
        404
    );
    assert_eq!(
        client.admin("POST", "/admin/functions/hello").await.status,
        202
    );
    client
        .wait_for("the manual run", |stats| {
            stats["functions"]["hello"]["succeeded"] == 2
        })
        .await;
    assert_eq!(
        client.stats().await["listening"],
        json!(["hello", "minutely"])
    );
    instance.terminate().await;
}

#[tokio::test]
async fn flex_mode_filters_listeners_and_nothing_else() {
    let environment = recipe_c(&[])
        .with("WEBSITE_SKU", "FlexConsumption")
        .with("MANAGED_ENVIRONMENT", "lab")
        .with("WEBSITE_AUTH_ENCRYPTION_KEY", KEY)
        .with("FUNCTIONS_TARGET_GROUP", "discovery");
    let (instance, client) = start(environment).await;
    assert_eq!(
        client.stats().await["listening"],
        json!([]),
        "a group without members"
    );
    assert_eq!(client.get("/api/hello").await.status, 200);
    assert_eq!(
        client.admin("POST", "/admin/functions/fast").await.status,
        202
    );
    let listed = client.admin("GET", "/admin/functions").await.json();
    assert_eq!(
        listed.as_array().unwrap().len(),
        app().as_array().unwrap().len()
    );
    instance.terminate().await;
}

#[tokio::test]
async fn indexing_errors_are_shown_by_function() {
    let mut functions = app();
    functions.as_array_mut().unwrap().push(json!({ "name": "broken", "bindings": [
        { "type": "queueTrigger", "name": "item", "direction": "in", "queueName": "%MISSING%" } ] }));
    let environment = recipe_c(&[])
        .with("STANDIN_FUNCTIONS", functions.to_string())
        .with("STANDIN_FAULT", "indexing=hello");
    let (instance, client) = start(environment).await;
    let errors = client
        .admin("GET", "/admin/functions/broken/status")
        .await
        .json();
    let text = errors["errors"][0].as_str().unwrap();
    assert!(
        text.contains("'%MISSING%' does not resolve to a value."),
        "{text}"
    );
    assert!(
        client
            .admin("GET", "/admin/functions/hello/status")
            .await
            .json()["errors"]
            .is_array()
    );
    assert_eq!(client.get("/api/hello").await.status, 404);
    assert_eq!(
        client.get("/api/slow").await.status,
        200,
        "the others are fine"
    );
    assert_eq!(
        client.admin("GET", "/admin/host/status").await.json()["state"],
        "Running"
    );
    instance.terminate().await;
}

#[tokio::test]
async fn an_app_that_fails_to_load_is_running_without_functions() {
    let (instance, client) = start(recipe_c(&[]).with("STANDIN_FAULT", "app-load")).await;
    assert_eq!(
        client.admin("GET", "/admin/host/status").await.json()["state"],
        "Running"
    );
    assert_eq!(
        client.admin("GET", "/admin/functions").await.json(),
        json!([])
    );
    assert_eq!(client.get("/api/hello").await.status, 404);
    instance.terminate().await;
}

#[tokio::test]
async fn state_error_answers_503_at_once() {
    for environment in [
        recipe_c(&[]).with("STANDIN_FAULT", "host-error"),
        recipe_c(&[]).with("STANDIN_HOST_JSON", "{"),
        recipe_c(&[])
            .with("AzureFunctionsWebHost__hostid", "")
            .with("WEBSITE_SKU", "FlexConsumption")
            .with("WEBSITE_SITE_NAME", ""),
    ] {
        let has_site = environment.site_name().is_some();
        let (instance, client) = start(environment).await;
        let answer = client.get("/api/hello").await;
        assert_eq!(
            (answer.status, answer.text.as_str()),
            (503, "Function host is not running.")
        );
        assert_eq!(client.get("/admin/host/ping").await.status, 200);
        assert_eq!(client.get("/runtime/health/ready").await.status, 503);
        assert_eq!(client.get("/runtime/health/live").await.status, 200);
        if has_site {
            let status = client.admin("GET", "/admin/host/status").await.json();
            assert_eq!(status["state"], "Error");
            assert!(!status["errors"].as_array().unwrap().is_empty());
            assert_eq!(client.admin("POST", "/admin/host/resume").await.status, 409);
        }
        instance.terminate().await;
    }
}

#[tokio::test]
async fn variables_that_break_the_mode_break_it_here_too() {
    let (instance, client) = start(recipe_c(&[]).with("WEBSITE_INSTANCE_ID", "i")).await;
    assert_eq!(
        client.get("/admin/host/status").await.status,
        200,
        "open to everybody"
    );
    assert_eq!(
        client.admin("GET", "/admin/functions").await.json(),
        json!([]),
        "the app is not found"
    );
    instance.terminate().await;

    let (instance, client) =
        start(recipe_c(&[]).with("FUNCTIONS_ADMIN_ISOLATION_ENABLED", "1")).await;
    assert_eq!(client.admin("GET", "/admin/host/status").await.status, 403);
    assert_eq!(client.get("/api/hello").await.status, 200);
    instance.terminate().await;
}

#[tokio::test]
async fn sync_triggers_is_refused_without_its_key() {
    let (instance, client) = start(recipe_c(&[])).await;
    let answer = client.admin("POST", "/admin/host/synctriggers").await;
    assert_eq!(answer.status, 500);
    assert_eq!(
        answer.json()["status"],
        "Invalid environment for SyncTriggers operation."
    );
    instance.terminate().await;
}
