//! What the scaler decided, asked for status.

use maniple_crds::report::AppReport;
use std::time::Duration;

/// The scaler answers from memory; longer than this it is as good as gone.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Client of the scaler's status endpoint.
#[derive(Clone, Debug)]
pub struct ScalerClient {
    http: reqwest::Client,
    url: String,
}

/// Why there is no report.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
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
            .build()?;
        Ok(Self {
            http,
            url: url.trim_end_matches('/').to_owned(),
        })
    }

    /// The groups of one app.
    ///
    /// # Errors
    /// When the scaler does not answer or does not know the app.
    pub async fn report(&self, namespace: &str, app: &str) -> Result<AppReport, ScalerError> {
        let unreachable =
            |error: reqwest::Error| ScalerError::Unreachable(error.without_url().to_string());
        let url = format!("{}/v1/apps/{namespace}/{app}", self.url);
        let answer = self.http.get(url).send().await.map_err(unreachable)?;
        if answer.status() == reqwest::StatusCode::NOT_FOUND {
            return Err(ScalerError::NotSeen);
        }
        answer
            .error_for_status()
            .map_err(unreachable)?
            .json()
            .await
            .map_err(unreachable)
    }
}
