//! TLS and mutual TLS.

use std::{fs, path::Path};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tonic::transport::{Certificate, ClientTlsConfig, Identity};

use crate::*;

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Authority {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// Certificate and key for `localhost`, PEM.
fn issue(authority: &Authority) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, authority).unwrap();
    (certificate.pem(), key.serialize_pem())
}

fn args(directory: &Path, authority: &Authority, clients: Option<&Authority>) -> GrpcArgs {
    let (certificate, key) = issue(authority);
    let write = |name: &str, text: String| {
        let path = directory.join(name);
        fs::write(&path, text).unwrap();
        Some(path)
    };
    GrpcArgs {
        grpc_tls_cert: write("tls.crt", certificate),
        grpc_tls_key: write("tls.key", key),
        grpc_tls_client_ca: clients.and_then(|clients| write("ca.crt", clients.pem())),
        ..GrpcArgs::plain(([127, 0, 0, 1], 0).into())
    }
}

/// The desired count of `shop`, asked over TLS.
async fn ask(bench: &Bench, tls: ClientTlsConfig) -> Result<bool, String> {
    let url = format!("https://localhost:{}", bench.port);
    let endpoint = Endpoint::from_shared(url)
        .unwrap()
        .tls_config(tls)
        .map_err(|e| format!("{e:?}"))?;
    let channel = endpoint
        .connect()
        .await
        .map_err(|error| format!("{error:?}"))?;
    let answer = ExternalScalerClient::new(channel)
        .is_active(object("shop"))
        .await;
    answer
        .map(|answer| answer.into_inner().result)
        .map_err(|status| status.to_string())
}

fn trusting(authority: &Authority) -> ClientTlsConfig {
    ClientTlsConfig::new().ca_certificate(Certificate::from_pem(authority.pem()))
}

#[tokio::test]
async fn a_client_that_trusts_the_ca_is_served() {
    let directory = tempfile::tempdir().unwrap();
    let ours = authority();
    let bench = Bench::start_with(args(directory.path(), &ours, None)).await;
    bench.write("shop", known(1, 1));
    assert_eq!(ask(&bench, trusting(&ours)).await, Ok(true));
    assert!(ask(&bench, trusting(&authority())).await.is_err());
    bench.finish().await;
}

#[tokio::test]
async fn mutual_tls_wants_a_certificate_of_the_client_ca() {
    let directory = tempfile::tempdir().unwrap();
    let (ours, clients) = (authority(), authority());
    let bench = Bench::start_with(args(directory.path(), &ours, Some(&clients))).await;
    bench.write("shop", known(1, 1));
    let identity = |authority: &Authority| {
        let (certificate, key) = issue(authority);
        Identity::from_pem(certificate, key)
    };
    assert_eq!(
        ask(&bench, trusting(&ours).identity(identity(&clients))).await,
        Ok(true)
    );
    assert!(ask(&bench, trusting(&ours)).await.is_err());
    assert!(
        ask(&bench, trusting(&ours).identity(identity(&ours)))
            .await
            .is_err()
    );
    bench.finish().await;
}

#[tokio::test]
async fn a_missing_file_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let mut args = args(directory.path(), &authority(), None);
    args.grpc_tls_cert = Some(directory.path().join("gone.crt"));
    let error = GrpcServer::bind(&args).await.unwrap_err();
    assert_eq!(error.category(), "tls");
    assert!(error.to_string().contains("gone.crt"), "{error}");
}
