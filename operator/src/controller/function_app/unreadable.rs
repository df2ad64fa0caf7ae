//! Says on an app itself that it cannot be read.

use super::apps::{Trouble, reference};
use super::events::{self, Recorder};
use crate::metrics::OperatorMetrics;
use kube::api::{Patch, PatchParams};
use kube::runtime::events::EventType;
use kube::runtime::reflector::ObjectRef;
use kube::{Api, Client, Resource};
use maniple_crds::FunctionApp;
use maniple_crds::reasons::{condition, event, reason};
use maniple_runtime::{Guarded, Unreadable};
use serde_json::json;
use std::collections::HashMap;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Manager of the one condition that is written here, apart from the one of the whole status, so that the rest stays.
const MANAGER: &str = "maniple-operator-unreadable";

/// Runs until `stop`.
pub(super) async fn tell(
    client: Client,
    recorder: Recorder,
    metrics: OperatorMetrics,
    mut troubles: mpsc::UnboundedReceiver<Trouble>,
    stop: CancellationToken,
) {
    // A list names every unreadable app again; it is told once.
    let mut told: HashMap<ObjectRef<FunctionApp>, (Option<i64>, String)> = HashMap::new();
    loop {
        let trouble = tokio::select! {
            () = stop.cancelled() => return,
            trouble = troubles.recv() => trouble,
        };
        let unreadable = match trouble {
            None => return,
            Some(Trouble::Over(app)) => {
                told.remove(&app);
                continue;
            }
            Some(Trouble::Unreadable(unreadable)) => unreadable,
        };
        let meta = &unreadable.metadata;
        let key = reference(
            meta.name.clone().unwrap_or_default(),
            meta.namespace.clone(),
        );
        let version = (meta.generation, unreadable.message.clone());
        if told.get(&key) == Some(&version) {
            continue;
        }
        let message = message(&unreadable);
        tracing::warn!(app = %key, "{message}");
        let app = Guarded::<FunctionApp>(Err(unreadable));
        let target = app.object_ref(&());
        events::publish(
            &recorder,
            &target,
            EventType::Warning,
            event::INVALID_SPEC,
            &message,
        )
        .await;
        metrics.writes("FunctionAppStatus");
        match write(&client, &app, &message).await {
            Ok(()) => {
                told.insert(key, version);
            }
            Err(error) => {
                tracing::warn!(app = %key, %error, "the condition of an unreadable app could not be written");
            }
        }
    }
}

fn message(unreadable: &Unreadable) -> String {
    format!(
        "this version of the operator cannot read the app ({unreadable}); correct it or update the operator. What runs keeps running"
    )
}

async fn write(
    client: &Client,
    app: &Guarded<FunctionApp>,
    message: &str,
) -> Result<(), kube::Error> {
    let meta = app.meta();
    let (Some(name), Some(namespace)) = (&meta.name, &meta.namespace) else {
        return Ok(());
    };
    let patch = json!({
        "apiVersion": FunctionApp::api_version(&()),
        "kind": FunctionApp::kind(&()),
        "metadata": {"name": name, "uid": meta.uid},
        "status": {"conditions": [{
            "type": condition::READY,
            "status": "False",
            "reason": reason::INVALID_SPEC,
            "message": message,
            "observedGeneration": meta.generation,
            "lastTransitionTime": jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        }]},
    });
    // Guarded, because the answer is the app that cannot be read.
    let api: Api<Guarded<FunctionApp>> = Api::namespaced(client.clone(), namespace);
    let params = PatchParams::apply(MANAGER).force();
    match api.patch_status(name, &params, &Patch::Apply(patch)).await {
        Ok(_) => Ok(()),
        // Gone, or another one has its name by now.
        Err(kube::Error::Api(answer)) if answer.code == 404 || answer.code == 409 => Ok(()),
        Err(error) => Err(error),
    }
}
