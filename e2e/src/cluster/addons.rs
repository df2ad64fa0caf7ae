//! What runs inside the cluster as pods: CoreDNS, and KEDA with its own manifests. Azurite gets a name there.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use super::build::{Built, copy_tree};
use super::config::NODE;
use super::files;
use super::images;
use super::kubectl::Kubectl;
use super::options::Options;
use super::paths::StateDir;
use super::pki::{Pki, base64};
use super::versions;
use crate::image::{Spec, from_binary, sha256};

const OPERATOR_NAME: &str = "maniple.dev/e2e/keda";
const ADAPTER_NAME: &str = "maniple.dev/e2e/keda-adapter";

/// A Deployment that the harness put into the cluster, which tests may stop, kill and start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PodPart {
    /// Name of the part.
    pub name: &'static str,
    /// Kubernetes namespace.
    pub namespace: &'static str,
    /// Deployment, which has one replica.
    pub deployment: &'static str,
    /// Its container.
    pub container: &'static str,
}

/// The parts that run as pods.
pub const POD_PARTS: &[PodPart] = &[
    PodPart {
        name: "coredns",
        namespace: "kube-system",
        deployment: "coredns",
        container: "coredns",
    },
    PodPart {
        name: "keda-operator",
        namespace: "keda",
        deployment: "keda-operator",
        container: "keda-operator",
    },
    PodPart {
        name: "keda-metrics",
        namespace: "keda",
        deployment: "keda-metrics-apiserver",
        container: "keda-metrics-apiserver",
    },
];

/// Images of the pods, and of pods as such.
pub(super) fn image_specs(built: &Built, options: &Options) -> Result<Vec<Spec>> {
    let mut specs = vec![from_binary(
        super::config::PAUSE_IMAGE,
        built.path("pause")?,
        &[],
        &[],
    )?];
    specs.push(from_binary(
        &coredns_image(),
        built.path("coredns")?,
        &[],
        &[],
    )?);
    if options.keda {
        specs.push(from_binary(
            &format!("{OPERATOR_NAME}:{}", versions::KEDA),
            built.path("keda")?,
            &[],
            &[],
        )?);
        specs.push(from_binary(
            &format!("{ADAPTER_NAME}:{}", versions::KEDA),
            built.path("keda-adapter")?,
            &[],
            &[],
        )?);
    }
    Ok(specs)
}

fn coredns_image() -> String {
    format!("maniple.dev/e2e/coredns:{}", versions::COREDNS)
}

/// Imports the images that are missing.
pub(super) fn load_images(state: &StateDir, built: &Built, options: &Options) -> Result<()> {
    for spec in image_specs(built, options)? {
        images::load(state, &spec)?;
    }
    Ok(())
}

/// Applies everything. Unchanged objects stay as they are.
pub(super) fn apply(
    kubectl: &Kubectl,
    state: &StateDir,
    built: &Built,
    pki: &Pki,
    options: &Options,
) -> Result<()> {
    let dns = options.addresses.dns_service().to_string();
    let mut manifests = fill(
        include_str!("../../manifests/coredns.yaml"),
        &[
            ("DNS_ADDRESS", &dns),
            ("NODE", NODE),
            ("COREDNS_IMAGE", &coredns_image()),
        ],
    );
    if options.azurite {
        let node = options.addresses.node().to_string();
        manifests.push_str("---\n");
        manifests.push_str(&fill(
            include_str!("../../manifests/azurite.yaml"),
            &[("NODE_ADDRESS", &node)],
        ));
    }
    if options.keda {
        let certificate = pki.read("keda.crt")?;
        manifests.push_str("---\n");
        manifests.push_str(&fill(
            include_str!("../../manifests/keda-certificates.yaml"),
            &[
                ("CA", &base64(&pki.read("keda-ca.crt")?)),
                ("CERTIFICATE", &base64(&certificate)),
                ("KEY", &base64(&pki.read("keda.key")?)),
            ],
        ));
        manifests.push_str("---\n");
        manifests.push_str(&keda_manifests(kubectl, state, built, pki, &certificate)?);
    }
    kubectl.apply(&manifests).map(drop)
}

fn keda_manifests(
    kubectl: &Kubectl,
    state: &StateDir,
    built: &Built,
    pki: &Pki,
    certificate: &str,
) -> Result<String> {
    let folder = keda_folder(state, built.path("keda-config")?)?;
    let kustomization = fill(
        include_str!("../../manifests/keda-kustomization.yaml"),
        &[
            ("OPERATOR_NAME", OPERATOR_NAME),
            ("ADAPTER_NAME", ADAPTER_NAME),
            ("TAG", versions::KEDA),
            ("NODE", NODE),
            ("CERTIFICATE_DIGEST", &sha256(certificate.as_bytes())[..16]),
            ("CA_BUNDLE", &base64(&pki.read("keda-ca.crt")?)),
        ],
    );
    let own = folder.join("maniple");
    fs::create_dir_all(&own)?;
    files::write(&own.join("kustomization.yaml"), &kustomization)?;
    kubectl
        .run(&["kustomize", &own.display().to_string()])
        .context("cannot render KEDA's manifests")
}

/// A copy of KEDA's manifests, because kustomize wants its bases beside the overlay.
fn keda_folder(state: &StateDir, source: &Path) -> Result<PathBuf> {
    let folder = state
        .join("config")
        .join(format!("keda-{}", versions::KEDA));
    if !folder.exists() {
        copy_tree(source, &folder)?;
    }
    Ok(folder)
}

/// Replaces `${NAME}`.
fn fill(text: &str, values: &[(&str, &str)]) -> String {
    values.iter().fold(text.to_owned(), |text, (name, value)| {
        text.replace(&format!("${{{name}}}"), value)
    })
}

/// Fails as long as something that was applied is not ready.
pub(super) fn ready(kubectl: &Kubectl, options: &Options) -> Result<()> {
    kubectl.has_condition(&["node", NODE], "Ready")?;
    for part in POD_PARTS {
        if part.namespace != "keda" || options.keda {
            kubectl.has_condition(
                &["-n", part.namespace, "deployment", part.deployment],
                "Available",
            )?;
        }
    }
    // Conditions may be from before a crash; an answer is not.
    answers(SocketAddr::from((options.addresses.dns_service(), 53)))?;
    if options.keda {
        kubectl.has_condition(
            &["apiservice", "v1beta1.external.metrics.k8s.io"],
            "Available",
        )?;
    }
    Ok(())
}

fn answers(address: SocketAddr) -> Result<()> {
    TcpStream::connect_timeout(&address, Duration::from_secs(1))
        .map(drop)
        .with_context(|| format!("{address} does not answer"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_placeholder_is_left_in_filled_manifests() {
        let filled = fill(
            include_str!("../../manifests/coredns.yaml"),
            &[
                ("DNS_ADDRESS", "10.0.0.10"),
                ("NODE", "n"),
                ("COREDNS_IMAGE", "i"),
            ],
        );
        assert!(
            filled.contains("clusterIP: 10.0.0.10") && !filled.contains("${"),
            "{filled}"
        );
    }
}
