//! Instances on real sockets that count what runs on them.

use std::{
    convert::Infallible,
    fmt::Write as _,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, StreamBody, combinators::BoxBody};
use hyper::{
    body::{Frame, Incoming},
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use tokio::{io::AsyncWriteExt, net::TcpListener, sync::watch};
use tokio_util::sync::{CancellationToken, DropGuard};

type Body = BoxBody<Bytes, std::io::Error>;

/// What an instance has seen.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    running: AtomicU32,
    most: AtomicU32,
    total: AtomicU32,
}

impl Seen {
    pub(crate) fn running(&self) -> u32 {
        self.running.load(Ordering::SeqCst)
    }

    pub(crate) fn most(&self) -> u32 {
        self.most.load(Ordering::SeqCst)
    }

    pub(crate) fn total(&self) -> u32 {
        self.total.load(Ordering::SeqCst)
    }
}

/// Counts a request while it lives.
struct Running(Arc<Seen>);

impl Running {
    fn new(seen: &Arc<Seen>) -> Self {
        let now = seen.running.fetch_add(1, Ordering::SeqCst) + 1;
        seen.most.fetch_max(now, Ordering::SeqCst);
        seen.total.fetch_add(1, Ordering::SeqCst);
        Self(seen.clone())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

/// An instance that answers by the path of the request.
pub(crate) struct Instance {
    pub(crate) address: SocketAddr,
    pub(crate) seen: Arc<Seen>,
    /// Requests to `/hold` answer when this is true.
    pub(crate) open: watch::Sender<bool>,
    /// `/events` ends when this or `open` is true.
    pub(crate) end_events: watch::Sender<bool>,
    /// Whether every request is refused with the scale-out signal, once its body was read.
    pub(crate) shed: Arc<AtomicBool>,
    _stop: DropGuard,
}

impl Instance {
    pub(crate) async fn start() -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    pub(crate) fn on(listener: TcpListener) -> Self {
        Self::limited(listener, None)
    }

    /// One that allows so many HTTP/2 requests at a time on a connection.
    pub(crate) async fn with_streams(streams: u32) -> Self {
        Self::limited(
            TcpListener::bind("127.0.0.1:0").await.unwrap(),
            Some(streams),
        )
    }

    fn limited(listener: TcpListener, streams: Option<u32>) -> Self {
        let shed = Arc::new(AtomicBool::new(false));
        let sheds = shed.clone();
        let (open, _) = watch::channel(false);
        let (end_events, _) = watch::channel(false);
        let (seen, stop) = (Arc::new(Seen::default()), CancellationToken::new());
        let address = listener.local_addr().unwrap();
        let (counted, gate, end, token) =
            (seen.clone(), open.clone(), end_events.clone(), stop.clone());
        tokio::spawn(async move {
            loop {
                let stream = tokio::select! {
                    () = token.cancelled() => return,
                    accepted = listener.accept() => accepted.unwrap().0,
                };
                let (seen, open, end, token) = (
                    counted.clone(),
                    gate.subscribe(),
                    end.subscribe(),
                    token.clone(),
                );
                let sheds = sheds.clone();
                let service = service_fn(move |request| {
                    let sheds = sheds.load(Ordering::SeqCst);
                    answer(request, seen.clone(), open.clone(), end.clone(), sheds)
                });
                tokio::spawn(async move {
                    let mut builder = auto::Builder::new(TokioExecutor::new());
                    if let Some(streams) = streams {
                        builder.http2().max_concurrent_streams(streams);
                    }
                    let connection =
                        builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
                    tokio::select! {
                        () = token.cancelled() => {}
                        ended = connection => drop(ended),
                    }
                });
            }
        });
        Self {
            address,
            seen,
            open,
            end_events,
            shed,
            _stop: stop.drop_guard(),
        }
    }
}

fn full(text: impl Into<Bytes>) -> Body {
    http_body_util::Full::new(text.into())
        .map_err(|never: Infallible| match never {})
        .boxed()
}

async fn answer(
    mut request: Request<Incoming>,
    seen: Arc<Seen>,
    mut open: watch::Receiver<bool>,
    end: watch::Receiver<bool>,
    sheds: bool,
) -> Result<Response<Body>, std::io::Error> {
    if request.uri().path() == "/probe" {
        return Ok(Response::new(full("")));
    }
    let running = Running::new(&seen);
    if sheds {
        request.body_mut().collect().await.ok();
        return Ok(scale_out(StatusCode::TOO_MANY_REQUESTS, ""));
    }
    let path = request.uri().path().to_owned();
    match path.as_str() {
        "/hold" => {
            open.wait_for(|open| *open).await.ok();
            Ok(Response::new(full("held")))
        }
        "/work" => {
            tokio::time::sleep(Duration::from_millis(fastrand::u64(1..6))).await;
            drop(running);
            Ok(Response::new(full("done")))
        }
        "/headers" => Ok(Response::new(full(listing(&request)))),
        "/handshake" => {
            let mut response = Response::new(full(listing(&request)));
            *response.status_mut() = StatusCode::UPGRADE_REQUIRED;
            Ok(response)
        }
        "/echo-late" => {
            let body = request.into_body().collect().await;
            let body = body.map_err(std::io::Error::other)?;
            Ok(Response::new(full(body.to_bytes())))
        }
        "/echo" => {
            let body = request.into_body().map_err(std::io::Error::other).boxed();
            Ok(Response::new(guarded(body, running)))
        }
        "/big" => Ok(Response::new(guarded(many_chunks(1024), running))),
        "/ticks" => Ok(Response::new(guarded(ticks(), running))),
        "/events" => Ok(Response::new(guarded(events(open, end), running))),
        "/scaleout-200" => Ok(scale_out(StatusCode::OK, "fine")),
        "/die" => {
            let (to, half) = futures::channel::mpsc::unbounded();
            to.unbounded_send(Ok(Frame::data(Bytes::from_static(b"half"))))
                .ok();
            tokio::spawn(async move {
                // The first half has to leave before the connection breaks.
                tokio::time::sleep(Duration::from_millis(20)).await;
                to.unbounded_send(Err(std::io::Error::other("dies in the middle of its body")))
                    .ok();
            });
            Ok(Response::new(BodyExt::boxed(StreamBody::new(half))))
        }
        "/trailers" => Ok(Response::new(with_trailers())),
        "/socket" => Ok(upgrade(&mut request, running)),
        _ => Ok(Response::new(full(path))),
    }
}

fn scale_out(status: StatusCode, text: &'static str) -> Response<Body> {
    let mut response = Response::new(full(text));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert("x-function-scaleout", HeaderValue::from_static("1"));
    response
}

fn listing(request: &Request<Incoming>) -> String {
    let mut text = format!(
        "{} {} {:?}\n",
        request.method(),
        request.uri(),
        request.version()
    );
    for (name, value) in request.headers() {
        writeln!(
            text,
            "{name}: {}",
            String::from_utf8_lossy(value.as_bytes())
        )
        .unwrap();
    }
    text
}

/// A body that counts as running until it ends or is dropped.
fn guarded(body: Body, running: Running) -> Body {
    let mut running = Some(running);
    let mut body = body;
    let frames = futures::stream::poll_fn(move |cx| {
        let frame = std::pin::Pin::new(&mut body).poll_frame_boxed(cx);
        if let std::task::Poll::Ready(None) = frame {
            drop(running.take());
        }
        frame
    });
    BodyExt::boxed(StreamBody::new(frames))
}

trait PollFrame {
    fn poll_frame_boxed(
        self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, std::io::Error>>>;
}

impl PollFrame for Body {
    fn poll_frame_boxed(
        self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        hyper::body::Body::poll_frame(self, cx)
    }
}

/// `count` chunks of 64 KiB.
fn many_chunks(count: usize) -> Body {
    let chunk = Bytes::from(vec![b'x'; 64 * 1024]);
    let frames = futures::stream::iter((0..count).map(move |_| Ok(Frame::data(chunk.clone()))));
    BodyExt::boxed(StreamBody::new(frames))
}

/// An event every few milliseconds, without an end.
fn ticks() -> Body {
    let frames = futures::stream::unfold((), |()| async {
        tokio::time::sleep(Duration::from_millis(5)).await;
        let tick = Frame::data(Bytes::from_static(b"data: tick\n\n"));
        Some((Ok(tick), ()))
    });
    BodyExt::boxed(StreamBody::new(Box::pin(frames)))
}

/// One event at once, a second when the instance is opened.
fn events(mut open: watch::Receiver<bool>, mut end: watch::Receiver<bool>) -> Body {
    let (to, from) = futures::channel::mpsc::unbounded();
    tokio::spawn(async move {
        to.unbounded_send(Ok(Frame::data(Bytes::from_static(b"data: 1\n\n"))))
            .ok();
        tokio::select! {
            _ = open.wait_for(|open| *open) => {}
            _ = end.wait_for(|end| *end) => {}
        }
        to.unbounded_send(Ok(Frame::data(Bytes::from_static(b"data: 2\n\n"))))
            .ok();
    });
    BodyExt::boxed(StreamBody::new(from))
}

fn with_trailers() -> Body {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let frames = futures::stream::iter([
        Ok(Frame::data(Bytes::from_static(b"message"))),
        Ok(Frame::trailers(trailers)),
    ]);
    BodyExt::boxed(StreamBody::new(frames))
}

/// Answers 101 and sends back what comes.
fn upgrade(request: &mut Request<Incoming>, running: Running) -> Response<Body> {
    let client = hyper::upgrade::on(request);
    tokio::spawn(async move {
        let _running = running;
        if let Ok(client) = client.await {
            let (mut read, mut write) = tokio::io::split(TokioIo::new(client));
            tokio::io::copy(&mut read, &mut write).await.ok();
            write.shutdown().await.ok();
        }
    });
    let mut response = Response::new(full(""));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response
        .headers_mut()
        .insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    response
        .headers_mut()
        .insert(header::UPGRADE, HeaderValue::from_static("echo"));
    response
}
