//! A host in this process that serves a real port.

#![allow(dead_code, reason = "each test binary uses a part of it")]

#[allow(unreachable_pub, reason = "shared with the tests of another crate")]
#[path = "../../../../scaler/sources/tests/support/azurite.rs"]
pub(crate) mod azurite;
pub(crate) mod lab;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use function_host_standin::auth;
use function_host_standin::environment::Environment;
use function_host_standin::lifecycle::Instance;
use function_host_standin::work::simulated::SimulatedWork;
use serde_json::{Value, json};

pub(crate) const KEY: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
pub(crate) const SITE: &str = "labapp";

/// An app like the one with which the answers of the real host were recorded.
pub(crate) fn app() -> Value {
    json!([
        { "name": "hello", "bindings": [
            { "methods": ["GET", "POST"], "authLevel": "anonymous", "type": "httpTrigger", "name": "req", "direction": "in" },
            { "type": "http", "name": "$return", "direction": "out" } ] },
        { "name": "slow", "bindings": [
            { "methods": ["GET"], "authLevel": "anonymous", "type": "httpTrigger", "name": "req", "direction": "in" } ] },
        { "name": "locked", "bindings": [
            { "methods": ["GET"], "authLevel": "function", "type": "httpTrigger", "name": "req", "direction": "in" } ] },
        { "name": "items", "bindings": [
            { "route": "items/{id:int?}", "authLevel": "anonymous", "type": "httpTrigger", "name": "req", "direction": "in" } ] },
        { "name": "fast", "bindings": [
            { "schedule": "*/10 * * * * *", "type": "timerTrigger", "name": "timer", "direction": "in" } ] },
        { "name": "minutely", "bindings": [
            { "schedule": "%MINUTELY%", "type": "timerTrigger", "name": "timer", "direction": "in" } ] },
    ])
}

/// The environment of an instance that loads only the functions of its group.
pub(crate) fn recipe_c(functions: &[&str]) -> Environment {
    let mut environment = Environment::from_pairs([
        ("ASPNETCORE_URLS", "http://127.0.0.1:0"),
        ("WEBSITE_SITE_NAME", SITE),
        ("CONTAINER_ENCRYPTION_KEY", KEY),
        ("AzureFunctionsWebHost__hostid", SITE),
        ("ASPNETCORE_SHUTDOWNTIMEOUTSECONDS", "30"),
        ("MINUTELY", "0 * * * * *"),
        ("STANDIN_INSTANCE", "pod-1"),
    ])
    .with("STANDIN_FUNCTIONS", app().to_string());
    for (index, name) in functions.iter().enumerate() {
        environment = environment.with(format!("AzureFunctionsJobHost__functions__{index}"), *name);
    }
    environment
}

/// A client for one instance.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) base: String,
    http: reqwest::Client,
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {:?}", self.text))
    }
}

impl Client {
    pub(crate) fn new(base: String) -> Self {
        Self {
            base,
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
        }
    }

    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
    ) -> reqwest::Result<Answer> {
        let mut request = self
            .http
            .request(method.parse().unwrap(), format!("{}{path}", self.base));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.send().await?;
        Ok(Answer {
            status: response.status().as_u16(),
            headers: response.headers().clone(),
            text: response.text().await?,
        })
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[]).await.unwrap()
    }

    pub(crate) async fn admin(&self, method: &str, path: &str) -> Answer {
        let token = token();
        self.send(method, path, &[("x-ms-site-token", &token)])
            .await
            .unwrap()
    }

    pub(crate) async fn stats(&self) -> Value {
        self.get("/standin/stats").await.json()
    }

    /// Waits until `/standin/stats` fits.
    pub(crate) async fn wait_for(&self, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let wait = async {
            loop {
                let stats = self.stats().await;
                if fits(&stats) {
                    return stats;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        patiently(what, wait).await
    }
}

/// Waits for a future, for much longer than anything should take.
pub(crate) async fn patiently<F: Future>(what: &str, future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(60), future)
        .await
        .unwrap_or_else(|_| panic!("waited in vain for: {what}"))
}

pub(crate) fn seconds_since_1970() -> i64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs()
        .try_into()
        .unwrap()
}

/// A token as the operator mints it.
pub(crate) fn token() -> String {
    auth::sign(
        &auth::key_bytes(KEY).unwrap(),
        &json!({
            "iss": auth::CORE_ISSUER,
            "aud": format!("https://{SITE}.azurewebsites.net"),
            "exp": seconds_since_1970() + 300,
        }),
    )
}

pub(crate) async fn start(environment: Environment) -> (Instance, Client) {
    let instance = Instance::start(environment, Arc::new(SimulatedWork))
        .await
        .unwrap();
    let client = Client::new(format!("http://{}", instance.address().unwrap()));
    (instance, client)
}

/// An answer of the real host. `MANIPLE_VECTORS` names a folder with other recordings of the same shape.
pub(crate) fn recorded(file: &str) -> Value {
    let folder = std::env::var_os("MANIPLE_VECTORS").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/vectors"),
        PathBuf::from,
    );
    let path = folder.join("host/captured").join(file);
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}
