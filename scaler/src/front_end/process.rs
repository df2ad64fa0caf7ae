//! The process: its parts, how they are joined, and the order in which they stop.

use std::{
    convert::Infallible,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use maniple_core::slots::message::MemberRecord;
use maniple_front::{
    control::{Control, ControlSettings, StreamEvent},
    metrics::Metrics,
    observe::Spans,
    pool::Pool,
    proxy::Proxy,
    routes::Routes,
    server::serve_all,
};
use maniple_runtime::{Component, Pending, Router, Runtime};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{
    FrontArgs, FrontError,
    connector::Connector,
    doors, identity,
    link::Link,
    metrics::{LinkMetrics, PoolCollector},
    replicas,
    routing::Routing,
    spans::{self, SpanMetrics},
};

/// Messages of all replicas that wait for the control task.
const QUEUE: usize = 1024;
/// Beyond the drain limit, so that the requests are cut by their own limit and not by this one.
const GRACE: Duration = Duration::from_secs(2);
/// Time to give back all slots: those of requests that were cut linger, and are left to the scaler.
const LEAVE: Duration = Duration::from_secs(5);
/// Time for the last messages.
const CLOSE: Duration = Duration::from_secs(3);

/// Runs the front end until it is asked to stop.
///
/// # Errors
/// What kept it from starting, or what broke.
pub async fn run(args: FrontArgs) -> anyhow::Result<()> {
    let component = Component::new("front", env!("CARGO_PKG_VERSION"));
    let mut runtime = Runtime::init(component, args.runtime.clone())?;
    let unready = runtime.readiness.pending("routes from the scaler");
    let member = identity::new(&args)?;
    let connector = Arc::new(Connector::new(args.scaler.clone()).await?);
    let doors = doors::open(&args).await?;
    runtime.serve_admin(Router::new()).await?;
    for door in &doors.all {
        let address = door.listener.local_addr()?;
        tracing::info!(id = ?member.id, %address, tls = door.certificates.is_some(), "takes requests");
    }

    // In the order in which they stop: running requests end, then the slots go back, then the Bye leaves.
    let requests = runtime
        .shutdown
        .stage("requests", args.stop_delay() + args.drain_limit() + GRACE);
    let slots = runtime.shutdown.stage("slots", LEAVE);
    let streams = runtime.shutdown.stage("streams", CLOSE);

    let parts = assemble(&args, member, connector, &runtime.metrics, unready).await?;
    let (server, stop) = (args.scaler.slots_server.clone(), streams.token());
    streams.spawn("streams", async move {
        replicas::follow(server, parts.link, stop).await;
        Ok::<(), Infallible>(())
    });
    let (control, heard, stop) = (parts.control, parts.heard, slots.token());
    slots.spawn("slots", async move {
        control.run(heard, stop).await;
        Ok::<(), Infallible>(())
    });
    if let Some(spans) = parts.spans {
        let stop = streams.token();
        streams.spawn("spans", async move {
            spans.run(stop).await;
            Ok::<(), Infallible>(())
        });
    }
    if let Some(certificates) = doors.certificates {
        let (metrics, stop) = (parts.metrics, streams.token());
        tokio::spawn(certificates.follow(doors::LOOK, metrics, stop));
    }
    let (proxy, settings, delay) = (parts.proxy, args.server(), args.stop_delay());
    let (stop, leaving) = (requests.token(), proxy.clone());
    requests.spawn("requests", async move {
        let closed = CancellationToken::new();
        let close = async {
            stop.cancelled().await;
            leaving.leave();
            // Nobody knows yet that this pod is leaving: new connections still come.
            tokio::time::sleep(delay).await;
            closed.cancel();
        };
        tokio::join!(serve_all(doors.all, proxy, settings, closed.clone()), close);
        Ok::<(), Infallible>(())
    });

    runtime.run().await?;
    Ok(())
}

/// What runs, joined and not yet started.
pub(super) struct Parts {
    pub(super) link: Link,
    pub(super) control: Control,
    /// What the streams tell the control task.
    pub(super) heard: mpsc::Receiver<StreamEvent>,
    pub(super) proxy: Arc<Proxy>,
    pub(super) metrics: Metrics,
    /// Sends spans, when there is a collector.
    pub(super) spans: Option<spans::Sender>,
}

/// Joins the parts. `unready` ends with the first routes.
pub(super) async fn assemble(
    args: &FrontArgs,
    member: MemberRecord,
    connector: Arc<Connector>,
    metrics: &maniple_runtime::Metrics,
    unready: Pending,
) -> Result<Parts, FrontError> {
    let pool = Pool::new();
    let routes = Routes::new();
    let (metrics, link_metrics, span_metrics) = metrics.register(|registry| {
        registry.register_collector(Box::new(PoolCollector(pool.clone())));
        (
            Metrics::register(registry),
            LinkMetrics::register(registry),
            SpanMetrics::register(registry),
        )
    });
    let (queue, spans) = match &args.observe.otlp_endpoint {
        Some(endpoint) => {
            let ca = args.observe.otlp_ca.as_deref();
            let (queue, sender) = spans::open(endpoint, ca, span_metrics).await?;
            (Some(queue as Arc<dyn Spans>), Some(sender))
        }
        None => (None, None),
    };
    let (events, heard) = mpsc::channel(QUEUE);
    let link = Link {
        connector,
        events,
        routing: Routing::new(pool.clone(), routes.clone(), metrics.clone(), unready),
        metrics: link_metrics,
        ids: Arc::new(AtomicU64::new(1)),
    };
    let proxy = Proxy::new(routes, args.proxy(queue), metrics.clone());
    Ok(Parts {
        link,
        control: Control::new(member, pool, ControlSettings::default()),
        heard,
        proxy: Arc::new(proxy),
        metrics,
        spans,
    })
}
