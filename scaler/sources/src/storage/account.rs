//! From app settings to one storage service: endpoint and credential.

use std::fmt;

use super::connection_string;
use super::settings::{Settings, connection_name};
use crate::secret::Secret;

/// A storage service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Service {
    /// Queue storage.
    Queue,
    /// Blob storage.
    Blob,
}

impl Service {
    /// The label of the service in host names and setting names.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Blob => "blob",
        }
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How requests are authorised. `Debug` shows no secret.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Credential {
    /// The account's key; every request is signed with it.
    SharedKey {
        /// Account name, part of the signature.
        account: String,
        /// Base64 key.
        key: Secret,
    },
    /// A shared access signature (query string without the question mark).
    Sas(Secret),
    /// A token of Microsoft Entra ID, obtained with the service account token of this process.
    WorkloadIdentity {
        /// Overrides `AZURE_CLIENT_ID` of this process.
        client_id: Option<String>,
        /// Overrides `AZURE_TENANT_ID` of this process.
        tenant_id: Option<String>,
    },
}

/// One service of one storage account, as an app's settings name it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Account {
    /// Account name, for messages.
    pub name: String,
    /// The service.
    pub service: Service,
    /// Base URL without a trailing slash or query.
    pub endpoint: String,
    /// How to authorise.
    pub credential: Credential,
}

/// Why a connection cannot be used. Nothing was sent; only a change of the settings helps.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectionError {
    /// No setting has the name.
    #[error(
        "connection '{connection}' has no app setting; set '{connection}' to a storage connection string or \
         '{connection}__{service}ServiceUri' to the address of the {service} service"
    )]
    Missing {
        /// Connection name of the binding.
        connection: String,
        /// The service that was asked for.
        service: Service,
    },
    /// The setting is there but cannot be read.
    #[error("app setting '{setting}' is not a usable storage connection: {reason}")]
    Malformed {
        /// Name of the setting.
        setting: String,
        /// What is wrong and what to do; never a part of the value.
        reason: String,
    },
    /// The kind of identity cannot be used from here.
    #[error("app setting '{setting}' asks for a credential that cannot be used here: {reason}")]
    UnsupportedCredential {
        /// Name of the setting.
        setting: String,
        /// What to use instead.
        reason: String,
    },
    /// An identity token would go to a host that is not known to be Azure Storage.
    #[error(
        "account '{account}' would get an identity token at '{host}', which is not an https address of Azure Storage; \
         use the account's own address, or add its domain to the trusted storage domains of the scaler"
    )]
    UntrustedEndpoint {
        /// Account name.
        account: String,
        /// The host that was named.
        host: String,
    },
    /// A queue or blob name that the service would refuse.
    #[error("{what} name '{name}' is not valid: {rule}")]
    InvalidName {
        /// `queue`, `container` or `blob`.
        what: &'static str,
        /// The name.
        name: String,
        /// The rule that it breaks.
        rule: &'static str,
    },
}

impl ConnectionError {
    /// Stable short name for metrics and status.
    pub fn category(&self) -> &'static str {
        match self {
            Self::Missing { .. } => "connection_missing",
            Self::Malformed { .. } => "connection_malformed",
            Self::UnsupportedCredential { .. } => "credential_unsupported",
            Self::UntrustedEndpoint { .. } => "endpoint_untrusted",
            Self::InvalidName { .. } => "name_invalid",
        }
    }
}

impl Account {
    /// Finds the service that a binding's `connection` means, by the host's rules.
    ///
    /// A value that is not blank is a connection string (or a SAS URL); otherwise the settings below the name describe an identity-based
    /// connection: `accountName`, else `queueServiceUri` / `blobServiceUri` (alias `serviceUri`), with `credential`, `clientId`, `tenantId`
    /// (Azure Functions docs, "Connections", and `StorageClientProvider` of the storage extension). No request is made.
    pub fn resolve(
        settings: &Settings,
        connection: Option<&str>,
        service: Service,
    ) -> Result<Self, ConnectionError> {
        let name = connection_name(connection);
        let missing = || ConnectionError::Missing {
            connection: name.to_owned(),
            service,
        };
        let section = settings
            .connection_section(connection)
            .ok_or_else(missing)?;
        match settings.get(&section).map(str::trim) {
            Some(value) if !value.is_empty() => Self::from_value(&section, value, service),
            _ => Self::from_identity(settings, &section, service),
        }
    }

    /// Reads a connection string or a SAS URL. `setting` is only for messages.
    pub fn from_value(
        setting: &str,
        value: &str,
        service: Service,
    ) -> Result<Self, ConnectionError> {
        let malformed = |reason| ConnectionError::Malformed {
            setting: setting.to_owned(),
            reason,
        };
        let (account, endpoint, credential) = if is_url(value) {
            let (endpoint, query) = value
                .split_once('?')
                .filter(|(_, query)| query.split('&').any(|pair| pair.starts_with("sig=")))
                .ok_or_else(|| {
                    malformed("it is a URL without a shared access signature (sig=...)".to_owned())
                })?;
            (
                None,
                endpoint.to_owned(),
                Credential::Sas(Secret::new(query)),
            )
        } else {
            let parsed = connection_string::parse(value, service).map_err(malformed)?;
            (parsed.account, parsed.endpoint, parsed.credential)
        };
        let (endpoint, host) = check_endpoint(&endpoint, service).map_err(malformed)?;
        Ok(Self {
            name: account.unwrap_or_else(|| account_of(&endpoint, &host)),
            service,
            endpoint,
            credential,
        })
    }

