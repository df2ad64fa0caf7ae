//! The real data role over a cluster whose instances are given, for tests of the real front end without Kubernetes.
//!
//! `--apps` is a JSON list of `{"name": "web", "spec": {…}, "podIps": ["127.0.0.1"]}`: the spec is that of a FunctionApp with one HTTP group,
//! and there is one ready pod at each address, on the port of the spec. All apps are in the namespace `ns`. When the port for front ends
//! is open, a line with its address is printed: `slots=127.0.0.1:41241`.
//!
//! What the data role writes (its record, claims, drain marks) is kept in memory; instances neither come nor go.

mod cluster;

use std::{net::IpAddr, sync::Arc};

use anyhow::Context as _;
use clap::Parser;
use cluster::FixedCluster;
use maniple_core::slots::data_role::Settings;
use maniple_crds::FunctionAppSpec;
use maniple_runtime::{LeaderState, LogArgs, init_telemetry};
use maniple_scaler::{
    grpc::{SlotsArgs, SlotsServer},
    index::{AppKey, ResolvedSettings, translate},
    slots::{PlanEvent, SlotsInputs, SlotsRole, SlotsService},
};
use serde::Deserialize;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

const NAMESPACE: &str = "ns";

#[derive(Debug, Parser)]
struct Args {
    #[command(flatten)]
    log: LogArgs,
    /// The apps and their instances, JSON.
    #[arg(long)]
    apps: String,
    #[command(flatten)]
    slots: SlotsArgs,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct App {
    name: String,
    spec: FunctionAppSpec,
    pod_ips: Vec<IpAddr>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    init_telemetry(&args.log)?;
    let apps: Vec<App> =
        serde_json::from_str(&args.apps).context("--apps is not a list of apps")?;
    let (plans, plans_receiver) = mpsc::unbounded_channel();
    let mut pods = Vec::new();
    for app in apps {
        let key = AppKey::new(NAMESPACE, app.name.as_str());
        let plan = translate(&key, 1, &app.spec, &ResolvedSettings::default())
            .with_context(|| format!("app {}", app.name))?;
        plans.send(PlanEvent::Planned(key, Arc::new(plan)))?;
        for ip in app.pod_ips {
            pods.push(cluster::pod(NAMESPACE, &app.name, pods.len() + 1, ip)?);
        }
    }
    plans.send(PlanEvent::Listed)?;

    let stop = CancellationToken::new();
    // Nobody decides here: what is told about demand has no listener, and no count is wanted.
    let (demand, _demand) = mpsc::unbounded_channel();
    let (_wanted, wanted) = mpsc::unbounded_channel();
    let (streams, streams_receiver) = mpsc::unbounded_channel();
    let since = tokio::time::Instant::now();
    let (_leadership, leadership) = watch::channel(LeaderState::Leading { since });
    let role = SlotsRole::new(
        FixedCluster::new(pods),
        Settings::default(),
        &args.slots.domain,
        demand,
    );
    let inputs = SlotsInputs {
        streams: streams_receiver,
        plans: plans_receiver,
        wanted,
        leadership,
    };
    let server = SlotsServer::bind(&args.slots)
        .await?
        .context("--slots-address is missing")?;
    println!("slots={}", server.local_address()?);
    let service = SlotsService::new(streams, stop.clone());
    let serving = tokio::spawn(server.serve(Routes::new(service.into_server()), stop.clone()));
    role.run(inputs, stop).await?;
    serving.await??;
    Ok(())
}
