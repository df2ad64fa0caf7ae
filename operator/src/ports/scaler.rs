//! What the scaler decided, asked for status.

use super::body::{self, BodyError};
use maniple_crds::report::AppReport;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The scaler answers from memory; longer than this it is as good as gone.
const TIMEOUT: Duration = Duration::from_secs(2);
/// After a failure nobody asks for this long, so that a scaler that swallows requests does not hold the run of every app.
const PAUSE: Duration = Duration::from_secs(5);
/// Longest answer in bytes: 130 groups with texts of 1 KiB for each of 128 functions stay below.
const MAX_BYTES: usize = 1 << 20;

/// Client of the scaler's status endpoint.
#[derive(Clone, Debug)]
pub struct ScalerClient {
    http: reqwest::Client,
    url: String,
    failed: Arc<Mutex<Option<(Instant, String)>>>,
}

/// Why there is no report.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum ScalerError {
    /// No connection, no answer, or an answer that cannot be read.
    #[error("the scaler did not answer ({0}); look at the pods of the scaler")]
    Unreachable(String),
    /// The scaler has not seen the app yet.
    #[error("the scaler has not seen this app yet")]
    NotSeen,
}

impl ScalerClient {
    /// A client for this base URL.
    ///
    /// # Errors
    /// When no HTTP client can be made.
    pub fn new(url: &str) -> Result<Self, reqwest::Error> {
        let http = reqwest::Client::builder()
            .timeout(TIMEOUT)
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .build()?;
        Ok(Self {
            http,
            url: url.trim_end_matches('/').to_owned(),
            failed: Arc::default(),
        })
    }

    /// The groups of one app.
    ///
    /// # Errors
    /// When the scaler does not answer or does not know the app.
    pub async fn report(&self, namespace: &str, app: &str) -> Result<AppReport, ScalerError> {
        if let Some((at, message)) = self.failed.lock().as_ref()
            && at.elapsed() < PAUSE
        {
            return Err(ScalerError::Unreachable(message.clone()));
        }
        let result = self.ask(namespace, app).await;
        *self.failed.lock() = match &result {
            Err(ScalerError::Unreachable(message)) => Some((Instant::now(), message.clone())),
            Ok(_) | Err(ScalerError::NotSeen) => None,
        };
        result
    }

    async fn ask(&self, namespace: &str, app: &str) -> Result<AppReport, ScalerError> {
        let unreachable =
            |error: reqwest::Error| ScalerError::Unreachable(error.without_url().to_string());
        let url = format!("{}/v1/apps/{namespace}/{app}", self.url);
        let answer = self.http.get(url).send().await.map_err(unreachable)?;
        match answer.status().as_u16() {
            200 => {}
            404 => return Err(ScalerError::NotSeen),
            code => return Err(ScalerError::Unreachable(format!("status {code}"))),
        }
        body::json(answer, MAX_BYTES)
            .await
            .map_err(|e: BodyError| ScalerError::Unreachable(e.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::body::tests::{ok, server};
    use super::*;
    use std::sync::atomic::Ordering;

    fn client(address: std::net::SocketAddr) -> ScalerClient {
        maniple_runtime::install_tls_provider();
        ScalerClient::new(&format!("http://{address}/")).unwrap()
    }

    #[tokio::test]
    async fn after_a_failure_nobody_asks_for_a_while() {
        let (address, count) = server("HTTP/1.1 500 No\r\nconnection: close\r\n\r\n".into()).await;
        let client = client(address);
        for app in ["a", "b", "c"] {
            let error = client.report("n", app).await.unwrap_err();
            assert!(error.to_string().contains("status 500"), "{error}");
        }
        assert_eq!(count.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn an_unknown_app_is_no_failure_and_a_redirect_is_not_followed() {
        let (address, count) = server("HTTP/1.1 404 No\r\nconnection: close\r\n\r\n".into()).await;
        let unknown = client(address);
        for _ in 0..2 {
            assert_eq!(unknown.report("n", "a").await, Err(ScalerError::NotSeen));
        }
        assert_eq!(count.load(Ordering::SeqCst), 2);
        let (good, reached) = server(ok(r#"{"generation": 1, "groups": []}"#)).await;
        assert_eq!(client(good).report("n", "a").await.unwrap().generation, 1);
        let redirect =
            format!("HTTP/1.1 302 Found\r\nlocation: http://{good}/\r\nconnection: close\r\n\r\n");
        let (address, _) = server(redirect).await;
        assert!(client(address).report("n", "a").await.is_err());
        assert_eq!(reached.load(Ordering::SeqCst), 1);
    }
}
