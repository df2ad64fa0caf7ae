//! The process: its parts, how they are joined, and the order in which they stop.

use crate::args::{ScalerArgs, SourceArgs};
use crate::book::Book;
use crate::clock::SystemClock;
use crate::engine::{Engine, EngineInputs, EngineMetrics, EngineOutputs, SlotsLink, StorageFeeds};
use crate::grpc::{GrpcServer, SlotsServer};
use crate::index::apps::AppEvent;
use crate::index::{ClusterReader, References, apps, watch};
use crate::mirror::{MirrorService, follow};
use crate::native::{ClusterWriter, Wishes};
use crate::slots::{ClusterApi, PlanEvent, SlotsInputs, SlotsMetrics, SlotsRole, SlotsService};
use crate::status;
use anyhow::Context;
use k8s_openapi::api::apps::v1::Deployment;
use kube::core::NamespaceResourceScope;
use kube::{Api, Client, Resource};
use maniple_core::slots::data_role::Settings;
use maniple_crds::{FunctionApp, names};
use maniple_runtime::{
    ClientProfile, Component, Guarded, Leadership, LeaseSettings, LeaseTimes, Router, Runtime,
    Stage,
};
use maniple_sources::cadence::CadenceOptions;
use maniple_sources::metrics::SourceMetrics;
use maniple_sources::storage::{HttpOptions, StorageHttp};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tonic::service::Routes;

/// Events that wait between two parts.
const QUEUE: usize = 1024;
/// While nobody leads, HTTP groups do not grow. A crash costs at most 10 s, a clean stop one; a write each second. Not shorter: a leader
/// has to survive one request to the API server that hangs until its limit of 5 s.
const LEASE_TIMES: LeaseTimes = LeaseTimes {
    poll: Duration::from_secs(1),
    renew: Duration::from_secs(1),
    hold: Duration::from_secs(7),
    duration: Duration::from_secs(9),
};
/// The pods of front ends, in the namespace of the Lease.
const FRONT_END_LABELS: &str = "app.kubernetes.io/name=maniple,app.kubernetes.io/component=front";

/// Runs the scaler until it is asked to stop.
///
/// # Errors
/// What kept it from starting, or what broke.
pub async fn run(args: ScalerArgs) -> anyhow::Result<()> {
    let component = Component::new("scaler", env!("CARGO_PKG_VERSION"));
    let mut runtime = Runtime::init(component, args.runtime.clone())?;
    let ready = runtime
        .readiness
        .pending("first lists of functionapps and deployments");
    let grpc = GrpcServer::bind(&args.grpc).await?;
    let slots = SlotsServer::bind(&args.slots).await?;
    let identity = args.identity(grpc.local_address()?.port());
    let status = TcpListener::bind(args.status_address)
        .await
        .with_context(|| {
            format!(
                "status address {} cannot be opened; choose another with --status-address",
                args.status_address
            )
        })?;
    runtime.serve_admin(Router::new()).await?;
    let client = runtime.kube_client(ClientProfile::Ordinary).await?;
    let lease_client = runtime.kube_client(ClientProfile::Lease).await?;

    // In the order in which they stop: no more questions, no more decisions, then another one may lead.
    let answers = runtime.shutdown.stage("answers", Duration::from_secs(10));
    let work = runtime.shutdown.stage("decisions", Duration::from_secs(5));
    let lease = runtime.shutdown.stage("lease", Duration::from_secs(5));

    let settings = LeaseSettings {
        times: LEASE_TIMES,
        ..LeaseSettings::new(&args.lease_namespace, &args.lease_name, &identity)
    };
    let leadership = Leadership::start(lease_client, settings, &runtime.metrics, &lease)?;
    let book = Arc::new(Book::new(
        "the scaler is starting: its first lists are not complete",
    ));
    let engine_metrics = EngineMetrics::default();
    runtime
        .metrics
        .register(|registry| engine_metrics.register(registry));

    // Apps and Deployments.
    let watcher = Watcher {
        client: client.clone(),
        namespace: args.namespace.clone(),
        errors: watch_errors(&runtime),
    };
    let (seen_apps, seen_apps_receiver) = mpsc::channel(QUEUE);
    let (seen_workloads, workloads) = mpsc::channel(QUEUE);
    watcher.spawn::<FunctionApp>(&work, "functionapps", None, seen_apps);
    let ours = format!("{}={}", names::MANAGED_BY_LABEL, names::MANAGED_BY);
    watcher.spawn::<Deployment>(&work, "deployments", Some(ours), seen_workloads);
    let (refused, refused_receiver) = mpsc::channel(QUEUE);
    let (planned, mut planned_receiver) = mpsc::channel(QUEUE);
    let (apps_sender, apps) = mpsc::channel(QUEUE);
    let (plans_sender, plans) = mpsc::unbounded_channel();
    let counts_requests = slots.is_some();
    spawn(&work, "plans", async move {
        while let Some(event) = planned_receiver.recv().await {
            if counts_requests {
                let _ = plans_sender.send(plan_event(&event));
            }
            if apps_sender.send(event).await.is_err() {
                return;
            }
        }
    });
    let references = References::new(ClusterReader::new(client.clone()));
    let stop = work.token();
    spawn(&work, "index", async move {
        apps::run(
            references,
            seen_apps_receiver,
            refused_receiver,
            planned,
            stop,
        )
        .await;
    });

    // Replica counts of groups that KEDA does not scale.
    let wishes = Wishes::default();
    let (written_sender, written) = mpsc::unbounded_channel();
    let may_write = {
        let leadership = leadership.clone();
        move || leadership.is_leading()
    };
    let tell = move |outcome| drop(written_sender.send(outcome));
    let writing = wishes.clone().run(
        ClusterWriter::new(client.clone()),
        may_write,
        tell,
        work.token(),
    );
    spawn(&work, "native driver", writing);

    // The decisions of another replica, while that one leads.
    let (heard, mirror) = mpsc::channel(16);
    spawn(
        &work,
        "mirror",
        follow(identity, leadership.watch(), heard, work.token()),
    );

    let out = EngineOutputs {
        book: Arc::clone(&book),
        wishes,
        refused,
        ready: Some(ready),
        metrics: engine_metrics,
    };
    let inputs = EngineInputs {
        apps,
        workloads,
        leadership: leadership.watch(),
        mirror,
        written,
    };
    let mut engine = Engine::new(
        feeds(&args.sources, &runtime)?,
        Arc::new(SystemClock::default()),
        out,
    );
    if let Some(slots) = slots {
        let (streams_sender, streams) = mpsc::unbounded_channel();
        let (wanted_sender, wanted) = mpsc::unbounded_channel();
        let (demand_sender, demand) = mpsc::unbounded_channel();
        engine = engine.with_slots(SlotsLink {
            demand,
            wanted: wanted_sender,
        });
        let cluster = ClusterApi::new(
            client,
            args.namespace.clone(),
            &args.lease_namespace,
            &args.lease_name,
            FRONT_END_LABELS,
        );
        let domain = &args.slots.domain;
        let metrics = SlotsMetrics::default();
        runtime
            .metrics
            .register(|registry| metrics.register(registry));
        let role = SlotsRole::new(cluster, Settings::default(), domain, demand_sender)
            .with_metrics(metrics);
        let inputs = SlotsInputs {
            streams,
            plans,
            wanted,
            leadership: leadership.watch(),
        };
        let stop = work.token();
        work.spawn("slots", async move { role.run(inputs, stop).await });
        let service = SlotsService::new(streams_sender, answers.token());
        let routes = Routes::new(service.into_server());
        let slots = slots.counted(&runtime.metrics);
        answers.spawn("slots server", slots.serve(routes, answers.token()));
    }
    spawn(&work, "engine", engine.run(inputs, work.token()));

    // Answers.
    let serving = axum::serve(status, status::router(Arc::clone(&book)))
        .with_graceful_shutdown(answers.token().cancelled_owned());
    answers.spawn("status", async move { serving.await });
    let service = MirrorService::new(Arc::clone(&book), leadership.watch(), answers.token());
    let mut further = Routes::default();
    if args.is_encrypted() {
        let serving = tonic::transport::Server::builder()
            .add_service(service.into_server())
            .serve_with_shutdown(args.mirror_address, answers.token().cancelled_owned());
        answers.spawn("mirror server", serving);
    } else {
        further = further.add_service(service.into_server());
    }
    let (readiness, metrics, stop) = (
        runtime.readiness.clone(),
        runtime.metrics.clone(),
        answers.token(),
    );
    answers.spawn("grpc server", async move {
        grpc.serve(book, further, readiness, &metrics, stop).await
    });

    runtime.run().await?;
    Ok(())
}

