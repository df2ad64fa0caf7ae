//! FunctionApps that run the stand-in for the Functions host.

use super::{STANDIN_IMAGE, Suite};
use anyhow::{Context as _, Result};
use kube::Api;
use kube::api::{Patch, PatchParams};
use maniple_crds::FunctionApp;
use serde_json::{Value, json};

/// Port on which the stand-in listens.
pub const PORT: i32 = 8080;

/// A function fed by a queue.
pub fn queue_function(name: &str, queue: &str) -> Value {
    json!({"name": name, "bindings": [
        {"type": "queueTrigger", "direction": "in", "name": "message", "queueName": queue, "connection": "AzureWebJobsStorage"}
    ]})
}

/// A function run by a clock.
pub fn timer_function(name: &str, schedule: &str) -> Value {
    json!({"name": name, "bindings": [
        {"type": "timerTrigger", "direction": "in", "name": "timer", "schedule": schedule}
    ]})
}

/// A function called over HTTP.
pub fn http_function(name: &str) -> Value {
    json!({"name": name, "bindings": [
        {"type": "httpTrigger", "direction": "in", "name": "request", "authLevel": "anonymous"},
        {"type": "http", "direction": "out", "name": "$return"}
    ]})
}

/// An app of small instances with storage, ready to be changed by the test.
pub struct App {
    /// The manifest.
    pub manifest: Value,
}

impl App {
    /// An app with these functions. `work` is what each invocation does, as the stand-in reads it.
    ///
    /// # Errors
    /// When a function has no name.
    pub fn new(
        suite: &Suite,
        namespace: &str,
        name: &str,
        functions: &[Value],
        work: Value,
    ) -> Result<Self> {
        let played: Vec<Value> = functions
            .iter()
            .map(|f| {
                let mut f = f.clone();
                let object = f.as_object_mut().context("a function is an object")?;
                object.insert("work".into(), work.clone());
                Ok(f)
            })
            .collect::<Result<_>>()?;
        Ok(Self {
            manifest: json!({
                "apiVersion": "maniple.dev/v1alpha1",
                "kind": "FunctionApp",
                "metadata": {"name": name, "namespace": namespace},
                "spec": {
                    "image": STANDIN_IMAGE,
                    "imagePullPolicy": "IfNotPresent",
                    "port": PORT,
                    "functions": functions,
                    "functionAppConfig": {"scaleAndConcurrency": {"instanceMemoryMB": 512, "maximumInstanceCount": 100}},
                    "appSettings": [
                        {"name": "AzureWebJobsStorage", "value": suite.storage.in_cluster()},
                        {"name": "STANDIN_FUNCTIONS", "value": serde_json::to_string(&played)?},
                    ],
                },
            }),
        })
    }

    /// Adds or replaces an application setting.
    #[must_use]
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        let settings = self.manifest["spec"]["appSettings"]
            .as_array_mut()
            .expect("new makes a list");
        settings.retain(|s| s["name"] != name);
        settings.push(json!({"name": name, "value": value}));
        self
    }

    /// Sets a field of the manifest, given by its JSON pointer below `/spec`; objects on the way are made.
    #[must_use]
    pub fn with(mut self, path: &[&str], value: Value) -> Self {
        let mut place = &mut self.manifest["spec"];
        for key in path {
            place = &mut place[*key];
        }
        *place = value;
        self
    }

    /// Applies the manifest as a user would (server-side, field manager `suite`).
    ///
    /// # Errors
    /// When the API server refuses, with its message.
    pub async fn apply(&self, suite: &Suite) -> Result<FunctionApp> {
        let api: Api<FunctionApp> = Api::namespaced(suite.client.clone(), self.namespace());
        let params = PatchParams::apply("suite").force();
        Ok(api
            .patch(self.name(), &params, &Patch::Apply(&self.manifest))
            .await?)
    }

    /// Name of the app.
    pub fn name(&self) -> &str {
        self.manifest["metadata"]["name"]
            .as_str()
            .unwrap_or_default()
    }

    /// Namespace of the app.
    pub fn namespace(&self) -> &str {
        self.manifest["metadata"]["namespace"]
            .as_str()
            .unwrap_or_default()
    }
}
