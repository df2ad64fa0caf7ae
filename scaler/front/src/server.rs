//! Accepting connections, and ending them in order.

use std::{
    convert::Infallible,
    future::{Future, poll_fn},
    net::IpAddr,
    pin::pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use hyper::service::service_fn;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    closing::{BusyBody, Closing, End},
    gather::Gather,
    headers::{Origin, Scheme},
    proxy::Proxy,
    timer::HeadTimer,
    tls::{Certificates, Handshakes},
};

/// While there is no room for a connection, idle ones are looked for this often.
const LOOK_FOR_IDLE: Duration = Duration::from_millis(100);

/// A client that takes nothing of what is sent for so long is cut off by the kernel, whether it answers or not: its response holds a slot.
const STALLED: Duration = Duration::from_secs(60);

/// After so long without a sign of life the kernel asks whether a client is still there.
const QUIET: Duration = Duration::from_secs(60);

/// Limits of the client side.
#[derive(Clone, Debug)]
pub struct ServerSettings {
    /// Connections at a time, upgraded ones not counted. For more, idle ones are closed; while all are busy, more wait in the kernel's queue.
    pub connections: usize,
    /// How long a client may take for the head of a request, idle time between requests included.
    pub head_limit: Duration,
    /// Bytes of a request's head.
    pub head_bytes: usize,
    /// Header lines of an HTTP/1.1 request.
    pub head_lines: usize,
    /// HTTP/2 requests at a time on one connection.
    pub streams: u32,
    /// TLS handshakes at a time; more wait.
    pub handshakes: usize,
    /// Time from an accepted connection to the end of its TLS handshake.
    pub handshake_limit: Duration,
    /// How long connections may go on after the stop.
    pub drain_limit: Duration,
}

/// Header lines that hyper reads without asking for memory; also what the function host's web server takes.
const HEAD_LINES: usize = 100;

impl Default for ServerSettings {
    fn default() -> Self {
        Self {
            connections: 20_000,
            head_limit: Duration::from_secs(60),
            head_bytes: 64 * 1024,
            head_lines: HEAD_LINES,
            streams: 250,
            handshakes: 500,
            handshake_limit: Duration::from_secs(10),
            drain_limit: Duration::from_secs(240),
        }
    }
}

/// Where connections come in.
#[derive(Debug)]
pub struct Door {
    /// The open port.
    pub listener: TcpListener,
    /// None: plain text.
    pub certificates: Option<Certificates>,
}

/// Serves one plain-text port, see [`serve_all`].
pub async fn serve(
    listener: TcpListener,
    proxy: Arc<Proxy>,
    settings: ServerSettings,
    stop: CancellationToken,
) {
    let door = Door {
        listener,
        certificates: None,
    };
    serve_all(vec![door], proxy, settings, stop).await;
}

/// Serves `doors` until `stop`, then lets running requests end: HTTP/1.1 connections close after their response, HTTP/2 ones get GOAWAY. Returns when the last
/// one is closed, upgraded ones included, or cuts them at the drain limit.
pub async fn serve_all(
    doors: Vec<Door>,
    proxy: Arc<Proxy>,
    settings: ServerSettings,
    stop: CancellationToken,
) {
    let open = TaskTracker::new();
    let closing = Closing::default();
    let cut = CancellationToken::new();
    let shared = Shared {
        room: Arc::new(Semaphore::new(settings.connections)),
        leave_together: settings.connections / 64 + 1,
        builder: Arc::new(builder(&settings)),
        closing: closing.clone(),
        open: open.clone(),
        cut: cut.clone(),
        stop,
        proxy: proxy.clone(),
    };
    let accepting = doors.into_iter().map(|door| {
        let handshakes = door.certificates.map(|certificates| {
            Handshakes::new(&certificates, settings.handshakes, settings.handshake_limit)
        });
        shared.clone().accept(door.listener, handshakes)
    });
    futures::future::join_all(accepting).await;
    closing.tell(End::Graceful);
    open.close();
    proxy.tunnels().close();
    let quiet = async {
        open.wait().await;
        proxy.tunnels().wait().await;
    };
    if tokio::time::timeout(settings.drain_limit, quiet)
        .await
        .is_err()
    {
        tracing::warn!(
            connections = open.len(),
            upgraded = proxy.tunnels().len(),
            "connections are cut at the drain limit"
        );
        closing.tell(End::Cut);
        cut.cancel();
        open.wait().await;
    }
}

/// What all doors share.
#[derive(Clone)]
struct Shared {
    room: Arc<Semaphore>,
    /// Idle connections that are closed at a time, when there is no room.
    leave_together: usize,
    builder: Arc<auto::Builder<TokioExecutor>>,
    closing: Closing,
    open: TaskTracker,
    /// Ends handshakes at the drain limit.
    cut: CancellationToken,
    stop: CancellationToken,
    proxy: Arc<Proxy>,
}

