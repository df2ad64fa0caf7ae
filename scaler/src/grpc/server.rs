//! The gRPC server: one port for the external scaler, health, reflection and further services of the process.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use clap::Args;
use maniple_proto::{
    FILE_DESCRIPTOR_SET, externalscaler::external_scaler_server::ExternalScalerServer,
};
use maniple_runtime::{Metrics, Readiness};
use tokio::{net::TcpListener, sync::mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{server::NamedService, service::Routes, transport::Server};
use tonic_health::{ServingStatus, server::HealthReporter};

use super::{
    DecisionBook, GrpcError, TlsFiles, incoming, metrics::CallMetrics, port::PortMetrics,
    service::ExternalScalerService, tls::TlsStore,
};

/// All ScaledObjects of a KEDA operator share one connection, with two streams each; hyper's own limit is 200.
const MAX_STREAMS: u32 = 1_000_000;
/// The server asks whether the client is still there; KEDA's client never does.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(10));
/// Every answer comes from memory, so this is never reached unless the machine is overloaded.
const CALL_LIMIT: Duration = Duration::from_secs(1);
/// Connections that are accepted and not yet served.
const BACKLOG: usize = 64;

/// Where and how gRPC is served. Flatten this into the binary's arguments.
#[derive(Debug, Clone, Args)]
pub struct GrpcArgs {
    /// Where KEDA connects to.
    #[arg(long, env = "MANIPLE_GRPC_ADDRESS", default_value = "0.0.0.0:9090")]
    pub grpc_address: SocketAddr,

    /// Certificate of the server, PEM. Without it the port is not encrypted.
    #[arg(long, env = "MANIPLE_GRPC_TLS_CERT", requires = "grpc_tls_key")]
    pub grpc_tls_cert: Option<PathBuf>,

    /// Private key of the server, PEM.
    #[arg(long, env = "MANIPLE_GRPC_TLS_KEY", requires = "grpc_tls_cert")]
    pub grpc_tls_key: Option<PathBuf>,

    /// CAs of the clients, PEM. With it, clients must show a certificate.
    #[arg(long, env = "MANIPLE_GRPC_TLS_CLIENT_CA", requires = "grpc_tls_cert")]
    pub grpc_tls_client_ca: Option<PathBuf>,

    /// Seconds after which a client is asked to connect again, so that it finds new replicas.
    #[arg(long, env = "MANIPLE_GRPC_CONNECTION_AGE_SECONDS", default_value_t = 1800, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub grpc_connection_age_seconds: u64,
}

impl GrpcArgs {
    /// Not encrypted, with the default connection age.
    pub fn plain(address: SocketAddr) -> Self {
        Self {
            grpc_address: address,
            grpc_tls_cert: None,
            grpc_tls_key: None,
            grpc_tls_client_ca: None,
            grpc_connection_age_seconds: 1800,
        }
    }

    fn tls_files(&self) -> Option<TlsFiles> {
        Some(TlsFiles {
            certificate: self.grpc_tls_cert.clone()?,
            key: self.grpc_tls_key.clone()?,
            client_ca: self.grpc_tls_client_ca.clone(),
        })
    }
}

/// An open gRPC port.
pub struct GrpcServer {
    listener: TcpListener,
    tls: Option<Arc<TlsStore>>,
    connection_age: Duration,
}

impl GrpcServer {
    /// Opens the port and reads the certificates.
    ///
    /// # Errors
    /// When the address cannot be opened or the TLS files cannot be used.
    pub async fn bind(args: &GrpcArgs) -> Result<Self, GrpcError> {
        let tls = args
            .tls_files()
            .map(|files| TlsStore::load("grpc", files))
            .transpose()?
            .map(Arc::new);
        let address = args.grpc_address;
        let listener = TcpListener::bind(address)
            .await
            .map_err(|source| GrpcError::Bind { address, source })?;
        let connection_age = Duration::from_secs(args.grpc_connection_age_seconds);
        Ok(Self {
            listener,
            tls,
            connection_age,
        })
    }

    /// The address in use; tells the port when port 0 was asked for.
    pub fn local_address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `stop` is cancelled and the streams have ended.
    ///
    /// `further` are other services for the same port; their streams must end by themselves when `stop` is
    /// cancelled. The health service says SERVING while `readiness` is ready.
    ///
    /// # Errors
    /// When serving fails for good.
    pub async fn serve(
        self,
        book: Arc<dyn DecisionBook>,
        further: Routes,
        readiness: Readiness,
        metrics: &Metrics,
        stop: CancellationToken,
    ) -> Result<(), GrpcError> {
        let calls = CallMetrics::register(metrics);
        let metrics = PortMetrics::of_external_scaler(metrics);
        let service = ExternalScalerService::new(book, calls, stop.clone()).into_server();
        let reporter = HealthReporter::new();
        let health = tonic_health::pb::health_server::HealthServer::new(
            tonic_health::server::HealthService::from_health_reporter(reporter.clone()),
        );
        let reflection = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .build_v1()
            .expect("the committed descriptors are tested");
        let routes = further
            .add_service(service)
            .add_service(health)
            .add_service(reflection);

        // Ends the helpers also when serving fails.
        let helpers = stop.child_token();
        let _end = helpers.clone().drop_guard();
        if let Some(store) = &self.tls {
            let (store, metrics, stop) = (Arc::clone(store), metrics.clone(), helpers.clone());
            tokio::spawn(async move { store.follow(metrics, stop).await });
        }
        tokio::spawn(report_health(reporter, readiness, helpers.clone()));
        let (sender, connections) = mpsc::channel(BACKLOG);
        tokio::spawn(incoming::accept(
            self.listener,
            self.tls,
            self.connection_age,
            metrics,
            sender,
            helpers,
        ));

        let (interval, limit) = KEEPALIVE;
        Server::builder()
            .max_concurrent_streams(MAX_STREAMS)
            .http2_keepalive_interval(Some(interval))
            .http2_keepalive_timeout(Some(limit))
            // Without tonic's own grace time: with it, 0.14.9 cuts the connection and never asks the client to leave.
            // Our streams end by themselves soon after the age.
            .max_connection_age(self.connection_age)
            .timeout(CALL_LIMIT)
            .serve_with_incoming_shutdown(
                routes.prepare(),
                ReceiverStream::new(connections),
                stop.cancelled_owned(),
            )
            .await?;
        Ok(())
    }
}

impl std::fmt::Debug for GrpcServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GrpcServer")
            .field("listener", &self.listener)
            .field("tls", &self.tls.is_some())
            .finish_non_exhaustive()
    }
}

/// Keeps the health service in step with the readiness of the process.
async fn report_health(
    mut reporter: HealthReporter,
    readiness: Readiness,
    stop: CancellationToken,
) {
    let scaler = <ExternalScalerServer<ExternalScalerService> as NamedService>::NAME;
    let mut ready = readiness.is_ready();
    loop {
        let status = if ready {
            ServingStatus::Serving
        } else {
            ServingStatus::NotServing
        };
        reporter.set_service_status("", status).await;
        reporter.set_service_status(scaler, status).await;
        ready = !ready;
        if stop
            .run_until_cancelled(readiness.until(ready))
            .await
            .is_none()
        {
            // Ends the streams of those who watch.
            reporter.clear_service_status("").await;
            reporter.clear_service_status(scaler).await;
            return;
        }
    }
}
