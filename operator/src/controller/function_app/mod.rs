//! Reconciles FunctionApps: dereference (I/O) -> validate (pure) -> build (pure) -> apply (I/O) -> observe (I/O) -> status.

mod apply;
mod build;
mod dereference;
mod error;
#[cfg(test)]
mod fixtures;
mod keda;
mod observe;
mod owned;
mod retry;
mod status;
#[cfg(test)]
mod tests;
mod validate;

pub use error::Error;
pub use owned::Owned;

pub(crate) use build::scaled_object_resource;

use crate::args::Platform;
use crate::metrics::OperatorMetrics;
use crate::ports::host::HostClient;
use crate::ports::scaler::ScalerClient;
use futures::StreamExt;
use kube::api::{Patch, PatchParams};
use kube::runtime::controller::{Action, Config, Controller};
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::watcher;
use kube::{Api, Client, Resource, ResourceExt};
use maniple_crds::FunctionApp;
use maniple_crds::function_app::FunctionAppStatus;
use maniple_crds::reasons::{condition, event};
use retry::Attempts;
use serde_json::json;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Longest reconcile run. A healthy one takes milliseconds; a slow API server must not hold all workers.
const RUN_LIMIT: Duration = Duration::from_secs(60);
/// An app whose instances come and go is looked at again after this time.
const BUSY_AGAIN: Duration = Duration::from_secs(10);
/// An app at rest is looked at again after this time: a changed Secret is seen within it, and so is a missed watch event.
const REST_AGAIN: Duration = Duration::from_secs(60);
/// Manager of the status, apart from the one of the objects.
const STATUS_MANAGER: &str = "maniple-operator-status";

/// What a reconcile run needs.
pub struct Context {
    client: Client,
    platform: Platform,
    owned: Owned,
    apps: Store<FunctionApp>,
    keda: watch::Receiver<keda::Keda>,
    hosts: HostClient,
    scaler: ScalerClient,
    recorder: Recorder,
    metrics: OperatorMetrics,
    probes: observe::Probes,
    attempts: Attempts,
}

/// Runs the controller until `stop`. Call it only while leading: two of them would undo nothing, but write twice.
///
/// # Errors
/// When the API server cannot be asked for KEDA or no HTTP client can be made.
pub async fn run(
    client: Client,
    platform: Platform,
    metrics: OperatorMetrics,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let (keda_sender, keda) = watch::channel(keda::look(&client).await?);
    let (owned, changed) = Owned::start(client.clone(), platform.namespace.clone());
    owned.follow_keda(keda.borrow().installed);
    owned.ready().await;

    let apps: Api<FunctionApp> = match platform.namespace.as_deref() {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    };
    let keda_changed = keda.clone();
    let controller = Controller::new(apps, watcher::Config::default())
        .with_config(
            Config::default()
                .concurrency(platform.concurrency)
                .debounce(Duration::from_millis(100)),
        )
        .reconcile_on(changed)
        .reconcile_all_on(changes(keda_changed, owned.clone()))
        .graceful_shutdown_on(stop.clone().cancelled_owned());
    let context = Arc::new(Context {
        scaler: ScalerClient::new(&platform.scaler_status_url)?,
        hosts: HostClient::new()?,
        recorder: Recorder::new(
            client.clone(),
            Reporter {
                controller: "maniple-operator".into(),
                instance: None,
            },
        ),
        apps: controller.store(),
        probes: observe::Probes::default(),
        attempts: Attempts::default(),
        client: client.clone(),
        platform,
        owned,
        keda,
        metrics,
    });
    let follower = tokio::spawn(keda::follow(client, keda_sender, stop));
    controller
        .run(reconcile, error_policy, context)
        .for_each(|result| async move {
            if let Err(error) = result {
                // Failed runs were logged with their app; what is left are the controller's own errors.
                tracing::debug!(%error, "run");
            }
        })
        .await;
    follower.await?;
    Ok(())
}

/// Fires when KEDA comes or goes, after the watch of ScaledObjects was switched.
fn changes(
    mut keda: watch::Receiver<keda::Keda>,
    owned: Owned,
) -> impl futures::Stream<Item = ()> + Send + 'static {
    futures::stream::unfold((), move |()| {
        let mut receiver = keda.clone();
        receiver.mark_unchanged();
        let owned = owned.clone();
        let changed = keda.clone();
        keda.mark_unchanged();
        drop(changed);
        async move {
            receiver.changed().await.ok()?;
            let installed = receiver.borrow().installed;
            owned.follow_keda(installed);
            Some(((), ()))
        }
    })
}

async fn reconcile(app: Arc<FunctionApp>, ctx: Arc<Context>) -> Result<Action, Error> {
    if app.metadata.deletion_timestamp.is_some() {
        // Everything is owned by the app and goes with it.
        return Ok(Action::await_change());
    }
    let started = Instant::now();
    let result = match tokio::time::timeout(RUN_LIMIT, run_once(&app, &ctx)).await {
        Ok(result) => result,
        Err(_) => Err(Error::Timeout(RUN_LIMIT.as_secs())),
    };
    ctx.metrics.run(
        started.elapsed(),
        result.as_ref().err().map(Error::category),
    );
    match &result {
        Ok(_) => ctx.attempts.clear(&ObjectRef::from_obj(app.as_ref())),
        Err(error) => {
            tracing::warn!(app = %ObjectRef::from_obj(app.as_ref()), category = error.category(), %error, "reconcile failed");
            publish(
                &app,
                &ctx,
                EventType::Warning,
                event::APPLY_FAILED,
                &error.to_string(),
            )
            .await;
        }
    }
    result
}

