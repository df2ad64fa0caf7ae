//! The admin server: metrics and probes on a port of their own.

use std::net::SocketAddr;

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{Error, Metrics, Readiness, metrics::CONTENT_TYPE};

/// An open admin port.
#[derive(Debug)]
pub struct AdminServer {
    listener: TcpListener,
}

impl AdminServer {
    /// Opens the port, so that a port in use is an error at the start and not in a task.
    ///
    /// # Errors
    /// When the address cannot be opened.
    pub async fn bind(address: SocketAddr) -> Result<Self, Error> {
        TcpListener::bind(address)
            .await
            .map(|listener| Self { listener })
            .map_err(|source| Error::AdminBind { address, source })
    }

    /// The address in use; tells the port when port 0 was asked for.
    pub fn local_address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves `/metrics`, `/live`, `/ready` and the routes of `extra` until `stop` is cancelled.
    ///
    /// # Errors
    /// When accepting connections fails for good.
    pub async fn serve(
        self,
        metrics: Metrics,
        readiness: Readiness,
        extra: Router,
        stop: CancellationToken,
    ) -> std::io::Result<()> {
        axum::serve(self.listener, router(metrics, readiness).merge(extra))
            .with_graceful_shutdown(stop.cancelled_owned())
            .await
    }
}

fn router(metrics: Metrics, readiness: Readiness) -> Router {
    Router::new()
        .route("/metrics", get(serve_metrics))
        .with_state(metrics)
        .route("/live", get(|| async { "live\n" }))
        .merge(
            Router::new()
                .route("/ready", get(serve_ready))
                .with_state(readiness),
        )
}

async fn serve_metrics(State(metrics): State<Metrics>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], metrics.encode())
}

async fn serve_ready(State(readiness): State<Readiness>) -> impl IntoResponse {
    let waiting = readiness.waiting_for();
    if waiting.is_empty() {
        (StatusCode::OK, "ready\n".to_owned())
    } else {
        (
            StatusCode::SERVICE_UNAVAILABLE,
            format!("waiting for: {}\n", waiting.join(", ")),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Component, install_tls_provider};

    async fn get_text(address: SocketAddr, path: &str) -> (u16, String) {
        install_tls_provider();
        let response = reqwest::get(format!("http://{address}{path}"))
            .await
            .unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    }

    #[tokio::test]
    async fn serves_probes_metrics_and_extra_routes_until_stopped() {
        let server = AdminServer::bind(([127, 0, 0, 1], 0).into()).await.unwrap();
        let address = server.local_address().unwrap();
        let readiness = Readiness::default();
        let guard = readiness.pending("first list");
        let stop = CancellationToken::new();
        let task = tokio::spawn(server.serve(
            Metrics::new(Component::new("test", "0")),
            readiness,
            Router::new().route("/groups", get(|| async { "none" })),
            stop.clone(),
        ));

        assert_eq!(get_text(address, "/live").await, (200, "live\n".into()));
        assert_eq!(
            get_text(address, "/ready").await,
            (503, "waiting for: first list\n".into())
        );
        drop(guard);
        assert_eq!(get_text(address, "/ready").await, (200, "ready\n".into()));
        assert_eq!(get_text(address, "/groups").await, (200, "none".into()));
        let (status, text) = get_text(address, "/metrics").await;
        assert_eq!(status, 200);
        assert!(text.contains("component=\"test\""), "{text}");

        stop.cancel();
        task.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_port_in_use_is_named() {
        let first = AdminServer::bind(([127, 0, 0, 1], 0).into()).await.unwrap();
        let address = first.local_address().unwrap();
        let error = AdminServer::bind(address).await.unwrap_err();
        assert!(error.to_string().contains(&address.to_string()), "{error}");
        assert_eq!(error.category(), "admin");
    }
}
