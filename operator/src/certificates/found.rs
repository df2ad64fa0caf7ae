//! What the Secrets hold, judged as the two sides would judge it.

use super::settings::{Settings, Side};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::sign::CertifiedKey;
use std::sync::Arc;
use std::time::Duration;
use x509_parser::prelude::{FromDer, X509Certificate};

/// Key of trusted CAs in every Secret.
pub(super) const CA: &str = "ca.crt";
/// Key of the certificate.
pub(super) const CERTIFICATE: &str = "tls.crt";
/// Key of its private key.
pub(super) const KEY: &str = "tls.key";
/// Annotation with the time at which the trusted CAs of a Secret were last changed.
pub(super) const TRUSTED_SINCE: &str = "maniple.dev/ca-since";

/// A certificate with a key, as one of the Secrets should hold it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Pair<T> {
    /// There is none.
    Absent,
    /// What is there is of no use, and why.
    Unusable(String),
    /// It can be used now.
    Usable(T),
}

impl<T> Pair<T> {
    /// When it can be used.
    pub(super) fn usable(&self) -> Option<&T> {
        match self {
            Self::Usable(value) => Some(value),
            Self::Absent | Self::Unusable(_) => None,
        }
    }
}

/// Certificate of a CA.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Authority {
    pub(super) certificate: CertificateDer<'static>,
    pub(super) not_before: Timestamp,
    pub(super) not_after: Timestamp,
}

/// Certificate of a side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Leaf {
    pub(super) not_before: Timestamp,
    pub(super) not_after: Timestamp,
    /// Who signed it, among the CAs in all Secrets.
    pub(super) signer: Authority,
    /// CAs that the side trusts; empty when they cannot be read.
    pub(super) trusted: Vec<CertificateDer<'static>>,
    /// Since when, if that is known.
    pub(super) trusted_since: Option<Timestamp>,
}

/// Everything.
#[derive(Clone, Debug)]
pub(super) struct Found {
    /// The CA that signs.
    pub(super) authority: Pair<Authority>,
    /// Further CAs that are trusted, as the Secret of the CA says.
    pub(super) others: Vec<Authority>,
    pub(super) front: Pair<Leaf>,
    pub(super) scaler: Pair<Leaf>,
}

impl Found {
    /// Reads the Secrets of the CA and of both sides.
    pub(super) fn read(
        authority: Option<&Secret>,
        front: Option<&Secret>,
        scaler: Option<&Secret>,
        settings: &Settings,
        now: Timestamp,
    ) -> Self {
        let signing = read_authority(authority, now);
        let mut others = authorities(authority, CA);
        if signing.usable().is_none() {
            // Its key is lost, and yet certificates that it signed are in use.
            others.extend(authorities(authority, CERTIFICATE));
        }
        let mut known: Vec<Authority> = signing.usable().into_iter().cloned().collect();
        known.extend(others.iter().cloned());
        known.extend(authorities(front, CA));
        known.extend(authorities(scaler, CA));
        let leaf = |secret, side| read_leaf(secret, side, &known, settings, now);
        Self {
            front: leaf(front, Side::Front),
            scaler: leaf(scaler, Side::Scaler),
            authority: signing,
            others,
        }
    }

    /// Certificate of a side.
    pub(super) fn leaf(&self, side: Side) -> &Pair<Leaf> {
        match side {
            Side::Front => &self.front,
            Side::Scaler => &self.scaler,
        }
    }
}

/// Value of a key; empty when there is none.
pub(super) fn value<'a>(secret: Option<&'a Secret>, key: &str) -> &'a [u8] {
    let data = secret.and_then(|secret| secret.data.as_ref());
    data.and_then(|data| data.get(key))
        .map_or(&[], |value| value.0.as_slice())
}

fn chain(pem: &[u8]) -> Vec<CertificateDer<'static>> {
    let all = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
    all.unwrap_or_default()
}

/// Usable CAs under a key. What is none is left out.
fn authorities(secret: Option<&Secret>, key: &str) -> Vec<Authority> {
    let list = chain(value(secret, key)).into_iter();
    list.filter_map(|certificate| to_authority(certificate).ok())
        .collect()
}

fn to_authority(certificate: CertificateDer<'static>) -> Result<Authority, String> {
    let (not_before, not_after, is_ca) = facts(&certificate)?;
    if !is_ca {
        return Err(String::from("the certificate is none of a CA"));
    }
    Ok(Authority {
        certificate,
        not_before,
        not_after,
    })
}

