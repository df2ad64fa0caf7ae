//! From the start of the process to its end, with the time limits of the real host.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::environment::Environment;
use crate::generation::Generation;
use crate::host::{Host, LoadError};
use crate::http;
use crate::http::serve::{self, ServeError, Server};
use crate::work::FunctionWork;

/// Time for work other than HTTP after SIGTERM. A constant in the real host.
pub const WORK_LIMIT: Duration = Duration::from_secs(10);

/// Time for HTTP in flight after SIGTERM, unless ASPNETCORE_SHUTDOWNTIMEOUTSECONDS says otherwise.
const HTTP_LIMIT_S: u64 = 30;

/// The stand-in cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its configuration is wrong.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// It cannot listen.
    #[error(transparent)]
    Serve(#[from] ServeError),
}

impl StartError {
    /// A stable name of the kind of error.
    pub fn category(&self) -> &'static str {
        match self {
            Self::Load(error) => error.category(),
            Self::Serve(error) => error.category(),
        }
    }
}

/// A started host that serves its port.
pub struct Instance {
    /// The host.
    pub host: Arc<Host>,
    server: Server,
    http_limit: Duration,
    work_limit: Duration,
}

impl Instance {
    /// Starts a host. The port stays closed until the first start attempt is over.
    pub async fn start(
        environment: Environment,
        work: Arc<dyn FunctionWork>,
    ) -> Result<Self, StartError> {
        let (name, port) = serve::listen_address(environment.get("ASPNETCORE_URLS"))?;
        let http_limit = Duration::from_secs(
            environment.number("ASPNETCORE_SHUTDOWNTIMEOUTSECONDS", HTTP_LIMIT_S),
        );
        let host = Host::load(environment, work)?;
        tracing::info!(
            instance = host.instance,
            host_id = host.host_id.text(),
            "this is a stand-in for the Azure Functions host, not the host itself; starting"
        );
        tokio::time::sleep(host.start_time()).await;
        let listener = serve::bind(&name, port).await?;
        host.finish_start();
        let server = Server::start(listener, http::router(Arc::clone(&host)));
        let status = host.status();
        tracing::info!(
            address = server.address().map(tracing::field::display),
            state = status.state.name(),
            start_ms = host.started.elapsed().as_millis() as u64,
            functions = host.functions.len(),
            "host started"
        );
        for error in &status.errors {
            tracing::error!("{error}");
        }
        Ok(Self {
            host,
            server,
            http_limit,
            work_limit: WORK_LIMIT,
        })
    }

    /// The same instance with another limit for work other than HTTP, for tests.
    #[must_use]
    pub fn with_work_limit(mut self, limit: Duration) -> Self {
        self.work_limit = limit;
        self
    }

    /// Where the instance listens.
    pub fn address(&self) -> Option<SocketAddr> {
        self.server.address()
    }

    /// What SIGTERM does: the port closes at once, HTTP in flight gets its time, then all other work gets its own;
    /// what is left is cut, locks are given back.
    pub async fn terminate(self) {
        tracing::info!("application is shutting down");
        if self.host.environment.drains_on_sigterm() {
            let host = Arc::clone(&self.host);
            tokio::spawn(async move { host.drain().await });
        }
        if !self.server.stop(self.http_limit).await {
            tracing::warn!("requests in flight were reset after {:?}", self.http_limit);
        }
        let generation = self.host.stop_listeners();
        let deadline = tokio::time::sleep(self.work_limit);
        tokio::select! {
            () = self.idle(&generation) => {}
            () = deadline => tracing::warn!("work in flight is cut after {:?}", self.work_limit),
        }
        generation.cut().await;
        let counted = tokio::time::timeout(Duration::from_secs(1), self.idle(&generation)).await;
        if counted.is_err() {
            tracing::warn!("cut work did not end");
        }
        tracing::info!(stats = %http::snapshot(&self.host), "application ended");
    }

    async fn idle(&self, generation: &Generation) {
        generation.listeners.wait().await;
        // Manual runs and requests whose client has gone have nobody to tell of their end.
        while self.host.activity.in_flight() > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}
