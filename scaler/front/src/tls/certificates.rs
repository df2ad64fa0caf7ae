//! The certificates in use.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rustls::{
    ServerConfig,
    client::verify_server_name,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    server::{ClientHello, ParsedCertificate, ResolvesServerCert},
    sign::CertifiedKey,
};
use tokio_util::sync::CancellationToken;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::metrics::Metrics;

/// Certificate and intermediates in a folder, leaf first, as a Secret of type `kubernetes.io/tls` is mounted.
const CERTIFICATE: &str = "tls.crt";
/// The private key beside it.
const KEY: &str = "tls.key";

/// Why a pair of files cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file is not there or holds something else.
    #[error("tls file {path}: {message}; it must hold PEM text")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// Certificate and key are read but cannot be used together.
    #[error(
        "tls files in {folder}: {source}; tls.key must be the key of the first certificate in tls.crt"
    )]
    Pair {
        /// Where they are.
        folder: PathBuf,
        /// The reason.
        source: rustls::Error,
    },
    /// There is no usable pair at the start.
    #[error("no usable certificate: {0}")]
    None(Box<TlsError>),
    /// No folder was named.
    #[error("no folder with tls.crt and tls.key is named")]
    NoFolder,
    /// The TLS library refuses its own defaults.
    #[error("tls cannot be set up: {0}")]
    Setup(#[from] rustls::Error),
}

impl TlsError {
    /// A stable word for logs and metrics.
    pub fn category(&self) -> &'static str {
        match self {
            Self::File { .. } => "tls-file",
            Self::Pair { .. } => "tls-pair",
            Self::None(_) | Self::NoFolder => "tls-none",
            Self::Setup(_) => "tls-setup",
        }
    }
}

/// What stood in the files of one folder.
#[derive(PartialEq, Eq)]
struct Content {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

/// A pair in use.
struct Good {
    content: Content,
    pair: Arc<CertifiedKey>,
    /// End of the certificate, seconds since 1970.
    end: i64,
}

/// One folder.
struct Source {
    folder: PathBuf,
    /// What is in use, with what it was made of; none while the files never were good.
    good: Option<Good>,
    /// The last complaint, so that it is logged once.
    told: String,
}

/// Certificates of some folders. Clones share what is in use.
#[derive(Clone)]
pub struct Certificates {
    sources: Arc<Mutex<Vec<Source>>>,
    chooser: Arc<Chooser>,
    config: Arc<ServerConfig>,
    provider: Arc<CryptoProvider>,
}

impl std::fmt::Debug for Certificates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let count = self.chooser.pairs.load().len();
        f.debug_struct("Certificates")
            .field("pairs", &count)
            .finish_non_exhaustive()
    }
}

impl Certificates {
    /// Reads `tls.crt` and `tls.key` of every folder. The first folder's certificate is shown to clients that name no host, or one that no certificate is for.
    ///
    /// A folder that cannot be used is logged and tried again by [`Certificates::follow`].
    ///
    /// # Errors
    /// When no folder at all can be used.
    pub fn load(folders: &[PathBuf]) -> Result<Self, TlsError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let chooser = Arc::new(Chooser {
            pairs: ArcSwap::default(),
        });
        let mut config = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(chooser.clone());
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let certificates = Self {
            sources: Arc::new(Mutex::new(
                folders
                    .iter()
                    .map(|folder| Source {
                        folder: folder.clone(),
                        good: None,
                        told: String::new(),
                    })
                    .collect(),
            )),
            chooser,
            config: Arc::new(config),
            provider,
        };
        let (_, errors) = certificates.reload();
        if certificates.chooser.pairs.load().is_empty() {
            let first = errors.into_iter().next().unwrap_or(TlsError::NoFolder);
            return Err(TlsError::None(Box::new(first)));
        }
        Ok(certificates)
    }

    pub(super) fn config(&self) -> Arc<ServerConfig> {
        self.config.clone()
    }

    /// Reads all folders again. What changed is in use for the next handshake; where files are wrong, the last good ones stay. Returns how many
    /// changed, and what is wrong.
    pub fn reload(&self) -> (usize, Vec<TlsError>) {
        let mut sources = self.sources.lock();
        let (mut changed, mut errors) = (0, Vec::new());
        for source in sources.iter_mut() {
            match source.reload(&self.provider) {
                Ok(true) => changed += 1,
                Ok(false) => {}
                Err(error) => {
                    let text = error.to_string();
                    if text != source.told {
                        tracing::warn!(%error, category = error.category(), in_use = source.good.is_some(), "certificate cannot be used, the last good one stays");
                        source.told = text;
                    }
                    errors.push(error);
                }
            }
        }
        if changed > 0 {
            let pairs = sources
                .iter()
                .filter_map(|source| Some(source.good.as_ref()?.pair.clone()));
            self.chooser.pairs.store(Arc::new(pairs.collect()));
        }
        (changed, errors)
    }

    /// Reads the folders every `pause` until `stop`. Kubernetes itself needs about a minute to bring a changed Secret into a pod.
    pub async fn follow(self, pause: Duration, metrics: Metrics, stop: CancellationToken) {
        loop {
            for source in self.sources.lock().iter() {
                let end = source.good.as_ref().map_or(0, |good| good.end);
                metrics.tls_end(source.folder.display().to_string(), end);
            }
            let slept = stop.run_until_cancelled(tokio::time::sleep(pause)).await;
            if slept.is_none() {
                return;
            }
            let (changed, errors) = self.reload();
            metrics.tls_reloads(changed, errors.len());
        }
    }
}

