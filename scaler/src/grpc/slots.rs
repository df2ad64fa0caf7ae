//! The port for front ends. It is not KEDA's port: who connects here is lent slots and told every route, so that both sides must
//! show a certificate of a CA that nobody else uses.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use clap::Args;
use maniple_runtime::Metrics;
use tokio::{net::TcpListener, sync::mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{service::Routes, transport::Server};

use super::{GrpcError, TlsFiles, incoming, port::PortMetrics, tls::TlsStore};

/// Streams live as long as their processes; a new replica is found by the front ends themselves.
const CONNECTION_AGE: Duration = Duration::from_secs(10 * 365 * 86_400);
/// A front end that says nothing for the sum of both is cut off: 4 s.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(2));
/// Connections that are accepted and not yet served.
const BACKLOG: usize = 64;

/// Where front ends connect to. Flatten this into the binary's arguments.
#[derive(Debug, Clone, Default, Args)]
pub struct SlotsArgs {
    /// Where front ends connect to. Without it no front end is served.
    #[arg(long, env = "MANIPLE_SLOTS_ADDRESS")]
    pub slots_address: Option<SocketAddr>,

    /// Certificate of the server, PEM.
    #[arg(long, env = "MANIPLE_SLOTS_TLS_CERT")]
    pub slots_tls_cert: Option<PathBuf>,

    /// Private key of the server, PEM.
    #[arg(long, env = "MANIPLE_SLOTS_TLS_KEY")]
    pub slots_tls_key: Option<PathBuf>,

    /// CAs of the front ends' certificates, PEM.
    #[arg(long, env = "MANIPLE_SLOTS_TLS_CLIENT_CA")]
    pub slots_tls_client_ca: Option<PathBuf>,

    /// Domain of the apps' own hosts: an app answers at `<app>.<namespace>.<domain>`.
    #[arg(long, env = "MANIPLE_DOMAIN", default_value = "maniple.local")]
    pub domain: String,

    /// Neither encryption nor authentication of front ends. For tests.
    #[arg(long)]
    pub slots_insecure: bool,
}

impl SlotsArgs {
    /// The files, all of them; `None` when plain text was asked for.
    fn tls_files(&self) -> Result<Option<TlsFiles>, GrpcError> {
        match (
            &self.slots_tls_cert,
            &self.slots_tls_key,
            &self.slots_tls_client_ca,
        ) {
            (Some(certificate), Some(key), Some(ca)) if !self.slots_insecure => {
                Ok(Some(TlsFiles {
                    certificate: certificate.clone(),
                    key: key.clone(),
                    client_ca: Some(ca.clone()),
                }))
            }
            (None, None, None) if self.slots_insecure => Ok(None),
            _ => Err(GrpcError::SlotsTls),
        }
    }
}

/// An open port for front ends.
pub struct SlotsServer {
    listener: TcpListener,
    tls: Option<Arc<TlsStore>>,
    metrics: PortMetrics,
}

impl SlotsServer {
    /// Opens the port and reads the certificates; `None` when no address is given.
    ///
    /// # Errors
    /// When the address cannot be opened, the TLS files cannot be used, or one of them is missing.
    pub async fn bind(args: &SlotsArgs) -> Result<Option<Self>, GrpcError> {
        let Some(address) = args.slots_address else {
            return Ok(None);
        };
        let tls = args
            .tls_files()?
            .map(|files| TlsStore::load("slots", files))
            .transpose()?
            .map(Arc::new);
        let listener = TcpListener::bind(address)
            .await
            .map_err(|source| GrpcError::BindSlots { address, source })?;
        Ok(Some(Self {
            listener,
            tls,
            metrics: PortMetrics::default(),
        }))
    }

    /// Shows what comes in.
    #[must_use]
    pub fn counted(mut self, metrics: &Metrics) -> Self {
        self.metrics = PortMetrics::of_slots(metrics);
        self
    }

    /// The address in use; tells the port when port 0 was asked for.
    pub fn local_address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves `routes` (the Slots service) until `stop` is cancelled and the streams have ended, which they must do by themselves.
    ///
    /// # Errors
    /// When serving fails for good.
    pub async fn serve(self, routes: Routes, stop: CancellationToken) -> Result<(), GrpcError> {
        let metrics = self.metrics;
        // Ends the helpers also when serving fails.
        let helpers = stop.child_token();
        let _end = helpers.clone().drop_guard();
        if let Some(store) = &self.tls {
            let (store, metrics, stop) = (Arc::clone(store), metrics.clone(), helpers.clone());
            tokio::spawn(async move { store.follow(metrics, stop).await });
        }
        let (sender, connections) = mpsc::channel(BACKLOG);
        tokio::spawn(incoming::accept(
            self.listener,
            self.tls,
            CONNECTION_AGE,
            metrics,
            sender,
            helpers,
        ));
        let (interval, limit) = KEEPALIVE;
        Server::builder()
            .http2_keepalive_interval(Some(interval))
            .http2_keepalive_timeout(Some(limit))
            .serve_with_incoming_shutdown(
                routes.prepare(),
                ReceiverStream::new(connections),
                stop.cancelled_owned(),
            )
            .await?;
        Ok(())
    }
}

impl std::fmt::Debug for SlotsServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SlotsServer")
            .field("listener", &self.listener)
            .field("tls", &self.tls.is_some())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn plain_text_has_to_be_asked_for() {
        let address = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
        let bind = async |args: SlotsArgs| SlotsServer::bind(&args).await;
        assert!(bind(SlotsArgs::default()).await.unwrap().is_none());
        let neither = SlotsArgs {
            slots_address: address,
            ..SlotsArgs::default()
        };
        let error = bind(neither.clone()).await.unwrap_err();
        assert_eq!(error.category(), "tls");
        let half = SlotsArgs {
            slots_tls_cert: Some("tls.crt".into()),
            slots_insecure: true,
            ..neither.clone()
        };
        assert_eq!(bind(half).await.unwrap_err().category(), "tls");
        let plain = SlotsArgs {
            slots_insecure: true,
            ..neither
        };
        assert!(bind(plain).await.unwrap().is_some());
    }
}
