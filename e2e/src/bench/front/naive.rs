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

/// Proxies uploads to one instance and the rest to `upstreams` in turn, forever.
pub(super) async fn run(
    listen: SocketAddr,
    upload: SocketAddr,
    upstreams: Vec<SocketAddr>,
) -> Result<()> {
    let client: Client<_, Incoming> = Client::builder(TokioExecutor::new()).build_http();
    let state: &'static _ = Box::leak(Box::new((client, upstreams, AtomicUsize::new(0))));
    let listener = TcpListener::bind(listen).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let service = service_fn(move |mut request: Request<Incoming>| {
            let (client, upstreams, turn) = state;
            let path = request.uri().path_and_query().map_or("/", |p| p.as_str());
            let next = match path {
                "/upload" => upload,
                _ => upstreams[turn.fetch_add(1, Ordering::Relaxed) % upstreams.len()],
            };
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
