//! The encrypted port as it is started from arguments.

use std::sync::Arc;

use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs, pki_types::ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::{
    HOST,
    process::Front,
    request,
    scaler::{Instance, Scaler},
};

#[tokio::test]
async fn requests_come_in_plain_and_encrypted() {
    let folder = tempfile::tempdir().unwrap();
    let pair = rcgen::generate_simple_self_signed(vec![HOST.to_owned()]).unwrap();
    std::fs::write(folder.path().join("tls.crt"), pair.cert.pem()).unwrap();
    std::fs::write(
        folder.path().join("tls.key"),
        pair.signing_key.serialize_pem(),
    )
    .unwrap();
    let instance = Instance::start().await;
    let scaler = Scaler::start(([127, 0, 0, 1], 0).into(), Some(instance.address));
    let argument = format!("--tls-folder={}", folder.path().display());
    let front = Front::start(scaler.address, &[&argument]).await;
    front.until_ready(true).await;
    let to = front.told("\"tls\":true").await;

    let mut roots = RootCertStore::empty();
    roots.add(pair.cert.der().clone()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TlsConnector::from(Arc::new(config))
        .connect(
            ServerName::try_from(HOST).unwrap(),
            TcpStream::connect(to).await.unwrap(),
        )
        .await
        .unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    let response = sender.send_request(request("/x")).await.unwrap();
    assert_eq!(response.status(), 200);
    let open = front
        .metric("maniple_front_connections{scheme=\"https\"}")
        .await;
    assert_eq!(open, 1);
    assert_eq!(crate::get(front.address, "/x").await.status(), 200);
}

#[tokio::test]
async fn arguments_that_cannot_work_are_named_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let empty = format!("--tls-folder={}", folder.path().display());
    for (arguments, named) in [
        (vec![empty.as_str()], "tls.crt"),
        (vec!["--otlp-endpoint=no url"], "--otlp-endpoint"),
        (
            vec![
                "--otlp-endpoint=https://c:4317",
                "--otlp-ca=/nowhere/ca.crt",
            ],
            "/nowhere/ca.crt",
        ),
        (vec!["--listen-address=192.0.2.1:80"], "--listen-address"),
        (
            vec!["--access-log-per-mille=1001"],
            "--access-log-per-mille",
        ),
    ] {
        let said = Front::refused(&arguments).await;
        assert!(said.contains(named), "{arguments:?}: {said}");
    }
}
