//! Certificates and kubeconfigs of a cluster.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

use super::address::AddressPlan;
use super::files::write_secret;

/// Certificates are never renewed; a cluster lives for hours.
const LAST_YEAR: i32 = 2099;

/// The folder with all keys of a cluster.
#[derive(Clone, Debug)]
pub(super) struct Pki {
    folder: PathBuf,
}

impl Pki {
    /// The certificates of the cluster whose state is in `state`, made when they are not there.
    pub(super) fn ensure(state: &Path, node: &str, addresses: AddressPlan) -> Result<Self> {
        let pki = Self {
            folder: state.join("pki"),
        };
        if pki.folder.join("complete").exists() {
            return Ok(pki);
        }
        fs::create_dir_all(&pki.folder)?;
        fs::set_permissions(&pki.folder, fs::Permissions::from_mode(0o700))?;
        pki.create(node, addresses)
            .context("cannot make the cluster's certificates")?;
        fs::write(pki.folder.join("complete"), "")?;
        Ok(pki)
    }

    /// Path of `<name>.crt`.
    pub(super) fn cert(&self, name: &str) -> String {
        self.folder
            .join(format!("{name}.crt"))
            .display()
            .to_string()
    }

    /// Path of `<name>.key`.
    pub(super) fn key(&self, name: &str) -> String {
        self.folder
            .join(format!("{name}.key"))
            .display()
            .to_string()
    }

    /// Text of a file of the folder.
    pub(super) fn read(&self, file: &str) -> Result<String> {
        let path = self.folder.join(file);
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    }

    fn create(&self, node: &str, addresses: AddressPlan) -> Result<()> {
        let ca = self.authority("ca", "maniple-e2e")?;
        let front = self.authority("front-proxy-ca", "maniple-e2e-front-proxy")?;
        let keda = self.authority("keda-ca", "maniple-e2e-keda")?;

        let api_names = [
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            "kubernetes.default.svc.cluster.local",
            "localhost",
            "127.0.0.1",
            &addresses.api_service().to_string(),
            &addresses.node().to_string(),
        ];
        self.issue(
            &ca,
            "apiserver",
            &Subject::server("kube-apiserver", &api_names),
        )?;
        let masters = Some("system:masters");
        self.issue(&ca, "admin", &Subject::client("maniple-e2e-admin", masters))?;
        self.issue(
            &ca,
            "apiserver-kubelet",
            &Subject::client("kube-apiserver-kubelet-client", masters),
        )?;
        self.issue(
            &ca,
            "controller-manager",
            &Subject::client("system:kube-controller-manager", None),
        )?;
        self.issue(
            &ca,
            "scheduler",
            &Subject::client("system:kube-scheduler", None),
        )?;
        self.issue(&ca, "proxy", &Subject::client("system:kube-proxy", None))?;
        self.issue(
            &ca,
            "kubelet",
            &Subject::client(&format!("system:node:{node}"), Some("system:nodes")),
        )?;
        self.issue(
            &front,
            "front-proxy",
            &Subject::client("front-proxy-client", None),
        )?;
        let keda_names = [
            "localhost",
            "keda-operator",
            "keda-operator.keda",
            "keda-operator.keda.svc",
            "keda-operator.keda.svc.cluster.local",
            "keda-metrics-apiserver.keda.svc",
            "keda-metrics-apiserver.keda.svc.cluster.local",
        ];
        // The operator asks the adapter for a certificate too, hence both usages.
        self.issue(
            &keda,
            "keda",
            &Subject {
                client: true,
                ..Subject::server("keda", &keda_names)
            },
        )?;

        let accounts = KeyPair::generate()?;
        self.write("service-accounts.key", &accounts.serialize_pem())?;
        self.write("service-accounts.pub", &accounts.public_key_pem())
    }

    fn authority(&self, name: &str, common_name: &str) -> Result<Issuer<'static, KeyPair>> {
        let key = KeyPair::generate()?;
        let mut params = params(common_name, None, &[])?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::CrlSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        let certificate = params.self_signed(&key)?;
        self.write(&format!("{name}.crt"), &certificate.pem())?;
        self.write(&format!("{name}.key"), &key.serialize_pem())?;
        Ok(Issuer::new(params, key))
    }

    fn issue(&self, issuer: &Issuer<'_, KeyPair>, name: &str, subject: &Subject<'_>) -> Result<()> {
        let key = KeyPair::generate()?;
        let mut params = params(subject.common_name, subject.organization, subject.names)?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        if subject.client {
            params
                .extended_key_usages
                .push(ExtendedKeyUsagePurpose::ClientAuth);
        }
        if subject.server {
            params
                .extended_key_usages
                .push(ExtendedKeyUsagePurpose::ServerAuth);
        }
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, issuer)?;
        self.write(&format!("{name}.crt"), &certificate.pem())?;
        self.write(&format!("{name}.key"), &key.serialize_pem())
    }

    fn write(&self, file: &str, text: &str) -> Result<()> {
        write_secret(&self.folder.join(file), text)
    }

    /// Writes a kubeconfig for one of the client certificates.
    pub(super) fn kubeconfig(&self, path: &Path, server: &str, user: &str) -> Result<()> {
        let text = format!(
            "apiVersion: v1\nkind: Config\nclusters:\n- name: maniple-e2e\n  cluster:\n    server: {server}\n    \
             certificate-authority-data: {}\nusers:\n- name: {user}\n  user:\n    client-certificate-data: {}\n    \
             client-key-data: {}\ncontexts:\n- name: maniple-e2e\n  context:\n    cluster: maniple-e2e\n    user: {user}\n\
             current-context: maniple-e2e\n",
            base64(&self.read("ca.crt")?),
            base64(&self.read(&format!("{user}.crt"))?),
            base64(&self.read(&format!("{user}.key"))?),
        );
        write_secret(path, &text)
    }
}

struct Subject<'a> {
    common_name: &'a str,
    organization: Option<&'a str>,
    names: &'a [&'a str],
    client: bool,
    server: bool,
}

impl<'a> Subject<'a> {
    fn client(common_name: &'a str, organization: Option<&'a str>) -> Self {
        Self {
            common_name,
            organization,
            names: &[],
            client: true,
            server: false,
        }
    }

    fn server(common_name: &'a str, names: &'a [&'a str]) -> Self {
        Self {
            common_name,
            organization: None,
            names,
            client: false,
            server: true,
        }
    }
}

fn params(
    common_name: &str,
    organization: Option<&str>,
    names: &[&str],
) -> Result<CertificateParams> {
    let mut params = CertificateParams::new(
        names
            .iter()
            .map(|name| (*name).to_owned())
            .collect::<Vec<_>>(),
    )?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, common_name);
    if let Some(organization) = organization {
        params
            .distinguished_name
            .push(DnType::OrganizationName, organization);
    }
    params.not_after = rcgen::date_time_ymd(LAST_YEAR, 1, 1);
    Ok(params)
}

/// Base64 as Secrets and kubeconfigs hold it.
pub(super) fn base64(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(text)
}
