//! One signed request to a storage service: time limits, size limits, errors by category. Nothing is retried here.

use std::error::Error as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use reqsign_azure_storage::Credential as SigningKey;
use reqsign_core::Signer;

use super::account::{Account, ConnectionError, Credential};
use super::error::{Operation, Place, StorageError};
use super::signing::{Signers, WorkloadIdentity, reason};
use crate::metrics::SourceMetrics;

/// Version of the storage REST API. All operations used here exist since 2012, so this only has to be supported by the service.
const API_VERSION: HeaderValue = HeaderValue::from_static("2023-11-03");

/// Domains of Azure Storage in the public and the sovereign clouds.
const STORAGE_DOMAINS: [&str; 4] = [
    "core.windows.net",
    "storage.azure.net",
    "core.usgovcloudapi.net",
    "core.chinacloudapi.cn",
];

/// Everything that has a meaning in a path or query, so that the signed and the sent text are the same.
const ESCAPED: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'&')
    .add(b'+')
    .add(b',')
    .add(b'/')
    .add(b':')
    .add(b';')
    .add(b'<')
    .add(b'=')
    .add(b'>')
    .add(b'?')
    .add(b'@')
    .add(b'[')
    .add(b'\\')
    .add(b']')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// Percent-encodes one path segment or query value.
pub(super) fn escape(text: &str) -> String {
    utf8_percent_encode(text, ESCAPED).to_string()
}

/// Limits of the HTTP client.
#[derive(Debug, Clone)]
pub struct HttpOptions {
    /// Limit for making a connection, TLS included.
    pub connect_timeout: Duration,
    /// Limit for a whole request: token, connection, answer with body.
    pub total_timeout: Duration,
    /// Further domains (as in `storage.example.org`) that may get identity tokens, themselves and below, besides those of Azure.
    pub trusted_domains: Vec<String>,
    /// Further certificate authorities (PEM) for https, besides those of the machine.
    pub certificates_pem: Vec<u8>,
    /// Who this process is for identity-based connections.
    pub identity: WorkloadIdentity,
}

impl Default for HttpOptions {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(2),
            total_timeout: Duration::from_secs(5),
            trusted_domains: Vec::new(),
            certificates_pem: Vec::new(),
            identity: WorkloadIdentity::from_process(),
        }
    }
}

/// The HTTP side of all storage clients of a process: connection pool, identity tokens, limits, metrics. Cheap to clone.
#[derive(Clone)]
pub struct StorageHttp {
    inner: Arc<Inner>,
}

struct Inner {
    http: reqwest::Client,
    signers: Signers,
    options: HttpOptions,
    metrics: SourceMetrics,
}

impl StorageHttp {
    /// Makes the client. Without readable CA certificates on the machine https requests fail (category `unreachable`), http ones work.
    ///
    /// Redirects are not followed and proxy variables are not read: a signed request goes only where the settings say.
    pub fn new(options: HttpOptions, metrics: SourceMetrics) -> Self {
        let http = http_client(&options);
        Self {
            inner: Arc::new(Inner {
                signers: Signers::new(http.clone(), &options.identity),
                http,
                options,
                metrics,
            }),
        }
    }

    /// A client for one service of one account.
    pub(super) fn service(&self, account: &Account) -> Result<ServiceClient, ConnectionError> {
        if matches!(account.credential, Credential::WorkloadIdentity { .. }) {
            self.check_identity_target(account)?;
        }
        Ok(ServiceClient {
            http: self.clone(),
            signer: self.inner.signers.signer(&account.credential),
            account: account.name.as_str().into(),
            endpoint: account.endpoint.as_str().into(),
        })
    }

    /// Identity tokens are good for every account that the identity may read, so they must not go to an address that an app made up.
    fn check_identity_target(&self, account: &Account) -> Result<(), ConnectionError> {
        let uri: http::Uri = account.endpoint.parse().unwrap_or_default();
        let host = uri.host().unwrap_or_default().to_ascii_lowercase();
        let trusted = STORAGE_DOMAINS
            .into_iter()
            .chain(
                self.inner
                    .options
                    .trusted_domains
                    .iter()
                    .map(String::as_str),
            )
            .any(|domain| is_within(&host, domain));
        if trusted && uri.scheme_str() == Some("https") {
            return Ok(());
        }
        Err(ConnectionError::UntrustedEndpoint {
            account: account.name.clone(),
            host,
        })
    }
}

fn http_client(options: &HttpOptions) -> reqwest::Client {
    let extra = reqwest::Certificate::from_pem_bundle(&options.certificates_pem).unwrap_or_else(
        |error| {
            tracing::warn!(%error, "the additional CA certificates for storage are not PEM and are left out");
            Vec::new()
        },
    );
    let builder = || {
        reqwest::Client::builder()
            .connect_timeout(options.connect_timeout)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .tcp_nodelay(true)
            // Shorter than the 5 s of the storage emulator: a connection that the server is just closing is not used again.
            .pool_idle_timeout(Duration::from_secs(4))
    };
    builder().tls_certs_merge(extra).build().unwrap_or_else(|error| {
        tracing::warn!(
            %error,
            "no CA certificates found, https storage endpoints will be refused; install ca-certificates or set SSL_CERT_FILE"
        );
        builder()
            .tls_certs_only([])
            .build()
            .expect("a client without certificates has nothing that could fail to load")
    })
}

