//! Kubernetes clients that give up early.
//!
//! kube's default stack retries up to 15 times for minutes and never times out a response. Here every request
//! has begun to be answered within one limit, two retries included, so that a reconcile or a lease renewal
//! never hangs on a silent API server.

use std::time::Duration;

use http::{HeaderValue, header::USER_AGENT};
use kube::{
    Client, Config,
    client::{ClientBuilder, retry::RetryPolicy},
    config::KubeConfigOptions,
};
use tower::{buffer::BufferLayer, retry::RetryLayer, timeout::TimeoutLayer};

use crate::{Component, Error, KubeArgs, error::chain};

/// Silence on a connection after which it is closed. Longer than the longest watch of kube's watcher (295 s), which
/// would otherwise be cut although nothing is wrong with it.
const READ_TIMEOUT: Duration = Duration::from_mins(5);
/// As [`READ_TIMEOUT`] for clients that never watch.
const SHORT_READ_TIMEOUT: Duration = Duration::from_secs(10);
/// First and longest wait between tries, and the number of retries, for answers 429, 503 and 504.
const RETRY: (Duration, Duration, u32) = (Duration::from_millis(100), Duration::from_secs(1), 2);
/// Requests that may wait for the connection pool before callers are held back.
const QUEUE: usize = 1024;

/// What a client is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientProfile {
    /// Lists, watches, writes.
    Ordinary,
    /// Leader election only: a third of the time-outs, no retries (the lease loop has its own), no watches.
    Lease,
}

/// Makes aws-lc-rs the TLS provider of the process. Call it first thing in `main`; again is harmless.
pub fn install_tls_provider() {
    // The error only says that a provider is installed already.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

/// Reads the cluster configuration and makes a client.
///
/// # Errors
/// When there is no configuration or its certificates or credentials cannot be used. The API server is not
/// asked, it may be down.
pub async fn kube_client(
    component: Component,
    args: &KubeArgs,
    profile: ClientProfile,
) -> Result<Client, Error> {
    install_tls_provider();
    let config = match &args.kube_context {
        None => Config::infer()
            .await
            .map_err(|error| Error::KubeConfig(chain(&error))),
        Some(context) => {
            let options = KubeConfigOptions {
                context: Some(context.clone()),
                ..Default::default()
            };
            Config::from_kubeconfig(&options)
                .await
                .map_err(|error| Error::KubeConfig(chain(&error)))
        }
    }?;
    client_for(config, component, args, profile)
}

fn client_for(
    mut config: Config,
    component: Component,
    args: &KubeArgs,
    profile: ClientProfile,
) -> Result<Client, Error> {
    let share = match profile {
        ClientProfile::Ordinary => 1,
        ClientProfile::Lease => 3,
    };
    config.connect_timeout = Some(args.connect_timeout() / share);
    config.write_timeout = Some(args.request_timeout() / share);
    config.read_timeout = Some(match profile {
        ClientProfile::Ordinary => READ_TIMEOUT,
        ClientProfile::Lease => SHORT_READ_TIMEOUT,
    });
    // Otherwise idle time of a pooled connection counts against the next answer.
    config.reset_reader_on_write = true;
    config.default_retry = false;
    let agent = format!("maniple-{}/{}", component.name, component.version);
    if let Ok(value) = HeaderValue::from_str(&agent) {
        config.headers.push((USER_AGENT, value));
    }

    let url = config.cluster_url.to_string();
    let (first, longest, retries) = RETRY;
    let retries = if profile == ClientProfile::Lease {
        0
    } else {
        retries
    };
    let policy =
        RetryPolicy::new(first, longest, retries, false).expect("the constants are in order");
    let builder = ClientBuilder::try_from(config).map_err(|source| Error::KubeClient {
        url,
        source: Box::new(source),
    })?;
    Ok(builder
        // Layers are added from the inside out: the limit covers the retries.
        .with_layer(&BufferLayer::new(QUEUE))
        .with_layer(&RetryLayer::new(policy))
        .with_layer(&TimeoutLayer::new(args.request_timeout() / share))
        .build())
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use axum::{Router, http::HeaderMap, http::StatusCode, response::IntoResponse, routing::get};
    use tokio::net::TcpListener;

    use super::*;

    const COMPONENT: Component = Component::new("test", "1.0");

    fn args(request_timeout_seconds: u64) -> KubeArgs {
        KubeArgs {
            kube_context: None,
            kube_connect_timeout_seconds: 3,
            kube_request_timeout_seconds: request_timeout_seconds,
        }
    }

    /// A client against a local HTTP server that stands where the API server would.
    async fn client(router: Router, args: &KubeArgs, profile: ClientProfile) -> Client {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        client_for(Config::new(url.parse().unwrap()), COMPONENT, args, profile).unwrap()
    }

    async fn ask(client: &Client) -> Result<String, kube::Error> {
        let request = http::Request::get("/version").body(Vec::new()).unwrap();
        client.request_text(request).await
    }

    #[tokio::test]
    async fn busy_answers_are_retried_with_our_user_agent() {
        let seen = Arc::new(AtomicUsize::new(0));
        let router = Router::new().route(
            "/version",
            get({
                let seen = Arc::clone(&seen);
                move |headers: HeaderMap| async move {
                    if seen.fetch_add(1, Ordering::SeqCst) < 2 {
                        return StatusCode::SERVICE_UNAVAILABLE.into_response();
                    }
                    headers[USER_AGENT]
                        .to_str()
                        .unwrap()
                        .to_owned()
                        .into_response()
                }
            }),
        );
        let client = client(router, &args(15), ClientProfile::Ordinary).await;
        assert_eq!(ask(&client).await.unwrap(), "maniple-test/1.0");
        assert_eq!(seen.load(Ordering::SeqCst), 3);
    }

    #[tokio::test]
    async fn a_lease_client_does_not_retry() {
        let seen = Arc::new(AtomicUsize::new(0));
        let router = Router::new().route(
            "/version",
            get({
                let seen = Arc::clone(&seen);
                move || async move {
                    seen.fetch_add(1, Ordering::SeqCst);
                    StatusCode::SERVICE_UNAVAILABLE
                }
            }),
        );
        let client = client(router, &args(15), ClientProfile::Lease).await;
        assert!(ask(&client).await.is_err());
        assert_eq!(seen.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn a_silent_server_is_given_up() {
        let router = Router::new().route("/version", get(std::future::pending::<()>));
        let client = client(router, &args(1), ClientProfile::Ordinary).await;
        let error = ask(&client).await.unwrap_err();
        assert!(matches!(error, kube::Error::Service(_)), "{error:?}");
    }

    #[tokio::test]
    async fn a_missing_context_says_what_to_do() {
        let args = KubeArgs {
            kube_context: Some("no-such-context-here".into()),
            ..args(1)
        };
        let error = kube_client(COMPONENT, &args, ClientProfile::Ordinary)
            .await
            .map(drop)
            .unwrap_err();
        assert_eq!(error.category(), "kubernetes");
        assert!(error.to_string().contains("--kube-context"), "{error}");
    }
}
