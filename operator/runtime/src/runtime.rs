//! The parts together, in the order in which every `main` needs them.

use std::{net::SocketAddr, time::Duration};

use axum::Router;
use kube::Client;

use crate::{
    AdminServer, ClientProfile, Error, KubeArgs, Metrics, Readiness, RuntimeArgs, Shutdown,
    client::{install_tls_provider, kube_client},
    telemetry,
};

/// How long open admin requests may take when the process stops.
const ADMIN_STOP: Duration = Duration::from_secs(2);

/// Which binary this is.
#[derive(Debug, Clone, Copy)]
pub struct Component {
    /// Short name, as in the image and the chart: `operator`, `scaler`.
    pub name: &'static str,
    /// Its version, `env!("CARGO_PKG_VERSION")`.
    pub version: &'static str,
}

impl Component {
    /// A component of this name and version.
    pub const fn new(name: &'static str, version: &'static str) -> Self {
        Self { name, version }
    }
}

/// What a binary holds from its first line to its last.
#[derive(Debug)]
pub struct Runtime {
    /// The metrics registry.
    pub metrics: Metrics,
    /// What /ready waits for.
    pub readiness: Readiness,
    /// The stages in which the process stops; the admin server stops after all of them.
    pub shutdown: Shutdown,
    component: Component,
    admin_address: SocketAddr,
    kube: KubeArgs,
}

impl Runtime {
    /// TLS provider, logs, signals. Call it first thing in `main`, inside the tokio runtime.
    ///
    /// # Errors
    /// When the log filter is wrong, logging is already set up, or signals cannot be handled.
    pub fn init(component: Component, args: RuntimeArgs) -> Result<Self, Error> {
        install_tls_provider();
        telemetry::init(&args.log)?;
        let shutdown = Shutdown::new();
        shutdown.listen_for_signals()?;
        tracing::info!(
            component = component.name,
            version = component.version,
            "starting"
        );
        Ok(Self {
            metrics: Metrics::new(component),
            readiness: Readiness::default(),
            shutdown,
            component,
            admin_address: args.admin_address,
            kube: args.kube,
        })
    }

    /// Opens the admin port and serves `/metrics`, `/live`, `/ready` and `extra` until everything else has stopped.
    /// Returns the address in use. From the first request to stop on, /ready answers 503.
    ///
    /// # Errors
    /// When the port cannot be opened.
    pub async fn serve_admin(&mut self, extra: Router) -> Result<SocketAddr, Error> {
        let server = AdminServer::bind(self.admin_address).await?;
        let address = server.local_address().unwrap_or(self.admin_address);
        tracing::info!(%address, "admin server");
        let stage = self.shutdown.last_stage("admin server", ADMIN_STOP);
        let (metrics, readiness) = (self.metrics.clone(), self.readiness.clone());
        stage.spawn(
            "admin server",
            server.serve(metrics, readiness, extra, stage.token()),
        );

        let (requested, readiness) = (self.shutdown.requested(), self.readiness.clone());
        tokio::spawn(async move {
            requested.cancelled().await;
            // Held until the process ends.
            let _stopping = readiness.pending("the process to stop");
            std::future::pending::<()>().await;
        });
        Ok(address)
    }

    /// A Kubernetes client with this component's user agent.
    ///
    /// # Errors
    /// When there is no usable cluster configuration.
    pub async fn kube_client(&self, profile: ClientProfile) -> Result<Client, Error> {
        kube_client(self.component, &self.kube, profile).await
    }

    /// Waits until the process is asked to stop and stops it.
    ///
    /// # Errors
    /// The reason when it was not a signal that asked.
    pub async fn run(self) -> Result<(), Error> {
        let result = self.shutdown.run().await;
        tracing::info!(
            component = self.component.name,
            ok = result.is_ok(),
            "stopped"
        );
        result
    }
}