async fn run_once(app: &FunctionApp, ctx: &Context) -> Result<Action, Error> {
    let references = dereference::dereference(app, ctx).await?;
    let now = jiff::Timestamp::now();
    let valid = match validate::validate(app, &references) {
        Ok(valid) => valid,
        Err(problems) => {
            let status = status::refused(app, &problems, now);
            if newly(app, &status, condition::READY, "False") {
                let message = problems
                    .iter()
                    .map(ToString::to_string)
                    .collect::<Vec<_>>()
                    .join("; ");
                publish(app, ctx, EventType::Warning, event::INVALID_SPEC, &message).await;
            }
            write_status(app, status, ctx).await?;
            // A missing Secret may appear, a route may become free; the spec itself triggers a run.
            return Ok(Action::requeue(REST_AGAIN));
        }
    };
    let objects =
        build::build(app, &valid, &references, &ctx.platform).ok_or(Error::NotFromServer)?;
    let applied = apply::apply(app, objects, ctx).await?;
    for group in &applied.created {
        let message = format!("group {group} got its Deployment");
        publish(app, ctx, EventType::Normal, event::GROUP_CREATED, &message).await;
    }
    for name in &applied.removed {
        let message = format!("Deployment {name} belonged to a group that is no longer there");
        publish(app, ctx, EventType::Normal, event::GROUP_REMOVED, &message).await;
    }
    let seen = observe::observe(app, &valid, &references.host_key, ctx).await?;
    let status = status::applied(app, &valid, &applied, &seen, now);
    if newly(app, &status, condition::FUNCTIONS_LOADED, "False") {
        let message = message_of(&status, condition::FUNCTIONS_LOADED);
        publish(
            app,
            ctx,
            EventType::Warning,
            event::FUNCTIONS_NOT_LOADED,
            &message,
        )
        .await;
    }
    if newly(app, &status, condition::WORKLOAD_AVAILABLE, "False") {
        let message = message_of(&status, condition::WORKLOAD_AVAILABLE);
        publish(
            app,
            ctx,
            EventType::Warning,
            event::INSTANCE_EXITED,
            &message,
        )
        .await;
    }
    let busy = status
        .groups
        .iter()
        .any(|g| g.desired.unwrap_or(0) > g.always_ready || g.ready != g.desired.unwrap_or(0))
        || status
            .conditions
            .iter()
            .any(|c| c.status == "False" && c.type_ != condition::PAUSED);
    write_status(app, status, ctx).await?;
    Ok(Action::requeue(if busy { BUSY_AGAIN } else { REST_AGAIN }))
}

/// True when a condition has this status now and had another one, or none, before.
fn newly(app: &FunctionApp, status: &FunctionAppStatus, kind: &str, value: &str) -> bool {
    let is = |s: &FunctionAppStatus| {
        s.conditions
            .iter()
            .any(|c| c.type_ == kind && c.status == value)
    };
    is(status) && !app.status.as_ref().is_some_and(is)
}

fn message_of(status: &FunctionAppStatus, kind: &str) -> String {
    status
        .conditions
        .iter()
        .find(|c| c.type_ == kind)
        .map(|c| c.message.clone())
        .unwrap_or_default()
}

async fn write_status(
    app: &FunctionApp,
    status: FunctionAppStatus,
    ctx: &Context,
) -> Result<(), Error> {
    if app.status.as_ref() == Some(&status) {
        return Ok(());
    }
    let name = app.name_any();
    let namespace = app.namespace().ok_or(Error::NotFromServer)?;
    let api: Api<FunctionApp> = Api::namespaced(ctx.client.clone(), &namespace);
    let patch = json!({
        "apiVersion": FunctionApp::api_version(&()),
        "kind": FunctionApp::kind(&()),
        "metadata": {"name": name, "uid": app.uid()},
        "status": status,
    });
    ctx.metrics.writes("FunctionAppStatus");
    match api
        .patch_status(
            &name,
            &PatchParams::apply(STATUS_MANAGER).force(),
            &Patch::Apply(patch),
        )
        .await
    {
        Ok(_) => Ok(()),
        // The app is gone, or another one has its name by now.
        Err(kube::Error::Api(answer)) if answer.code == 404 || answer.code == 409 => Ok(()),
        Err(error) => Err(Error::write("updated", "FunctionApp", &name, error)),
    }
}

async fn publish(app: &FunctionApp, ctx: &Context, kind: EventType, reason: &str, note: &str) {
    let mut note = note.to_owned();
    while note.len() > 1000 {
        note.pop();
    }
    let event = Event {
        type_: kind,
        reason: reason.into(),
        note: Some(note),
        action: "Reconcile".into(),
        secondary: None,
    };
    if let Err(error) = ctx.recorder.publish(&event, &app.object_ref(&())).await {
        tracing::debug!(%error, reason, "an event could not be written");
    }
}

fn error_policy(app: Arc<FunctionApp>, _: &Error, ctx: Arc<Context>) -> Action {
    Action::requeue(ctx.attempts.next(ObjectRef::from_obj(app.as_ref())))
}
