//! The naive peer: a proxy of a few lines on the same libraries, without routes, slots, limits or header rules.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicUsize, Ordering},
};

use anyhow::Result;
use http::{Request, Uri};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    client::legacy::Client,
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use tokio::net::TcpListener;

/// Proxies everything to `upstreams` in turn, forever.
pub(super) async fn run(listen: SocketAddr, upstreams: Vec<SocketAddr>) -> Result<()> {
    let client: Client<_, Incoming> = Client::builder(TokioExecutor::new()).build_http();
    let state: &'static _ = Box::leak(Box::new((client, upstreams, AtomicUsize::new(0))));
    let listener = TcpListener::bind(listen).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let service = service_fn(move |mut request: Request<Incoming>| {
            let (client, upstreams, turn) = state;
            let next = upstreams[turn.fetch_add(1, Ordering::Relaxed) % upstreams.len()];
            let path = request.uri().path_and_query().map_or("/", |p| p.as_str());
            let target: Result<Uri, _> = format!("http://{next}{path}").parse();
            *request.uri_mut() = target.expect("a path that was parsed before");
            *request.version_mut() = http::Version::HTTP_11;
            client.request(request)
        });
        tokio::spawn(async move {
            let builder = auto::Builder::new(TokioExecutor::new());
            let connection = builder.serve_connection(TokioIo::new(stream), service);
            connection.await.ok();
        });
    }
}
