//! Signers: which credential authorises a request. The signatures themselves are the library's.

use std::collections::HashMap;

use bytes::Bytes;
use parking_lot::Mutex;
use reqsign_azure_storage::{
    Credential as SigningKey, RequestSigner, StaticCredentialProvider,
    WorkloadIdentityCredentialProvider,
};
use reqsign_core::{Context, Error, FileRead, HttpSend, Result, Signer, StaticEnv};

use super::account::Credential;

/// The workload identity of a process: what the webhook of Azure Workload Identity puts into its environment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WorkloadIdentity {
    /// `AZURE_CLIENT_ID`; an app's `clientId` comes before it.
    pub client_id: Option<String>,
    /// `AZURE_TENANT_ID`; an app's `tenantId` comes before it.
    pub tenant_id: Option<String>,
    /// `AZURE_FEDERATED_TOKEN_FILE`: the projected service account token, read again for each new access token.
    pub token_file: Option<String>,
    /// `AZURE_AUTHORITY_HOST`; the public cloud when absent.
    pub authority_host: Option<String>,
}

impl WorkloadIdentity {
    /// The identity of this process.
    pub fn from_process() -> Self {
        let get = |name| std::env::var(name).ok();
        Self {
            client_id: get("AZURE_CLIENT_ID"),
            tenant_id: get("AZURE_TENANT_ID"),
            token_file: get("AZURE_FEDERATED_TOKEN_FILE"),
            authority_host: get("AZURE_AUTHORITY_HOST"),
        }
    }

    /// As the signing library wants it. Nothing else of the environment is visible to it.
    fn environment(&self) -> HashMap<String, String> {
        [
            ("AZURE_CLIENT_ID", &self.client_id),
            ("AZURE_TENANT_ID", &self.tenant_id),
            ("AZURE_FEDERATED_TOKEN_FILE", &self.token_file),
            ("AZURE_AUTHORITY_HOST", &self.authority_host),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value.clone()?)))
        .collect()
    }
}

/// Longest answer of the token service that is read, in bytes.
const MAX_TOKEN_ANSWER: usize = 64 * 1024;

type IdentityKey = (Option<String>, Option<String>);

/// Makes signers. Identity tokens are cached per identity, so that all queues of an identity share one token.
pub(super) struct Signers {
    context: Context,
    identities: Mutex<HashMap<IdentityKey, Signer<SigningKey>>>,
}

impl Signers {
    pub(super) fn new(http: reqwest::Client, identity: &WorkloadIdentity) -> Self {
        let context = Context::new()
            .with_file_read(TokenFile)
            .with_http_send(TokenService(http))
            .with_env(StaticEnv {
                home_dir: None,
                envs: identity.environment(),
            });
        Self {
            context,
            identities: Mutex::new(HashMap::new()),
        }
    }

    pub(super) fn signer(&self, credential: &Credential) -> Signer<SigningKey> {
        let fixed = |provider: StaticCredentialProvider| {
            Signer::new(self.context.clone(), provider, RequestSigner::new())
        };
        match credential {
            Credential::SharedKey { account, key } => fixed(
                StaticCredentialProvider::new_shared_key(account, key.expose()),
            ),
            Credential::Sas(token) => {
                fixed(StaticCredentialProvider::new_sas_token(token.expose()))
            }
            Credential::WorkloadIdentity {
                client_id,
                tenant_id,
            } => self
                .identities
                .lock()
                .entry((client_id.clone(), tenant_id.clone()))
                .or_insert_with(|| {
                    let mut provider = WorkloadIdentityCredentialProvider::new();
                    if let Some(client_id) = client_id {
                        provider = provider.with_client_id(client_id);
                    }
                    if let Some(tenant_id) = tenant_id {
                        provider = provider.with_tenant_id(tenant_id);
                    }
                    Signer::new(self.context.clone(), provider, RequestSigner::new())
                })
                .clone(),
        }
    }
}

/// What failed, from a signing error. Its sources are left out: they may name parts of requests.
pub(super) fn reason(error: &Error) -> String {
    error.to_string()
}

/// Reads the projected service account token.
#[derive(Debug)]
struct TokenFile;

impl FileRead for TokenFile {
    async fn file_read(&self, path: &str) -> Result<Vec<u8>> {
        tokio::fs::read(path).await.map_err(|error| {
            Error::config_invalid("the service account token cannot be read").with_source(error)
        })
    }
}

/// Sends token requests.
#[derive(Debug)]
struct TokenService(reqwest::Client);

impl HttpSend for TokenService {
    async fn http_send(&self, request: http::Request<Bytes>) -> Result<http::Response<Bytes>> {
        let failed = |error: reqwest::Error| {
            Error::unexpected("the token service cannot be reached")
                .with_source(error.without_url())
        };
        let request = reqwest::Request::try_from(request).map_err(failed)?;
        let mut answer = self.0.execute(request).await.map_err(failed)?;
        let mut result = http::Response::new(Bytes::new());
        *result.status_mut() = answer.status();
        *result.headers_mut() = std::mem::take(answer.headers_mut());
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(failed)? {
            if body.len() + chunk.len() > MAX_TOKEN_ANSWER {
                return Err(Error::unexpected(
                    "the answer of the token service is too long",
                ));
            }
            body.extend_from_slice(&chunk);
        }
        *result.body_mut() = body.into();
        Ok(result)
    }
}
