//! Who may call the admin API and functions that ask for a key.
//!
//! The rules are those that were recorded from the real host: a master key, a host function key, or a JWT
//! signed with the bytes of the app's encryption key.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use hmac::{Hmac, Mac};
use serde_json::Value;
use sha2::Sha256;

use crate::environment::Environment;

/// Issuer of tokens that open the admin API only.
pub const CORE_ISSUER: &str = "https://appservice.core.azurewebsites.net";

/// How far the clocks of issuer and host may differ, in seconds.
const CLOCK_SKEW_S: f64 = 300.0;

/// Bytes that a signing key must have.
const KEY_BYTES: usize = 32;

/// A text that is not an encryption key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an encryption key must be 64 hexadecimal digits or standard base64")]
pub struct KeyFormatError;

/// The bytes of an encryption key: 64 characters are hexadecimal, everything else is standard base64.
pub fn key_bytes(text: &str) -> Result<Vec<u8>, KeyFormatError> {
    if text.len() == 64 {
        return crate::hex::decode(text).ok_or(KeyFormatError);
    }
    STANDARD.decode(text).map_err(|_| KeyFormatError)
}

/// The variable that holds the encryption key of this environment, by value.
pub fn encryption_key(environment: &Environment) -> Option<&str> {
    let pod_key = environment
        .is_kubernetes_managed()
        .then(|| environment.get("POD_ENCRYPTION_KEY"))
        .flatten();
    pod_key
        .or_else(|| environment.get("WEBSITE_AUTH_ENCRYPTION_KEY"))
        .or_else(|| environment.get("CONTAINER_ENCRYPTION_KEY"))
}

/// What a caller may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rights {
    /// Call the admin API.
    pub admin: bool,
    /// Call functions of the level "function".
    pub function: bool,
}

impl Rights {
    const NONE: Self = Self {
        admin: false,
        function: false,
    };
    const ALL: Self = Self {
        admin: true,
        function: true,
    };
}

/// The outcome of an admission check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// Go on.
    Granted,
    /// 401: no valid credential.
    Unauthorized,
    /// 403: a valid credential that does not suffice.
    Forbidden,
}

/// The credentials of one request, as text.
#[derive(Debug, Clone, Copy, Default)]
pub struct Credentials<'a> {
    /// Header `x-functions-key`, or query parameter `code`.
    pub key: Option<&'a str>,
    /// Header `x-ms-site-token`, or `Authorization: Bearer`; the first counts when both are sent.
    pub token: Option<&'a str>,
    /// Header `X-ARR-LOG-ID` is present.
    pub through_front_end: bool,
}

/// Checks credentials for one process.
#[derive(Debug, Clone)]
pub struct Authorizer {
    signing_keys: Vec<Vec<u8>>,
    site: Option<String>,
    master_key: Option<String>,
    function_key: Option<String>,
    isolated: bool,
    internal_is_admin: bool,
}

impl Authorizer {
    /// The rules of an environment. `STANDIN_MASTER_KEY` and `STANDIN_FUNCTION_KEY` are the host keys.
    pub fn new(environment: &Environment) -> Self {
        let mut signing_keys = Vec::new();
        if let Some(text) = encryption_key(environment) {
            match key_bytes(text) {
                Ok(bytes) if bytes.len() == KEY_BYTES => signing_keys.push(bytes),
                Ok(bytes) => tracing::warn!(
                    "the encryption key has {} bytes, no token will be accepted; use {KEY_BYTES}",
                    bytes.len()
                ),
                Err(error) => tracing::warn!("no token will be accepted: {error}"),
            }
        }
        if let Some(text) = environment.get("AzureWebEncryptionKey") {
            signing_keys.extend(key_bytes(text).ok().filter(|key| key.len() == KEY_BYTES));
            signing_keys.push(text.as_bytes().to_vec());
        }
        Self {
            signing_keys,
            site: environment.site_name().map(str::to_lowercase),
            master_key: environment.get("STANDIN_MASTER_KEY").map(str::to_owned),
            function_key: environment.get("STANDIN_FUNCTION_KEY").map(str::to_owned),
            isolated: environment.is_admin_isolated(),
            internal_is_admin: environment.is_app_service(),
        }
    }

