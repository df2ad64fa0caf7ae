//! The admin API of an Azure Functions host, asked whether it loaded what was declared.
//!
//! A host that answers is not yet healthy: an app that failed to load is `Running` too, with no functions.

use super::body;
use crate::text::cut;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use futures::{StreamExt, TryStreamExt};
use hmac::{Hmac, Mac};
use serde::Deserialize;
use serde_json::json;
use sha2::Sha256;
use std::net::IpAddr;
use std::time::Duration;

/// A busy host at 0.25 cores answers within about a second.
const TIMEOUT: Duration = Duration::from_secs(3);
/// Life of a token in seconds; the host allows a clock difference of five minutes besides.
const TOKEN_SECONDS: i64 = 300;
/// Issuer of tokens that open the admin API and nothing else.
const ISSUER: &str = "https://appservice.core.azurewebsites.net";

/// Longest list of functions in bytes, and longest answer of another kind.
const MAX_FUNCTIONS: usize = 1 << 20;
const MAX_STATUS: usize = 64 << 10;
/// Functions whose errors are asked for at the same time.
const AT_ONCE: usize = 8;
/// Most errors that are kept of one list, and most bytes of each.
const MAX_ERRORS: usize = 10;
const MAX_ERROR: usize = 512;
/// Most bytes of the name of a state.
const MAX_STATE: usize = 64;

/// What a host says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostReport {
    /// `Running`, `Error` and so on.
    pub state: String,
    /// Errors of the host as a whole.
    pub errors: Vec<String>,
    /// Names of all functions that it lists.
    pub functions: Vec<String>,
    /// Indexing errors, by function.
    pub function_errors: Vec<(String, Vec<String>)>,
}

impl HostReport {
    /// True when the host has done what it does at its start, and what it lists can be relied on.
    pub fn is_running(&self) -> bool {
        self.state == "Running"
    }

    /// True when the state does not pass by itself, unlike `Starting` or `Stopping`.
    pub fn is_final(&self) -> bool {
        self.is_running() || self.state == "Error"
    }
}

/// Why a host gave no report.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum HostError {
    /// No connection or no answer.
    #[error("the host did not answer: {0}")]
    Unreachable(String),
    /// The host refused the token.
    #[error(
        "the host refused the operator's token ({0}); does the image set WEBSITE_AUTH_ENCRYPTION_KEY or another site name?"
    )]
    Refused(u16),
    /// An answer that is none of the host's.
    #[error(
        "the answer to {path} cannot be read ({message}); is the image an Azure Functions host? else set spec.host to Plain"
    )]
    Unexpected {
        /// Path that was asked.
        path: String,
        /// What was wrong.
        message: String,
    },
}

/// Client of the admin API.
#[derive(Clone, Debug)]
pub struct HostClient {
    http: reqwest::Client,
}

/// One instance and how to open its admin API.
#[derive(Clone, Debug)]
pub struct Instance<'a> {
    /// Address of the pod.
    pub address: IpAddr,
    /// Port of the host.
    pub port: u16,
    /// Value of `WEBSITE_SITE_NAME`.
    pub site: &'a str,
    /// Admin key, 64 hex digits.
    pub key: &'a str,
}

#[derive(Deserialize)]
struct Status {
    #[serde(default)]
    state: String,
    #[serde(default)]
    errors: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Listed {
    name: String,
}

#[derive(Deserialize)]
struct FunctionStatus {
    #[serde(default)]
    errors: Option<Vec<String>>,
}

impl HostClient {
    /// A client for all hosts.
    ///
    /// # Errors
    /// When no HTTP client can be made.
    pub fn new() -> Result<Self, reqwest::Error> {
        let http = reqwest::Client::builder()
            .timeout(TIMEOUT)
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .pool_max_idle_per_host(0)
            .build()?;
        Ok(Self { http })
    }

