//! Accepted connections, with TLS when it is set up.
//!
//! Own code instead of tonic's for two reasons. A stream has to know when its connection is going to be closed: KEDA's
//! wait before it opens a stream again grows up to 60 s when streams break, and starts anew only when they end cleanly.
//! And certificates are read again when their files change.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::Instant,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Connected;

use super::{metrics::CallMetrics, tls::TlsStore};

/// A client that does not finish the TLS handshake in this time is cut off.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);
/// Wait after an accept that failed, usually for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// The streams of an old connection end spread over this part of its age, so that KEDA does not open all of them at once.
const SPREAD_PART: u32 = 20;
/// Longest such time.
const LONGEST_SPREAD: Duration = Duration::from_secs(10);

/// What a call knows about its connection.
#[derive(Debug, Clone)]
pub(super) struct ConnectionInfo {
    /// When the server asks the client to leave this connection (GOAWAY).
    closes_at: Instant,
    /// The streams end spread over this time after that.
    spread: Duration,
}

impl ConnectionInfo {
    /// When a stream on this connection is to end: soon after the client was asked to leave, so that it opens the next
    /// one on another connection.
    pub(super) fn stream_end(&self) -> Instant {
        self.closes_at + self.spread.mul_f64(fastrand::f64())
    }
}

/// A connection, encrypted or not.
pub(super) struct Connection {
    io: Io,
    info: ConnectionInfo,
}

enum Io {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Connected for Connection {
    type ConnectInfo = ConnectionInfo;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.info.clone()
    }
}

/// Accepts until `stop`; handshakes run beside each other. `age` is the time after which the server closes a connection.
pub(super) async fn accept(
    listener: TcpListener,
    tls: Option<Arc<TlsStore>>,
    age: Duration,
    metrics: CallMetrics,
    connections: mpsc::Sender<io::Result<Connection>>,
    stop: CancellationToken,
) {
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "grpc: a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        metrics.connected();
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%peer, %error, "grpc: no TCP_NODELAY");
        }
        let acceptor = tls.as_ref().map(|store| TlsAcceptor::from(store.current()));
        let connections = connections.clone();
        tokio::spawn(async move {
            let Some(io) = shake_hands(stream, peer, acceptor).await else {
                return;
            };
            let info = ConnectionInfo {
                closes_at: Instant::now() + age,
                spread: (age / SPREAD_PART).min(LONGEST_SPREAD),
            };
            // A closed channel means that the server has stopped; the connection is dropped.
            let _ = connections.send(Ok(Connection { io, info })).await;
        });
    }
}

async fn shake_hands(
    stream: TcpStream,
    peer: SocketAddr,
    acceptor: Option<TlsAcceptor>,
) -> Option<Io> {
    let Some(acceptor) = acceptor else {
        return Some(Io::Plain(stream));
    };
    match tokio::time::timeout(HANDSHAKE_LIMIT, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => Some(Io::Tls(Box::new(stream))),
        Ok(Err(error)) => {
            tracing::warn!(%peer, %error, "grpc: tls handshake failed; check caCert and client certificate of the TriggerAuthentication");
            None
        }
        Err(_) => {
            tracing::warn!(%peer, limit_seconds = HANDSHAKE_LIMIT.as_secs(), "grpc: tls handshake took too long");
            None
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.get_mut().io {
            Io::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Io::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().io {
            Io::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Io::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().io {
            Io::Plain(stream) => Pin::new(stream).poll_write_vectored(context, slices),
            Io::Tls(stream) => Pin::new(stream).poll_write_vectored(context, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.io {
            Io::Plain(stream) => stream.is_write_vectored(),
            Io::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().io {
            Io::Plain(stream) => Pin::new(stream).poll_flush(context),
            Io::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().io {
            Io::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Io::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