impl Source {
    fn reload(&mut self, provider: &CryptoProvider) -> Result<bool, TlsError> {
        let content = Content {
            certificate: read(&self.folder.join(CERTIFICATE))?,
            key: read(&self.folder.join(KEY))?,
        };
        if self
            .good
            .as_ref()
            .is_some_and(|good| good.content == content)
        {
            self.told.clear();
            return Ok(false);
        }
        let pair = Arc::new(self.pair(&content, provider)?);
        let end = self.end(&pair)?;
        tracing::info!(folder = %self.folder.display(), end, "certificate in use");
        self.told.clear();
        self.good = Some(Good { content, pair, end });
        Ok(true)
    }

    fn end(&self, pair: &CertifiedKey) -> Result<i64, TlsError> {
        let leaf = pair.cert.first().map_or(&[][..], AsRef::as_ref);
        let parsed = X509Certificate::from_der(leaf);
        let (_, certificate) = parsed.map_err(|error| TlsError::File {
            path: self.folder.join(CERTIFICATE),
            message: error.to_string(),
        })?;
        Ok(certificate.validity().not_after.timestamp())
    }

    fn pair(&self, content: &Content, provider: &CryptoProvider) -> Result<CertifiedKey, TlsError> {
        let file = |name: &str, message: String| TlsError::File {
            path: self.folder.join(name),
            message,
        };
        let chain = CertificateDer::pem_slice_iter(&content.certificate)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| file(CERTIFICATE, error.to_string()))?;
        let Some(leaf) = chain.first() else {
            return Err(file(
                CERTIFICATE,
                "there is no certificate in it".to_owned(),
            ));
        };
        ParsedCertificate::try_from(leaf).map_err(|error| file(CERTIFICATE, error.to_string()))?;
        let key = PrivateKeyDer::from_pem_slice(&content.key)
            .map_err(|error| file(KEY, error.to_string()))?;
        CertifiedKey::from_der(chain, key, provider).map_err(|source| TlsError::Pair {
            folder: self.folder.clone(),
            source,
        })
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|error| TlsError::File {
        path: path.to_owned(),
        message: error.to_string(),
    })
}

/// Finds the certificate for a name.
#[derive(Debug)]
struct Chooser {
    pairs: ArcSwap<Vec<Arc<CertifiedKey>>>,
}

impl ResolvesServerCert for Chooser {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let pairs = self.pairs.load();
        let first = pairs.first()?;
        if pairs.len() == 1 {
            return Some(first.clone());
        }
        let Some(Ok(name)) = hello.server_name().map(ServerName::try_from) else {
            return Some(first.clone());
        };
        let is_for = |pair: &&Arc<CertifiedKey>| {
            pair.cert.first().is_some_and(|leaf| {
                ParsedCertificate::try_from(leaf)
                    .is_ok_and(|leaf| verify_server_name(&leaf, &name).is_ok())
            })
        };
        Some(pairs.iter().find(is_for).unwrap_or(first).clone())
    }
}