    /// Asks one host for its state, its functions, and the indexing errors of `functions`.
    ///
    /// # Errors
    /// When the host does not answer, refuses, or is no Functions host.
    pub async fn report(
        &self,
        instance: &Instance<'_>,
        functions: &[String],
    ) -> Result<HostReport, HostError> {
        let token = token(
            instance.site,
            instance.key,
            jiff::Timestamp::now().as_second(),
        );
        let status: Status = self
            .get(instance, &token, "/admin/host/status", MAX_STATUS)
            .await?;
        let listed: Vec<Listed> = self
            .get(instance, &token, "/admin/functions", MAX_FUNCTIONS)
            .await?;
        let present: Vec<String> = functions
            .iter()
            .filter(|n| listed.iter().any(|l| l.name.eq_ignore_ascii_case(n)))
            .cloned()
            .collect();
        let statuses = present.into_iter().map(|name| {
            let token = &token;
            async move {
                let path = format!("/admin/functions/{name}/status");
                let status: FunctionStatus = self.get(instance, token, &path, MAX_STATUS).await?;
                Ok((name, few(status.errors.unwrap_or_default())))
            }
        });
        let statuses: Vec<(String, Vec<String>)> = futures::stream::iter(statuses)
            .buffered(AT_ONCE)
            .try_collect()
            .await?;
        let with_errors = statuses
            .into_iter()
            .filter(|(_, errors)| !errors.is_empty());
        let function_errors = with_errors.collect();
        Ok(HostReport {
            state: cut(&status.state, MAX_STATE),
            errors: few(status.errors.unwrap_or_default()),
            functions: listed.into_iter().map(|l| l.name).collect(),
            function_errors,
        })
    }

    async fn get<T: serde::de::DeserializeOwned>(
        &self,
        instance: &Instance<'_>,
        token: &str,
        path: &str,
        limit: usize,
    ) -> Result<T, HostError> {
        let address = std::net::SocketAddr::new(instance.address, instance.port);
        let unreachable = |e: reqwest::Error| HostError::Unreachable(e.without_url().to_string());
        let answer = self
            .http
            .get(format!("http://{address}{path}"))
            .header("x-ms-site-token", token)
            .send()
            .await
            .map_err(unreachable)?;
        match answer.status().as_u16() {
            200 => {}
            code @ (401 | 403) => return Err(HostError::Refused(code)),
            code => {
                return Err(HostError::Unexpected {
                    path: path.to_owned(),
                    message: format!("status {code}"),
                });
            }
        }
        body::json(answer, limit)
            .await
            .map_err(|error| match error {
                body::BodyError::Broken(message) => HostError::Unreachable(message),
                error => HostError::Unexpected {
                    path: path.to_owned(),
                    message: error.to_string(),
                },
            })
    }
}

fn few(errors: Vec<String>) -> Vec<String> {
    let errors = errors.iter().take(MAX_ERRORS);
    errors.map(|e| cut(e, MAX_ERROR)).collect()
}

/// A token for the admin API of one site, signed with the 32 bytes behind 64 hex digits.
fn token(site: &str, key: &str, now: i64) -> String {
    let part = |value: serde_json::Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let unsigned = format!(
        "{}.{}",
        part(json!({"alg": "HS256", "typ": "JWT"})),
        part(json!({
            "iss": ISSUER,
            "aud": format!("https://{site}.azurewebsites.net"),
            "nbf": now - 60,
            "exp": now + TOKEN_SECONDS,
        }))
    );
    let mut mac =
        Hmac::<Sha256>::new_from_slice(&hex_bytes(key)).expect("HMAC takes keys of any length");
    mac.update(unsigned.as_bytes());
    format!(
        "{unsigned}.{}",
        BASE64_URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes())
    )
}

/// Bytes of hex text; a character that is no hex digit counts as 0, which only makes a token that opens nothing.
fn hex_bytes(text: &str) -> Vec<u8> {
    let digit = |b: u8| u8::try_from((b as char).to_digit(16).unwrap_or(0)).unwrap_or(0);
    text.as_bytes()
        .chunks(2)
        .map(|pair| pair.iter().fold(0, |byte, b| byte << 4 | digit(*b)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_for_one_site_and_signed_with_the_bytes_of_the_key() {
        let key = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
        assert_eq!(hex_bytes(key)[..3], [0x00, 0x11, 0x22]);
        let token = token("shop", key, 1_000);
        let parts: Vec<&str> = token.split('.').collect();
        let claims: serde_json::Value =
            serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(parts[1]).unwrap()).unwrap();
        assert_eq!(claims["aud"], "https://shop.azurewebsites.net");
        assert_eq!(claims["exp"], 1_300);
        let mut mac = Hmac::<Sha256>::new_from_slice(&hex_bytes(key)).unwrap();
        mac.update(format!("{}.{}", parts[0], parts[1]).as_bytes());
        mac.verify_slice(&BASE64_URL_SAFE_NO_PAD.decode(parts[2]).unwrap())
            .unwrap();
    }
}
