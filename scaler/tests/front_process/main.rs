//! The process `front` as it is started: its arguments, its log, its signals; against a data role that follows a script.

#![allow(clippy::unwrap_used, reason = "tests; a failure here is their result")]

mod collector;
mod drain;
mod https;
mod process;
mod scaler;
mod spans;
mod streams;

use std::{future::Future, net::SocketAddr, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{io::AsyncWriteExt, net::TcpStream};

const HOST: &str = "app.ns.maniple.local";

/// A slow machine needs this long; a healthy one milliseconds.
const HANG: Duration = Duration::from_secs(60);

async fn soon<T>(what: &str, work: impl Future<Output = T>) -> T {
    tokio::time::timeout(HANG, work)
        .await
        .unwrap_or_else(|_| panic!("waited for {what}"))
}

/// Looks until `is` says so.
async fn until(what: &str, mut is: impl AsyncFnMut() -> bool) {
    soon(what, async {
        while !is().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

fn request(path: &str) -> Request<Empty<Bytes>> {
    Request::get(path)
        .header("host", HOST)
        .body(Empty::new())
        .unwrap()
}

type Http1 = hyper::client::conn::http1::SendRequest<Empty<Bytes>>;

/// A connection that stays open.
async fn connect(to: SocketAddr) -> Http1 {
    let stream = TokioIo::new(TcpStream::connect(to).await.unwrap());
    let (sender, connection) = hyper::client::conn::http1::handshake(stream).await.unwrap();
    tokio::spawn(connection.with_upgrades());
    sender
}

type Http2 = hyper::client::conn::http2::SendRequest<Empty<Bytes>>;

/// The same by HTTP/2; the task ends with the connection.
async fn connect_http2(to: SocketAddr) -> (Http2, tokio::task::JoinHandle<hyper::Result<()>>) {
    let stream = TokioIo::new(TcpStream::connect(to).await.unwrap());
    let (sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), stream)
        .await
        .unwrap();
    (sender, tokio::spawn(connection))
}

async fn get(to: SocketAddr, path: &str) -> Response<Incoming> {
    let work = async { connect(to).await.send_request(request(path)).await };
    soon("a response", work).await.unwrap()
}

/// A WebSocket-like connection, upgraded.
async fn socket(to: SocketAddr) -> TokioIo<hyper::upgrade::Upgraded> {
    let request = Request::get("/socket")
        .header("host", HOST)
        .header("connection", "upgrade")
        .header("upgrade", "echo")
        .body(Empty::new())
        .unwrap();
    let response = connect(to).await.send_request(request).await.unwrap();
    assert_eq!(response.status(), 101);
    let mut socket = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
    socket.write_all(b"open").await.unwrap();
    socket
}
