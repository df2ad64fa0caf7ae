//! Azure Storage connection strings.
//!
//! Format and defaults: "Configure Azure Storage connection strings" in the Azure Storage docs.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::account::{Credential, Service};
use crate::secret::Secret;

const DEVELOPMENT_ACCOUNT: &str = "devstoreaccount1";
/// The key of every storage emulator, published in the docs.
const DEVELOPMENT_KEY: &str =
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";
const DEFAULT_SUFFIX: &str = "core.windows.net";

/// What a connection string says about one service.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Parsed {
    /// Absent when the string has explicit endpoints and a SAS only.
    pub(super) account: Option<String>,
    pub(super) endpoint: String,
    pub(super) credential: Credential,
}

/// Reads the part of a connection string that concerns `service`. The error says what is wrong, without any value of the string.
pub(super) fn parse(text: &str, service: Service) -> Result<Parsed, String> {
    let parts = split(text)?;
    let get = |name: &str| parts.get(name).copied().filter(|value| !value.is_empty());

    if let Some(development) = get("usedevelopmentstorage") {
        if !development.eq_ignore_ascii_case("true") {
            return Err("UseDevelopmentStorage can only be true".to_owned());
        }
        return development_storage(get("developmentstorageproxyuri"), service);
    }

    let account = get("accountname");
    let credential = match (get("accountkey"), get("sharedaccesssignature"), account) {
        (Some(_), Some(_), _) => {
            return Err(
                "it has both AccountKey and SharedAccessSignature; keep one of them".to_owned(),
            );
        }
        (Some(_), None, None) => {
            return Err("it has an AccountKey but no AccountName; add AccountName".to_owned());
        }
        (Some(key), None, Some(account)) => shared_key(account, key)?,
        (None, Some(sas), _) => Credential::Sas(Secret::new(sas.trim_start_matches('?'))),
        (None, None, _) => {
            return Err(
                "it has neither AccountKey nor SharedAccessSignature; add one of them".to_owned(),
            );
        }
    };

    let (endpoint_name, label) = match service {
        Service::Queue => ("queueendpoint", "queue"),
        Service::Blob => ("blobendpoint", "blob"),
    };
    let endpoint = match (get(endpoint_name), account) {
        (Some(endpoint), _) => endpoint.to_owned(),
        (None, Some(account)) => {
            let protocol = get("defaultendpointsprotocol").unwrap_or("https");
            let suffix = get("endpointsuffix").unwrap_or(DEFAULT_SUFFIX);
            format!("{protocol}://{account}.{label}.{suffix}")
        }
        (None, None) => {
            return Err(format!(
                "it has no endpoint of the {label} service; add AccountName or {}Endpoint",
                if service == Service::Queue {
                    "Queue"
                } else {
                    "Blob"
                }
            ));
        }
    };
    Ok(Parsed {
        account: account.map(str::to_owned),
        endpoint,
        credential,
    })
}

fn split(text: &str) -> Result<BTreeMap<String, &str>, String> {
    let mut parts = BTreeMap::new();
    for part in text
        .split(';')
        .map(str::trim)
        .filter(|part| !part.is_empty())
    {
        // A part without `=` may be a piece of a key: its text must not be shown.
        let Some((name, value)) = part.split_once('=') else {
            return Err("a part is not of the form name=value; it should look like \
                 DefaultEndpointsProtocol=https;AccountName=...;AccountKey=..."
                .to_owned());
        };
        let name = name.trim().to_ascii_lowercase();
        if parts.insert(name, value.trim()).is_some() {
            return Err("a name occurs twice".to_owned());
        }
    }
    if parts.is_empty() {
        return Err("it is empty".to_owned());
    }
    Ok(parts)
}

fn shared_key(account: &str, key: &str) -> Result<Credential, String> {
    if BASE64.decode(key).is_err() {
        return Err("AccountKey is not base64; copy the whole key again".to_owned());
    }
    Ok(Credential::SharedKey {
        account: account.to_owned(),
        key: Secret::new(key),
    })
}