/// Begin, end, and whether it is a CA's.
fn facts(certificate: &CertificateDer<'_>) -> Result<(Timestamp, Timestamp, bool), String> {
    let (_, parsed) = X509Certificate::from_der(certificate)
        .map_err(|error| format!("{CERTIFICATE} is no X.509 certificate: {error}"))?;
    let time = |seconds| Timestamp::from_second(seconds).map_err(|error| error.to_string());
    let validity = parsed.validity();
    Ok((
        time(validity.not_before.timestamp())?,
        time(validity.not_after.timestamp())?,
        parsed.is_ca(),
    ))
}

/// Certificate and key that belong together.
fn pair(
    secret: &Secret,
    provider: &CryptoProvider,
) -> Result<Vec<CertificateDer<'static>>, String> {
    let chain = chain(value(Some(secret), CERTIFICATE));
    if chain.is_empty() {
        return Err(format!("{CERTIFICATE} holds no certificate in PEM"));
    }
    let key = PrivateKeyDer::from_pem_slice(value(Some(secret), KEY))
        .map_err(|error| format!("{KEY} holds no private key in PEM: {error}"))?;
    CertifiedKey::from_der(chain.clone(), key, provider)
        .map_err(|error| format!("{KEY} cannot be used with {CERTIFICATE}: {error}"))?;
    Ok(chain)
}

fn read_authority(secret: Option<&Secret>, now: Timestamp) -> Pair<Authority> {
    let Some(secret) = secret else {
        return Pair::Absent;
    };
    let read = || {
        let chain = pair(secret, &aws_lc_rs::default_provider())?;
        let authority = to_authority(chain.into_iter().next().expect("a chain is not empty"))?;
        in_time(authority.not_before, authority.not_after, now)?;
        Ok(authority)
    };
    read().map_or_else(Pair::Unusable, Pair::Usable)
}

fn in_time(not_before: Timestamp, not_after: Timestamp, now: Timestamp) -> Result<(), String> {
    if now < not_before {
        return Err(format!("the certificate begins only at {not_before}"));
    }
    if now >= not_after {
        return Err(format!("the certificate ended at {not_after}"));
    }
    Ok(())
}

fn read_leaf(
    secret: Option<&Secret>,
    side: Side,
    known: &[Authority],
    settings: &Settings,
    now: Timestamp,
) -> Pair<Leaf> {
    let Some(secret) = secret else {
        return Pair::Absent;
    };
    let read = || {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let chain = pair(secret, &provider)?;
        let (not_before, not_after, _) = facts(&chain[0])?;
        in_time(not_before, not_after, now)?;
        let mut why = String::from("there is no CA");
        let signer = known.iter().find(|authority| {
            let verified = verify(&chain, side, authority, settings, now, &provider);
            verified.map_err(|error| why = error).is_ok()
        });
        let Some(signer) = signer else {
            return Err(format!("no known CA vouches for the certificate: {why}"));
        };
        let since = secret.metadata.annotations.as_ref();
        let since = since.and_then(|all| all.get(TRUSTED_SINCE)?.parse().ok());
        Ok(Leaf {
            not_before,
            not_after,
            signer: signer.clone(),
            trusted: self::chain(value(Some(secret), CA)),
            trusted_since: since,
        })
    };
    read().map_or_else(Pair::Unusable, Pair::Usable)
}

/// As the other side does it when they shake hands.
fn verify(
    chain: &[CertificateDer<'static>],
    side: Side,
    authority: &Authority,
    settings: &Settings,
    now: Timestamp,
    provider: &Arc<CryptoProvider>,
) -> Result<(), String> {
    let mut roots = RootCertStore::empty();
    let added = roots.add(authority.certificate.clone());
    added.map_err(|error| error.to_string())?;
    let (roots, provider) = (Arc::new(roots), Arc::clone(provider));
    let seconds = u64::try_from(now.as_second()).map_err(|error| error.to_string())?;
    let now = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
    let (end, between) = (&chain[0], &chain[1..]);
    match side {
        Side::Front => {
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider)
                .build()
                .map_err(|error| error.to_string())?;
            let checked = verifier.verify_client_cert(end, between, now);
            checked.map_err(|error| error.to_string())?;
        }
        Side::Scaler => {
            let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider)
                .build()
                .map_err(|error| error.to_string())?;
            for name in &settings.server_names {
                let name = ServerName::try_from(name.as_str()).map_err(|e| e.to_string())?;
                let checked = verifier.verify_server_cert(end, between, &name, &[], now);
                checked.map_err(|error| error.to_string())?;
            }
        }
    }
    Ok(())
}
