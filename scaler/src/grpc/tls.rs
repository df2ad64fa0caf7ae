//! TLS from files, read again when they change.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use rustls::{
    RootCertStore, ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use tokio_util::sync::CancellationToken;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{GrpcError, port::PortMetrics};

/// How often the files are looked at. Kubernetes itself needs about a minute to bring a changed Secret into a pod.
const LOOK: Duration = Duration::from_secs(2);

/// Where certificate, key and CA are. PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The server's certificate and its intermediates, leaf first.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// When given, clients must show a certificate of one of these CAs (mutual TLS).
    pub client_ca: Option<PathBuf>,
}

#[derive(PartialEq, Eq)]
struct Content {
    certificate: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
}

/// The configuration in use.
pub(super) struct TlsStore {
    /// Of which port, for logs.
    pub(super) port: &'static str,
    files: TlsFiles,
    current: Mutex<(Content, Arc<ServerConfig>)>,
}

impl TlsStore {
    /// Reads the files of a port.
    pub(super) fn load(port: &'static str, files: TlsFiles) -> Result<Self, GrpcError> {
        let content = read(&files)?;
        let config = Arc::new(build(&files, &content)?);
        Ok(Self {
            port,
            files,
            current: Mutex::new((content, config)),
        })
    }

    /// For the next connection.
    pub(super) fn current(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.current.lock().1)
    }

    /// Reads the files again; `true` when they changed and are in use now. On an error the old ones stay.
    pub(super) fn reload(&self) -> Result<bool, GrpcError> {
        let content = read(&self.files)?;
        if self.current.lock().0 == content {
            return Ok(false);
        }
        let config = Arc::new(build(&self.files, &content)?);
        *self.current.lock() = (content, config);
        Ok(true)
    }

    /// When the certificate in use ends, in seconds since 1970; `None` when that cannot be read.
    fn certificate_end(&self) -> Option<i64> {
        let current = self.current.lock();
        let certificate = CertificateDer::from_pem_slice(&current.0.certificate).ok()?;
        let (_, parsed) = X509Certificate::from_der(&certificate).ok()?;
        Some(parsed.validity().not_after.timestamp())
    }

    /// Reloads until `stop`.
    pub(super) async fn follow(&self, metrics: PortMetrics, stop: CancellationToken) {
        let port = self.port;
        let show = || metrics.certificate_ends(self.certificate_end().unwrap_or_default());
        show();
        let mut told = String::new();
        while stop
            .run_until_cancelled(tokio::time::sleep(LOOK))
            .await
            .is_some()
        {
            match self.reload() {
                Ok(false) => {}
                Ok(true) => {
                    told.clear();
                    metrics.reloaded(true);
                    show();
                    tracing::info!(port, certificate = %self.files.certificate.display(), "certificates changed");
                }
                Err(error) => {
                    metrics.reloaded(false);
                    // Once per kind of trouble: a rotation writes several files one after the other.
                    let message = error.to_string();
                    if message != told {
                        tracing::warn!(port, %error, "changed certificates cannot be used, the old ones stay");
                        told = message;
                    }
                }
            }
        }
    }
}

fn read(files: &TlsFiles) -> Result<Content, GrpcError> {
    let file = |path: &Path| fs::read(path).map_err(|error| bad(path, &error));
    Ok(Content {
        certificate: file(&files.certificate)?,
        key: file(&files.key)?,
        client_ca: files.client_ca.as_deref().map(file).transpose()?,
    })
}

fn build(files: &TlsFiles, content: &Content) -> Result<ServerConfig, GrpcError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?;
    let builder = match (&files.client_ca, &content.client_ca) {
        (Some(path), Some(pem)) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(path, pem)? {
                roots.add(certificate)?;
            }
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build()?;
            builder.with_client_cert_verifier(verifier)
        }
        _ => builder.with_no_client_auth(),
    };
    let chain = certificates(&files.certificate, &content.certificate)?;
    let key =
        PrivateKeyDer::from_pem_slice(&content.key).map_err(|error| bad(&files.key, &error))?;
    let mut config = builder.with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

fn certificates(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, GrpcError> {
    let list = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| bad(path, &error))?;
    if list.is_empty() {
        return Err(bad(path, &"there is no certificate in it"));
    }
    Ok(list)
}

fn bad(path: &Path, message: &dyn ToString) -> GrpcError {
    GrpcError::TlsFile {
        path: path.to_owned(),
        message: message.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write_pair(files: &TlsFiles) {
        let pair = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        fs::write(&files.certificate, pair.cert.pem()).unwrap();
        fs::write(&files.key, pair.signing_key.serialize_pem()).unwrap();
    }

    fn files(directory: &Path) -> TlsFiles {
        TlsFiles {
            certificate: directory.join("tls.crt"),
            key: directory.join("tls.key"),
            client_ca: None,
        }
    }

    #[test]
    fn changed_files_are_used_and_bad_ones_are_not() {
        let directory = tempfile::tempdir().unwrap();
        let files = files(directory.path());
        write_pair(&files);
        let store = TlsStore::load("grpc", files.clone()).unwrap();
        let first = store.current();
        assert!(!store.reload().unwrap());
        assert!(Arc::ptr_eq(&first, &store.current()));
        // What rcgen makes when nothing is said: until the year 4096.
        assert!(store.certificate_end() > Some(60_000_000_000));

        write_pair(&files);
        assert!(store.reload().unwrap());
        let second = store.current();
        assert!(!Arc::ptr_eq(&first, &second));

        // In the middle of a rotation: the new certificate with the old key.
        let old_key = fs::read(&files.key).unwrap();
        write_pair(&files);
        fs::write(&files.key, old_key).unwrap();
        assert_eq!(store.reload().unwrap_err().category(), "tls");
        assert!(Arc::ptr_eq(&second, &store.current()));
    }

    #[test]
    fn bad_files_are_named() {
        let directory = tempfile::tempdir().unwrap();
        let files = files(directory.path());
        let error = |files: &TlsFiles| {
            TlsStore::load("grpc", files.clone())
                .map(drop)
                .unwrap_err()
                .to_string()
        };
        assert!(error(&files).contains("tls.crt"), "{}", error(&files));

        write_pair(&files);
        fs::write(&files.key, "no key").unwrap();
        assert!(error(&files).contains("tls.key"), "{}", error(&files));

        write_pair(&files);
        let client_ca = directory.path().join("ca.crt");
        fs::write(&client_ca, "").unwrap();
        let files = TlsFiles {
            client_ca: Some(client_ca),
            ..files
        };
        assert!(
            error(&files).contains("no certificate"),
            "{}",
            error(&files)
        );
    }
}