    /// The host function key, if one is set.
    pub fn function_key(&self) -> Option<&str> {
        self.function_key.as_deref()
    }

    /// May this request call the admin API? `now` is in seconds since 1970.
    pub fn admin(&self, credentials: Credentials<'_>, now: f64) -> Admission {
        let rights = self.rights(credentials, now);
        if self.internal_is_admin && !credentials.through_front_end {
            return Admission::Granted;
        }
        match rights {
            Some(_) if self.isolated => Admission::Forbidden,
            Some(rights) if rights.admin => Admission::Granted,
            Some(_) => Admission::Forbidden,
            None => Admission::Unauthorized,
        }
    }

    /// May this request call a function with this `authLevel`?
    pub fn function(&self, level: &str, credentials: Credentials<'_>, now: f64) -> Admission {
        if level.eq_ignore_ascii_case("anonymous") {
            return Admission::Granted;
        }
        let rights = self.rights(credentials, now).unwrap_or(Rights::NONE);
        let granted = if level.eq_ignore_ascii_case("admin") {
            rights.admin && rights.function
        } else {
            rights.function
        };
        if granted {
            Admission::Granted
        } else {
            Admission::Unauthorized
        }
    }

    fn rights(&self, credentials: Credentials<'_>, now: f64) -> Option<Rights> {
        if let Some(key) = credentials.key {
            if self.master_key.as_deref() == Some(key) {
                return Some(Rights::ALL);
            }
            if self.function_key.as_deref() == Some(key) {
                return Some(Rights {
                    admin: false,
                    function: true,
                });
            }
        }
        self.token_rights(credentials.token?, now)
    }

    fn token_rights(&self, token: &str, now: f64) -> Option<Rights> {
        let site = self.site.as_deref()?;
        let mut parts = token.split('.');
        let (header, claims, signature) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() {
            return None;
        }
        if parse_part(header)?.get("alg")?.as_str()? != "HS256" {
            return None;
        }
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        let signed = &token[..header.len() + 1 + claims.len()];
        let is_signed = self.signing_keys.iter().any(|key| {
            Hmac::<Sha256>::new_from_slice(key).is_ok_and(|mac| {
                mac.chain_update(signed.as_bytes())
                    .verify_slice(&signature)
                    .is_ok()
            })
        });
        if !is_signed {
            return None;
        }
        let claims = parse_part(claims)?;
        if now > claims.get("exp")?.as_f64()? + CLOCK_SKEW_S {
            return None;
        }
        if let Some(not_before) = claims.get("nbf")
            && now < not_before.as_f64()? - CLOCK_SKEW_S
        {
            return None;
        }
        if !is_audience(claims.get("aud")?, site) {
            return None;
        }
        let issuer = claims.get("iss")?.as_str()?;
        if issuer == CORE_ISSUER {
            return Some(Rights {
                admin: true,
                function: false,
            });
        }
        let of_site = [
            format!("https://{site}.azurewebsites.net"),
            format!("https://{site}.scm.azurewebsites.net"),
        ];
        of_site
            .iter()
            .any(|own| own.eq_ignore_ascii_case(issuer))
            .then_some(Rights::ALL)
    }
}

fn is_audience(claim: &Value, site: &str) -> bool {
    let own = format!("https://{site}.azurewebsites.net");
    let functions = format!("{own}/azurefunctions");
    let fits =
        |text: &str| text.eq_ignore_ascii_case(&own) || text.eq_ignore_ascii_case(&functions);
    match claim {
        Value::String(text) => fits(text),
        Value::Array(texts) => texts.iter().filter_map(Value::as_str).any(fits),
        _ => false,
    }
}

fn parse_part(part: &str) -> Option<Value> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
}

/// A signed token, for tests and for the request that the host sends to the platform.
pub fn sign(key: &[u8], claims: &Value) -> String {
    let header = URL_SAFE_NO_PAD.encode(br#"{"alg":"HS256","typ":"JWT"}"#);
    let signed = format!("{header}.{}", URL_SAFE_NO_PAD.encode(claims.to_string()));
    let mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    let signature = mac.chain_update(signed.as_bytes()).finalize().into_bytes();
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}