fn spawn(stage: &Stage, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
    stage.spawn(name, async move {
        task.await;
        Ok::<(), Infallible>(())
    });
}

fn plan_event(event: &AppEvent) -> PlanEvent {
    match event {
        AppEvent::Planned(key, plan) => PlanEvent::Planned(key.clone(), Arc::clone(plan)),
        AppEvent::Gone(key) => PlanEvent::Gone(key.clone()),
        AppEvent::Listed => PlanEvent::Listed,
    }
}

fn feeds(args: &SourceArgs, runtime: &Runtime) -> anyhow::Result<StorageFeeds> {
    let metrics = SourceMetrics::default();
    runtime
        .metrics
        .register(|registry| metrics.register(registry));
    let certificates_pem = match &args.storage_ca_file {
        None => Vec::new(),
        Some(file) => std::fs::read(file).with_context(|| {
            format!(
                "storage certificate authorities {} cannot be read; check --storage-ca-file",
                file.display()
            )
        })?,
    };
    let options = HttpOptions {
        trusted_domains: args.storage_trusted_domains.clone(),
        certificates_pem,
        ..HttpOptions::default()
    };
    let http = StorageHttp::new(options, metrics.clone());
    let cadence = CadenceOptions {
        max_interval: args.queue_max_interval_seconds.map(Duration::from_secs),
        ..CadenceOptions::default()
    };
    Ok(StorageFeeds::new(
        http,
        args.parallel_reads.into(),
        cadence,
        metrics,
    ))
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct KindLabel {
    kind: &'static str,
}

fn watch_errors(runtime: &Runtime) -> Family<KindLabel, Counter> {
    let errors = Family::default();
    runtime.metrics.register(|registry| {
        registry.register(
            "watch_errors",
            "Interruptions of watches by kind of object",
            Family::clone(&errors),
        );
    });
    errors
}

struct Watcher {
    client: Client,
    namespace: Option<String>,
    errors: Family<KindLabel, Counter>,
}

impl Watcher {
    fn spawn<K>(
        &self,
        stage: &Stage,
        kind: &'static str,
        labels: Option<String>,
        seen: mpsc::Sender<crate::index::Seen<K>>,
    ) where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + std::fmt::Debug
            + serde::de::DeserializeOwned
            + Send
            + Sync
            + 'static,
    {
        let client = self.client.clone();
        let api: Api<Guarded<K>> = match &self.namespace {
            Some(namespace) => Api::namespaced(client, namespace),
            None => Api::all(client),
        };
        let errors = self.errors.get_or_create(&KindLabel { kind }).clone();
        let on_error = move |_: &_| {
            errors.inc();
        };
        spawn(
            stage,
            kind,
            watch(kind, api, labels, seen, on_error, stage.token()),
        );
    }
}
