//! The listening socket and its connections, and how they end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// An address that the host cannot listen on.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// ASPNETCORE_URLS cannot be used.
    #[error("ASPNETCORE_URLS is {0:?}; use one address of the form http://+:8080")]
    Urls(String),
    /// The port is taken or not allowed.
    #[error("cannot listen on {address}: {source}; choose another port in ASPNETCORE_URLS")]
    Bind {
        /// Host and port.
        address: String,
        /// Why.
        source: std::io::Error,
    },
}

impl ServeError {
    /// A stable name of the kind of error.
    pub fn category(&self) -> &'static str {
        match self {
            Self::Urls(_) => "urls-malformed",
            Self::Bind { .. } => "port-unavailable",
        }
    }
}

/// The host and port of the first http address in ASPNETCORE_URLS; port 80 on every address by default.
pub fn listen_address(urls: Option<&str>) -> Result<(String, u16), ServeError> {
    let urls = urls.unwrap_or("http://+:80");
    let bad = || ServeError::Urls(urls.to_owned());
    let address = urls
        .split(';')
        .find_map(|url| url.trim().strip_prefix("http://"))
        .ok_or_else(bad)?
        .trim_end_matches('/');
    let (name, port) = match address.rsplit_once(':') {
        Some((name, port)) => (name, port.parse().map_err(|_| bad())?),
        None => (address, 80),
    };
    if name.is_empty() {
        return Err(bad());
    }
    let name = match name {
        "+" | "*" => "[::]",
        other => other,
    };
    Ok((name.to_owned(), port))
}

/// Opens the port. Every address means IPv6 and IPv4, or IPv4 alone where there is no IPv6.
pub async fn bind(name: &str, port: u16) -> Result<TcpListener, ServeError> {
    let address = format!("{name}:{port}");
    match TcpListener::bind(&address).await {
        Ok(listener) => Ok(listener),
        Err(_) if name == "[::]" => bind_to(format!("0.0.0.0:{port}")).await,
        Err(source) => Err(ServeError::Bind { address, source }),
    }
}

async fn bind_to(address: String) -> Result<TcpListener, ServeError> {
    TcpListener::bind(&address)
        .await
        .map_err(|source| ServeError::Bind { address, source })
}

/// A server that accepts connections.
#[derive(Debug)]
pub struct Server {
    address: Option<SocketAddr>,
    stop: CancellationToken,
    abort: CancellationToken,
    connections: TaskTracker,
    closed: CancellationToken,
}

impl Server {
    /// Serves the connections of an open port.
    pub fn start(listener: TcpListener, router: Router) -> Self {
        let server = Self {
            address: listener.local_addr().ok(),
            stop: CancellationToken::new(),
            abort: CancellationToken::new(),
            connections: TaskTracker::new(),
            closed: CancellationToken::new(),
        };
        let (stop, abort) = (server.stop.clone(), server.abort.clone());
        let (connections, closed) = (server.connections.clone(), server.closed.clone());
        let service = TowerToHyperService::new(router);
        tokio::spawn(async move {
            let mut builder = http1::Builder::new();
            builder.timer(TokioTimer::new());
            let builder = Arc::new(builder);
            loop {
                let stream = tokio::select! {
                    biased;
                    () = stop.cancelled() => break,
                    accepted = listener.accept() => match accepted {
                        Ok((stream, _)) => stream,
                        Err(error) => {
                            tracing::warn!("a connection could not be accepted: {error}");
                            tokio::time::sleep(Duration::from_millis(50)).await;
                            continue;
                        }
                    },
                };
                let _ = stream.set_nodelay(true);
                let connection = builder
                    .serve_connection(TokioIo::new(stream), service.clone())
                    .with_upgrades();
                let (stop, abort) = (stop.clone(), abort.clone());
                connections.spawn(async move {
                    let mut connection = std::pin::pin!(connection);
                    let ended = tokio::select! {
                        biased;
                        () = stop.cancelled() => None,
                        ended = connection.as_mut() => Some(ended),
                    };
                    if ended.is_none() {
                        // Idle connections close now, busy ones after their answer.
                        connection.as_mut().graceful_shutdown();
                        tokio::select! {
                            biased;
                            () = abort.cancelled() => {}
                            _ = connection.as_mut() => {}
                        }
                    }
                });
            }
            drop(listener);
            closed.cancel();
        });
        server
    }

    /// Where the server listens.
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// Closes the port at once, gives requests in flight `limit` to be answered, then resets the rest.
    /// Returns whether all of them were answered.
    pub async fn stop(&self, limit: Duration) -> bool {
        self.stop.cancel();
        self.closed.cancelled().await;
        self.connections.close();
        let in_time = tokio::time::timeout(limit, self.connections.wait())
            .await
            .is_ok();
        self.abort.cancel();
        self.connections.wait().await;
        in_time
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (urls, expected) in [
            (None, Some(("[::]", 80))),
            (Some("http://+:8080"), Some(("[::]", 8080))),
            (
                Some("https://+:443;http://127.0.0.1:0/"),
                Some(("127.0.0.1", 0)),
            ),
            (Some("http://localhost"), Some(("localhost", 80))),
            (Some("https://+:443"), None),
            (Some("http://+:x"), None),
        ] {
            let read = listen_address(urls).ok();
            assert_eq!(
                read,
                expected.map(|(name, port)| (name.to_owned(), port)),
                "{urls:?}"
            );
        }
    }
}
