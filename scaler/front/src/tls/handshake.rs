//! Handshakes, limited in time and number: each costs a signature, and memory until the client has answered.

use std::{sync::Arc, time::Duration};

use tokio::{net::TcpStream, sync::Semaphore};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::Certificates;
use crate::metrics::Metrics;

/// Makes encrypted connections. Clones share the limit.
#[derive(Clone)]
pub(crate) struct Handshakes {
    acceptor: TlsAcceptor,
    room: Arc<Semaphore>,
    limit: Duration,
}

impl Handshakes {
    /// At most `count` at a time, each done `limit` after the connection was accepted.
    pub(crate) fn new(certificates: &Certificates, count: usize, limit: Duration) -> Self {
        Self {
            acceptor: TlsAcceptor::from(certificates.config()),
            room: Arc::new(Semaphore::new(count)),
            limit,
        }
    }

    /// The encrypted connection; none when there was no handshake in time, which is counted.
    pub(crate) async fn run(
        &self,
        stream: TcpStream,
        metrics: &Metrics,
    ) -> Option<TlsStream<TcpStream>> {
        let handshake = async {
            // A client that says nothing takes no place.
            stream.readable().await?;
            let _place = self.room.acquire().await;
            self.acceptor.accept(stream).await
        };
        match tokio::time::timeout(self.limit, handshake).await {
            Ok(Ok(stream)) => return Some(stream),
            Ok(Err(error)) => {
                metrics.handshake_failed(category(&error));
                tracing::debug!(%error, "no TLS handshake");
            }
            Err(_) => metrics.handshake_failed("timeout"),
        }
        None
    }
}

/// A stable word for what went wrong.
fn category(error: &std::io::Error) -> &'static str {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    match inner {
        Some(rustls::Error::AlertReceived(_)) => "refused-by-client",
        Some(rustls::Error::InvalidMessage(_)) => "not-tls",
        Some(rustls::Error::PeerIncompatible(_) | rustls::Error::NoApplicationProtocol) => {
            "incompatible"
        }
        Some(_) => "protocol",
        None => "closed",
    }
}