impl Shared {
    async fn accept(self, listener: TcpListener, handshakes: Option<Handshakes>) {
        loop {
            let permit = tokio::select! {
                () = self.stop.cancelled() => return,
                permit = self.permit() => permit,
            };
            let (stream, peer) = tokio::select! {
                () = self.stop.cancelled() => return,
                accepted = listener.accept() => match accepted {
                    Ok(accepted) => accepted,
                    Err(error) => {
                        // Out of file descriptors mostly; accepting again at once would only spin.
                        tracing::warn!(%error, "connection not accepted");
                        tokio::time::sleep(Duration::from_millis(50)).await;
                        continue;
                    }
                },
            };
            tune(&stream);
            let (shared, handshakes) = (self.clone(), handshakes.clone());
            self.open.spawn(async move {
                shared.connection(stream, peer.ip(), handshakes).await;
                drop(permit);
            });
        }
    }

    /// Room for one more connection: when there is none, idle ones are closed.
    async fn permit(&self) -> OwnedSemaphorePermit {
        loop {
            let room = self.room.clone();
            if let Ok(permit) = room.clone().try_acquire_owned() {
                return permit;
            }
            self.closing.make_room(self.leave_together);
            if let Ok(permit) = timeout(LOOK_FOR_IDLE, room.acquire_owned()).await {
                return permit.expect("nobody closes the room");
            }
        }
    }

    async fn connection(&self, stream: TcpStream, peer: IpAddr, handshakes: Option<Handshakes>) {
        let metrics = self.proxy.metrics();
        let origin = |scheme| Origin { peer, scheme };
        match handshakes {
            None => {
                let _open = metrics.connection("http");
                self.serve(Gather::new(stream), origin(Scheme::Http)).await;
            }
            Some(handshakes) => {
                let _open = metrics.connection("https");
                let secured = tokio::select! {
                    secured = handshakes.run(stream, metrics) => secured,
                    () = self.cut.cancelled() => return,
                };
                if let Some(stream) = secured {
                    self.serve(stream, origin(Scheme::Https)).await;
                }
            }
        }
    }

    /// Serves one connection, whatever carries it.
    async fn serve<S>(&self, stream: S, origin: Origin)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        // One count of users for each connection, not one for all that every core writes at every request.
        let own = Arc::new(self.proxy.clone());
        let (place, mut told) = (self.closing.enter(), End::None);
        let usage = place.usage();
        let service = service_fn(move |request| {
            let (proxy, busy) = (own.clone(), usage.begin());
            // Some KiB that would be moved several times, and that idle connections would keep room for.
            Box::pin(async move {
                let response = proxy.handle(request, origin).await;
                Ok::<_, Infallible>(response.map(|body| BusyBody::new(body, busy)))
            })
        });
        let mut builder = self.builder.as_ref().clone();
        builder.http1().timer(HeadTimer::default());
        let mut connection =
            pin!(builder.serve_connection_with_upgrades(TokioIo::new(stream), service));
        let ended = poll_fn(|cx| {
            let end = place.poll(cx);
            if end == End::Cut || place.leaves() {
                return Poll::Ready(Ok(()));
            }
            if end != told {
                told = end;
                connection.as_mut().graceful_shutdown();
            }
            connection.as_mut().poll(cx)
        })
        .await;
        if let Err(error) = ended {
            tracing::debug!(%error, peer = %origin.peer, "connection ended");
        }
    }
}

/// Options of a client's socket. Without them it is served too.
fn tune(stream: &TcpStream) {
    let socket = SockRef::from(stream);
    let keepalive = TcpKeepalive::new().with_time(QUIET);
    let tuned = socket
        .set_tcp_nodelay(true)
        .and_then(|()| socket.set_tcp_user_timeout(Some(STALLED)))
        .and_then(|()| socket.set_tcp_keepalive(&keepalive));
    if let Err(error) = tuned {
        tracing::debug!(%error, "options of a client's socket");
    }
}

fn builder(settings: &ServerSettings) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .header_read_timeout(settings.head_limit)
        .max_buf_size(settings.head_bytes);
    if settings.head_lines != HEAD_LINES {
        builder.http1().max_headers(settings.head_lines);
    }
    builder
        .http2()
        .timer(TokioTimer::new())
        .enable_connect_protocol()
        .adaptive_window(true)
        .max_concurrent_streams(settings.streams)
        .max_header_list_size(u32::try_from(settings.head_bytes).unwrap_or(u32::MAX))
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(20));
    builder
}
