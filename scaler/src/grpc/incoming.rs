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

use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc},
    time::Instant,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Connected;

use super::{port::PortMetrics, tls::TlsStore};

/// A client that does not finish the TLS handshake in this time is cut off.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);
/// Handshakes at a time; those who come beside them are cut off. A handshake costs about a millisecond, and a client that never ends
/// one holds memory for the time above.
const HANDSHAKES: usize = 256;
/// Failed handshakes are told of once in this time: a client that is not trusted comes again every second.
const TELL_AGAIN: Duration = Duration::from_secs(10);
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
    metrics: PortMetrics,
    connections: mpsc::Sender<io::Result<Connection>>,
    stop: CancellationToken,
) {
    let door = Door {
        tls,
        metrics,
        places: Arc::new(Semaphore::new(HANDSHAKES)),
        told: Arc::default(),
    };
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
        door.metrics.connected();
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%peer, %error, "grpc: no TCP_NODELAY");
        }
        let (door, connections) = (door.clone(), connections.clone());
        tokio::spawn(async move {
            let Some(io) = door.shake_hands(stream, peer).await else {
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

/// Where connections come in.
#[derive(Clone)]
struct Door {
    tls: Option<Arc<TlsStore>>,
    metrics: PortMetrics,
    places: Arc<Semaphore>,
    /// When a failure was last told of.
    told: Arc<Mutex<Option<Instant>>>,
}

impl Door {
    async fn shake_hands(&self, stream: TcpStream, peer: SocketAddr) -> Option<Io> {
        let Some(store) = &self.tls else {
            return Some(Io::Plain(stream));
        };
        match self.handshake(store, stream).await {
            Ok(stream) => Some(Io::Tls(stream)),
            Err(error) => {
                self.metrics.refused();
                self.tell(store.port, peer, &error);
                None
            }
        }
    }

    async fn handshake(
        &self,
        store: &TlsStore,
        stream: TcpStream,
    ) -> Result<Box<TlsStream<TcpStream>>, String> {
        let Ok(_place) = self.places.try_acquire() else {
            return Err(format!("{HANDSHAKES} others are under way"));
        };
        let accept = TlsAcceptor::from(store.current()).accept(stream);
        match tokio::time::timeout(HANDSHAKE_LIMIT, accept).await {
            Ok(Ok(stream)) => Ok(Box::new(stream)),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!(
                "it took longer than {} s",
                HANDSHAKE_LIMIT.as_secs()
            )),
        }
    }

    fn tell(&self, port: &'static str, peer: SocketAddr, error: &str) {
        let mut told = self.told.lock();
        if told.is_some_and(|at| at.elapsed() < TELL_AGAIN) {
            tracing::debug!(port, %peer, error, "tls handshake failed");
            return;
        }
        *told = Some(Instant::now());
        tracing::warn!(
            port,
            %peer,
            error,
            "tls handshake failed; the client has to trust the CA of this port, and to show a certificate of the client CA if there is one"
        );
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grpc::TlsFiles;

    #[tokio::test]
    async fn a_crowd_that_never_ends_its_handshakes_leaves_no_more_than_its_share() {
        let folder = tempfile::tempdir().unwrap();
        let pair = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let files = TlsFiles {
            certificate: folder.path().join("tls.crt"),
            key: folder.path().join("tls.key"),
            client_ca: None,
        };
        std::fs::write(&files.certificate, pair.cert.pem()).unwrap();
        std::fs::write(&files.key, pair.signing_key.serialize_pem()).unwrap();
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let metrics = PortMetrics::default();
        let (sender, _connections) = mpsc::channel(1);
        let stop = CancellationToken::new();
        let _stop = stop.clone().drop_guard();
        let store = Arc::new(TlsStore::load("test", files).unwrap());
        let age = Duration::from_secs(3600);
        tokio::spawn(accept(
            listener,
            Some(store),
            age,
            metrics.clone(),
            sender,
            stop,
        ));

        let beyond = 20;
        let mut crowd = Vec::new();
        for _ in 0..HANDSHAKES + beyond {
            crowd.push(TcpStream::connect(address).await.unwrap());
        }
        let until = async |count: usize| {
            let counted = async {
                while metrics.refusals() < count as u64 {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            };
            tokio::time::timeout(Duration::from_secs(8), counted)
                .await
                .expect("refusals are counted");
        };
        until(beyond).await;
        assert_eq!(metrics.refusals(), beyond as u64);
        // Places are free again when the crowd goes.
        crowd.clear();
        until(HANDSHAKES + beyond).await;
    }
}