/// Whether `host` is `domain` or below it.
fn is_within(host: &str, domain: &str) -> bool {
    let domain = domain.trim_start_matches('.').to_ascii_lowercase();
    host.strip_suffix(domain.as_str())
        .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        && !domain.is_empty()
}

/// Signs and sends requests to one service.
#[derive(Clone)]
pub(super) struct ServiceClient {
    http: StorageHttp,
    signer: Signer<SigningKey>,
    account: Arc<str>,
    endpoint: Arc<str>,
}

/// A request, before signing.
pub(super) struct Request<'a> {
    pub(super) operation: Operation,
    /// For messages, as in `queue 'orders'`.
    pub(super) resource: &'a str,
    pub(super) method: Method,
    /// Path below the endpoint with a leading slash, and query; both already percent-encoded.
    pub(super) path_and_query: String,
    pub(super) headers: HeaderMap,
    /// `None` for requests that have no body by definition (GET, DELETE).
    pub(super) body: Option<Bytes>,
    /// Longest answer that is read, in bytes.
    pub(super) max_answer: usize,
}

/// A successful answer.
pub(super) struct Response {
    #[cfg_attr(
        not(feature = "listener"),
        expect(dead_code, reason = "only listeners tell 201 from 204")
    )]
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Response {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

impl ServiceClient {
    pub(super) fn account(&self) -> &str {
        &self.account
    }

    pub(super) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Sends a request and reads the answer. Success is a 2xx status.
    pub(super) async fn send(&self, request: Request<'_>) -> Result<Response, StorageError> {
        let operation = request.operation;
        let place = Place {
            operation,
            account: self.account.to_string(),
            resource: request.resource.to_owned(),
        };
        let limit = self.http.inner.options.total_timeout;
        let started = Instant::now();
        let result = match tokio::time::timeout(limit, self.send_unlimited(request, &place)).await {
            Ok(result) => result,
            Err(_) => Err(StorageError::Timeout {
                place: Box::new(place),
                limit,
            }),
        };
        let outcome = result
            .as_ref()
            .map_or_else(StorageError::category, |_| "ok");
        self.http
            .inner
            .metrics
            .request(operation, outcome, started.elapsed());
        result
    }

    async fn send_unlimited(
        &self,
        request: Request<'_>,
        place: &Place,
    ) -> Result<Response, StorageError> {
        let max_answer = request.max_answer;
        let request = self.sign(request, place).await?;
        let failed = |error: reqwest::Error| self.failed(place, &error);
        let mut answer = self
            .http
            .inner
            .http
            .execute(request)
            .await
            .map_err(failed)?;
        let status = answer.status();
        let headers = std::mem::take(answer.headers_mut());
        if !status.is_success() {
            let code = error_code(&headers);
            return Err(StorageError::from_answer(
                place.clone(),
                status,
                code,
                retry_after(&headers),
            ));
        }
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(failed)? {
            if body.len() + chunk.len() > max_answer {
                return Err(StorageError::TooLarge {
                    place: Box::new(place.clone()),
                    limit: max_answer,
                });
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Response {
            status,
            headers,
            body: body.into(),
        })
    }

    async fn sign(
        &self,
        request: Request<'_>,
        place: &Place,
    ) -> Result<reqwest::Request, StorageError> {
        let credential = |reason| StorageError::Credential {
            place: Box::new(place.clone()),
            reason,
        };
        let mut unsigned = http::Request::new(request.body.clone().unwrap_or_default());
        *unsigned.method_mut() = request.method;
        *unsigned.uri_mut() = format!("{}{}", self.endpoint, request.path_and_query)
            .parse()
            .map_err(|_| credential("the request address is not valid".to_owned()))?;
        *unsigned.headers_mut() = request.headers;
        let headers = unsigned.headers_mut();
        headers.insert(HeaderName::from_static("x-ms-version"), API_VERSION);
        if let Some(body) = &request.body {
            // The length is part of the signature, so it is set before signing.
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
        }
        let (mut parts, body) = unsigned.into_parts();
        self.signer
            .sign(&mut parts, None)
            .await
            .map_err(|error| credential(reason(&error)))?;
        reqwest::Request::try_from(http::Request::from_parts(parts, body))
            .map_err(|_| credential("the signed request address is not valid".to_owned()))
    }

    fn failed(&self, place: &Place, error: &reqwest::Error) -> StorageError {
        let place = Box::new(place.clone());
        if error.is_timeout() {
            return StorageError::Timeout {
                place,
                limit: if error.is_connect() {
                    self.http.inner.options.connect_timeout
                } else {
                    self.http.inner.options.total_timeout
                },
            };
        }
        // The error itself would show the URL (a SAS is a part of it); its innermost cause says what happened.
        let mut cause = error.source();
        while let Some(next) = cause.and_then(std::error::Error::source) {
            cause = Some(next);
        }
        StorageError::Unreachable {
            place,
            reason: cause.map_or_else(|| "the request failed".to_owned(), ToString::to_string),
        }
    }
}

/// Letters and digits only, so that an unknown server cannot write what it likes into our logs and status.
fn error_code(headers: &HeaderMap) -> String {
    headers
        .get("x-ms-error-code")
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .take(64)
        .collect()
}

/// The storage services send whole seconds.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds: u64 = headers
        .get(header::RETRY_AFTER)?
        .to_str()
        .ok()?
        .trim()
        .parse()
        .ok()?;
    Some(Duration::from_secs(seconds))
}

#[cfg(test)]
#[path = "transport_tests.rs"]
mod tests;