fn development_storage(proxy: Option<&str>, service: Service) -> Result<Parsed, String> {
    let port = match service {
        Service::Blob => 10000,
        Service::Queue => 10001,
    };
    let base = match proxy {
        None => "http://127.0.0.1".to_owned(),
        // Only scheme and host count, the ports are those of the emulator (as in the Azure SDKs).
        Some(proxy) => {
            let uri: http::Uri = proxy
                .parse()
                .map_err(|_| "DevelopmentStorageProxyUri is not a URL".to_owned())?;
            match (uri.scheme_str(), uri.host()) {
                (Some(scheme), Some(host)) => format!("{scheme}://{host}"),
                _ => {
                    return Err(
                        "DevelopmentStorageProxyUri needs a scheme and a host, as in http://azurite"
                            .to_owned(),
                    );
                }
            }
        }
    };
    Ok(Parsed {
        account: Some(DEVELOPMENT_ACCOUNT.to_owned()),
        endpoint: format!("{base}:{port}/{DEVELOPMENT_ACCOUNT}"),
        credential: Credential::SharedKey {
            account: DEVELOPMENT_ACCOUNT.to_owned(),
            key: Secret::new(DEVELOPMENT_KEY),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(account: &str, key: &str) -> Credential {
        Credential::SharedKey {
            account: account.to_owned(),
            key: Secret::new(key),
        }
    }

    #[test]
    fn accepted_forms() {
        let sas = || Credential::Sas(Secret::new("sv=1&sig=a%3D"));
        let cases = [
            (
                "DefaultEndpointsProtocol=https;AccountName=acct;AccountKey=a2V5;EndpointSuffix=core.windows.net",
                Service::Queue,
                Some("acct"),
                "https://acct.queue.core.windows.net",
                key("acct", "a2V5"),
            ),
            (
                "accountname=acct; ACCOUNTKEY = a2V5 ;;",
                Service::Blob,
                Some("acct"),
                "https://acct.blob.core.windows.net",
                key("acct", "a2V5"),
            ),
            (
                "DefaultEndpointsProtocol=http;AccountName=a;AccountKey=a2V5MQ==;EndpointSuffix=core.chinacloudapi.cn",
                Service::Queue,
                Some("a"),
                "http://a.queue.core.chinacloudapi.cn",
                key("a", "a2V5MQ=="),
            ),
            (
                "AccountName=a;AccountKey=a2V5;QueueEndpoint=http://azurite:10001/a;BlobEndpoint=http://azurite:10000/a",
                Service::Queue,
                Some("a"),
                "http://azurite:10001/a",
                key("a", "a2V5"),
            ),
            (
                "QueueEndpoint=https://a.queue.core.windows.net/;SharedAccessSignature=?sv=1&sig=a%3D",
                Service::Queue,
                None,
                "https://a.queue.core.windows.net/",
                sas(),
            ),
            (
                "AccountName=a;SharedAccessSignature=sv=1&sig=a%3D",
                Service::Blob,
                Some("a"),
                "https://a.blob.core.windows.net",
                sas(),
            ),
            (
                "UseDevelopmentStorage=true",
                Service::Blob,
                Some("devstoreaccount1"),
                "http://127.0.0.1:10000/devstoreaccount1",
                key("devstoreaccount1", DEVELOPMENT_KEY),
            ),
            (
                "UseDevelopmentStorage=TRUE;DevelopmentStorageProxyUri=http://azurite.ns:9999/x",
                Service::Queue,
                Some("devstoreaccount1"),
                "http://azurite.ns:10001/devstoreaccount1",
                key("devstoreaccount1", DEVELOPMENT_KEY),
            ),
        ];
        for (text, service, account, endpoint, credential) in cases {
            let expected = Parsed {
                account: account.map(str::to_owned),
                endpoint: endpoint.to_owned(),
                credential,
            };
            assert_eq!(parse(text, service), Ok(expected), "{text}");
        }
    }

    #[test]
    fn refused_forms_say_what_to_do_without_values() {
        let cases = [
            ("", "empty"),
            ("hunter2hunter2", "name=value"),
            ("AccountName=a;AccountName=hunter2;AccountKey=a2V5", "twice"),
            ("AccountName=a", "neither AccountKey nor"),
            ("AccountKey=aHVudGVyMg==", "no AccountName"),
            ("AccountName=a;AccountKey=hunter2!", "not base64"),
            (
                "AccountName=a;AccountKey=a2V5;SharedAccessSignature=hunter2",
                "keep one",
            ),
            (
                "SharedAccessSignature=sig=hunter2",
                "no endpoint of the queue",
            ),
            ("UseDevelopmentStorage=false", "can only be true"),
            (
                "UseDevelopmentStorage=true;DevelopmentStorageProxyUri=azurite",
                "scheme and a host",
            ),
        ];
        for (text, expected) in cases {
            let error = parse(text, Service::Queue).expect_err(text);
            assert!(error.contains(expected), "{text}: {error}");
            assert!(!error.contains("hunter2"), "{text}: {error}");
        }
    }
}
