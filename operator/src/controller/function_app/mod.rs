//! Reconciles FunctionApps: dereference (I/O) -> validate (pure) -> build (pure) -> apply (I/O) -> observe (I/O) -> status.

mod apply;
mod apps;
mod build;
mod dereference;
mod error;
mod events;
#[cfg(test)]
mod fixtures;
mod keda;
mod memory;
mod observe;
mod owned;
mod run;
mod status;
#[cfg(test)]
mod tests;
mod unreadable;
mod validate;
mod watching;

pub use error::Error;

pub(crate) use build::scaled_object_resource;
pub(crate) use owned::Owned;

use crate::args::Platform;
use crate::controller::scaled_object;
use crate::metrics::OperatorMetrics;
use crate::ports::host::HostClient;
use crate::ports::scaler::ScalerClient;
use futures::StreamExt;
use kube::Client;
use kube::runtime::controller::{self, Config, Controller};
use kube::runtime::events::Reporter;
use kube::runtime::reflector::Store;
use maniple_crds::FunctionApp;
use maniple_runtime::Readiness;
use memory::Memory;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// What a reconcile run needs.
struct Context {
    client: Client,
    platform: Platform,
    owned: Owned,
    apps: Store<FunctionApp>,
    keda: watch::Receiver<keda::Keda>,
    hosts: HostClient,
    scaler: ScalerClient,
    recorder: events::Recorder,
    metrics: OperatorMetrics,
    memory: Memory,
}

/// Runs the controller until `stop`. Call it only while leading: two of them would undo nothing, but write twice.
/// The process is not ready until everything has been listed.
///
/// # Errors
/// When no HTTP client can be made.
pub async fn run(
    client: Client,
    platform: Platform,
    metrics: OperatorMetrics,
    readiness: Readiness,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let pending = readiness.pending("the first list of FunctionApps and their objects");
    let Some(first) = keda::first(&client, &stop).await else {
        return Ok(());
    };
    let (keda_sender, keda) = watch::channel(first);
    let namespace = platform.namespace.clone();
    let (owned, changed) = Owned::start(client.clone(), namespace.clone(), metrics.clone());
    owned.follow_keda(keda.borrow().installed);
    tokio::select! {
        () = owned.ready() => {}
        () = stop.cancelled() => return Ok(()),
    }

    let (trouble, troubles) = mpsc::unbounded_channel();
    let (apps, stream) = apps::watch(&client, namespace.as_deref(), metrics.clone(), trouble);
    let recorder = events::Recorder::new(
        client.clone(),
        Reporter {
            controller: "maniple-operator".into(),
            instance: None,
        },
    );
    let controller = Controller::for_stream(stream, apps.clone())
        .with_config(
            Config::default()
                .concurrency(platform.concurrency)
                .debounce(Duration::from_millis(100)),
        )
        .reconcile_on(changed)
        .reconcile_all_on(keda::changes(keda.clone(), owned.clone()))
        .graceful_shutdown_on(stop.clone().cancelled_owned());
    let context = Arc::new(Context {
        scaler: ScalerClient::new(&platform.scaler_status_url)?,
        hosts: HostClient::new()?,
        recorder: recorder.clone(),
        apps: apps.clone(),
        memory: Memory::default(),
        client: client.clone(),
        platform,
        owned: owned.clone(),
        keda,
        metrics: metrics.clone(),
    });

    let mut beside = JoinSet::new();
    beside.spawn(keda::follow(client.clone(), keda_sender, stop.clone()));
    beside.spawn(scaled_object::release_abandoned(
        client.clone(),
        owned,
        stop.clone(),
    ));
    beside.spawn(unreadable::tell(
        client,
        recorder,
        metrics,
        troubles,
        stop.clone(),
    ));
    let runs = controller
        .run(run::reconcile, run::error_policy, Arc::clone(&context))
        .for_each(|result| {
            if let Err(controller::Error::ObjectNotFound(app)) = &result {
                let app = apps::reference(app.name.clone(), app.namespace.clone());
                context.memory.forget(&app);
            }
            std::future::ready(())
        });
    // Before the first list the controller would not hear of the stop.
    let stopped_early = async {
        tokio::select! {
            _ = apps.wait_until_ready() => drop(pending),
            () = stop.cancelled() => return,
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = runs => {}
        () = stopped_early => {}
    }
    while beside.join_next().await.is_some() {}
    Ok(())
}