    fn from_identity(
        settings: &Settings,
        section: &str,
        service: Service,
    ) -> Result<Self, ConnectionError> {
        let get = |name: &str| {
            let value = settings.get(&format!("{section}:{name}"))?.trim();
            (!value.is_empty()).then_some(value)
        };
        let uri_setting = format!("{}ServiceUri", service.as_str());
        let setting = |name: &str| format!("{section}__{name}");
        let malformed = |name: &str, reason| ConnectionError::Malformed {
            setting: setting(name),
            reason,
        };

        let (used, endpoint) = if let Some(account) = get("accountName") {
            let endpoint = format!("https://{account}.{service}.core.windows.net");
            ("accountName", endpoint)
        } else if let Some(uri) = get(&uri_setting) {
            (uri_setting.as_str(), uri.to_owned())
        } else if let Some(uri) = get("serviceUri") {
            ("serviceUri", uri.to_owned())
        } else {
            return Err(malformed(
                &uri_setting,
                format!(
                    "it is not set and '{section}' is not a connection string; set one of them (or '{section}__accountName')"
                ),
            ));
        };

        // A complete SAS URL needs no identity.
        if endpoint.contains('?') {
            return Self::from_value(&setting(used), &endpoint, service);
        }
        let (endpoint, host) =
            check_endpoint(&endpoint, service).map_err(|reason| malformed(used, reason))?;
        check_credential(get).map_err(|(name, reason)| ConnectionError::UnsupportedCredential {
            setting: setting(name),
            reason: reason.to_owned(),
        })?;
        Ok(Self {
            name: account_of(&endpoint, &host),
            service,
            endpoint,
            credential: Credential::WorkloadIdentity {
                client_id: get("clientId").map(str::to_owned),
                tenant_id: get("tenantId").map(str::to_owned),
            },
        })
    }
}

/// Workload identity stands for the managed identities of Azure: both are a federated or assigned identity of the running process.
fn check_credential<'a>(
    get: impl Fn(&str) -> Option<&'a str>,
) -> Result<(), (&'static str, &'static str)> {
    const INSTEAD: &str = "use workload identity (leave it out, or set it to workloadidentity or managedidentity, with clientId)";
    if let Some(credential) = get("credential") {
        let known = ["workloadidentity", "managedidentity"];
        if !known
            .iter()
            .any(|name| credential.eq_ignore_ascii_case(name))
        {
            return Err(("credential", INSTEAD));
        }
    }
    for name in [
        "managedIdentityResourceId",
        "managedIdentityObjectId",
        "clientSecret",
    ] {
        if get(name).is_some() {
            return Err((name, INSTEAD));
        }
    }
    Ok(())
}

fn is_url(value: &str) -> bool {
    let lower = value.get(..8).unwrap_or(value).to_ascii_lowercase();
    lower.starts_with("http://") || lower.starts_with("https://")
}

/// Checks a base URL and returns it without a trailing slash, with its host. The reason never repeats the URL, which may hold a secret.
fn check_endpoint(endpoint: &str, service: Service) -> Result<(String, String), String> {
    let url = |reason: &str| format!("the address of the {service} service {reason}");
    let uri: http::Uri = endpoint.parse().map_err(|_| url("is not a URL"))?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err(url("must begin with https:// or http://"));
    }
    let authority = uri.authority().ok_or_else(|| url("has no host"))?;
    if authority.as_str().contains('@') {
        return Err(url("must not contain a user name or password"));
    }
    if uri.query().is_some() {
        return Err(url("must not have a query"));
    }
    let host = uri.host().unwrap_or_default().to_ascii_lowercase();
    let other = match service {
        Service::Queue => Service::Blob,
        Service::Blob => Service::Queue,
    };
    if host.contains(&format!(".{other}.core.")) {
        return Err(format!(
            "it is the address of the {other} service, but the {service} service is needed"
        ));
    }
    Ok((endpoint.trim_end_matches('/').to_owned(), host))
}

/// The account of an endpoint: first label of the host, or first path segment where the host is an address or has a single label.
fn account_of(endpoint: &str, host: &str) -> String {
    let path_style =
        !host.contains('.') || host.parse::<std::net::IpAddr>().is_ok() || host.starts_with('[');
    let from_path = endpoint
        .split_once("://")
        .and_then(|(_, rest)| rest.split_once('/'))
        .and_then(|(_, path)| path.split('/').next())
        .filter(|segment| !segment.is_empty());
    match from_path {
        Some(segment) if path_style => segment.to_owned(),
        _ => host.split('.').next().unwrap_or(host).to_owned(),
    }
}

#[cfg(test)]
#[path = "account_tests.rs"]
mod tests;
