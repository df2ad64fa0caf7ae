//! The operator's process.

use clap::Parser;
use kube::runtime::events::{Recorder, Reporter};
use maniple_operator::args::Platform;
use maniple_operator::certificates::{CertificateArgs, ClusterSecrets, keep};
use maniple_operator::controller::function_app;
use maniple_operator::metrics::OperatorMetrics;
use maniple_runtime::{
    ClientProfile, Component, Leadership, LeaseSettings, Router, Runtime, RuntimeArgs,
};
use std::time::Duration;

/// Reconciles FunctionApps into Deployments, Services and ScaledObjects.
#[derive(Parser)]
#[command(name = "operator", version)]
struct Args {
    #[command(flatten)]
    runtime: RuntimeArgs,

    #[command(flatten)]
    platform: Platform,

    #[command(flatten)]
    certificates: CertificateArgs,

    /// Namespace of the Lease by which the replicas elect a leader.
    #[arg(
        long,
        env = "MANIPLE_LEASE_NAMESPACE",
        default_value = "maniple-system"
    )]
    lease_namespace: String,

    /// Name of that Lease.
    #[arg(long, env = "MANIPLE_LEASE_NAME", default_value = "maniple-operator")]
    lease_name: String,

    /// Name of this replica in the Lease; no two may have the same. Made from host name and process id when absent.
    #[arg(long, env = "MANIPLE_INSTANCE", default_value_t = own_name())]
    instance: String,
}

fn own_name() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = match host.trim() {
        "" => "operator",
        host => host,
    };
    format!("{host}-{}", std::process::id())
}

fn reporter() -> Reporter {
    Reporter {
        controller: "maniple-operator".into(),
        instance: None,
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let mut runtime = Runtime::init(
        Component::new("operator", env!("CARGO_PKG_VERSION")),
        args.runtime,
    )?;
    let metrics = OperatorMetrics::register(&runtime.metrics);
    runtime.serve_admin(Router::new()).await?;
    let client = runtime.kube_client(ClientProfile::Ordinary).await?;
    let lease_client = runtime.kube_client(ClientProfile::Lease).await?;

    let work = runtime
        .shutdown
        .stage("controller", Duration::from_secs(20));
    let lease = runtime.shutdown.stage("lease", Duration::from_secs(5));
    let settings = LeaseSettings::new(&args.lease_namespace, &args.lease_name, &args.instance);
    let mut leadership = Leadership::start(lease_client, settings, &runtime.metrics, &lease)?;

    let (stop, readiness) = (work.token(), runtime.readiness.clone());
    let platform = args.platform;
    let certificates = args.certificates.settings(&args.lease_namespace);
    work.spawn("controller", async move {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            leading = leadership.until_leading() => if !leading { return Ok(()) },
        }
        tracing::info!("leading");
        metrics.leading(true);
        let (secrets, recorder) = (client.clone(), Recorder::new(client.clone(), reporter()));
        let (certified, ending) = (metrics.clone(), stop.clone());
        let certify = async move {
            if let Some(settings) = certificates {
                let secrets = ClusterSecrets::new(secrets, &settings.namespace);
                keep(secrets, settings, certified, recorder, ending).await;
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            result = function_app::run(client, platform, metrics.clone(), readiness, stop.clone()) => result?,
            // Ends with the others: every write of it leaves a state that the next leader can go on from.
            () = certify => {}
            // Another replica may lead by now: end at once, with whatever was under way.
            () = leadership.until_following() => anyhow::bail!("the lease was lost"),
        }
        anyhow::Ok(())
    });
    runtime.run().await?;
    Ok(())
}
