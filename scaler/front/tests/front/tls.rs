//! Encrypted connections of clients: real handshakes, certificates that change, and clients that do not behave.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, StatusCode, Version};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use maniple_front::{
    server::{Door, ServerSettings, serve_all},
    tls::{Certificates, TlsError},
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_util::sync::CancellationToken;

use crate::{
    client::get,
    cluster::{Front, HOST, Hub, settings, until},
    instance::Instance,
};

/// Far shorter than anybody waits, far longer than a handshake takes.
const RELOAD: Duration = Duration::from_millis(20);

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// Writes a pair for these names as a Secret is mounted.
    fn write(&self, folder: &Path, names: &[&str]) {
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let certificate = CertificateParams::new(names)
            .unwrap()
            .signed_by(&key, &self.0)
            .unwrap();
        std::fs::write(folder.join("tls.crt"), certificate.pem()).unwrap();
        std::fs::write(folder.join("tls.key"), key.serialize_pem()).unwrap();
    }

    fn client(&self, protocols: &[&str]) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|p| p.as_bytes().to_vec()).collect();
        config
    }

    async fn connect(
        &self,
        to: SocketAddr,
        name: &str,
        protocols: &[&str],
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let connector = TlsConnector::from(Arc::new(self.client(protocols)));
        let stream = TcpStream::connect(to).await?;
        connector
            .connect(ServerName::try_from(name.to_owned()).unwrap(), stream)
            .await
    }

    /// The certificate that is shown to a client which asks for `name`.
    async fn shown(&self, to: SocketAddr, name: &str) -> Option<CertificateDer<'static>> {
        let stream = self.connect(to, name, &[]).await.ok()?;
        let (_, session) = stream.get_ref();
        Some(session.peer_certificates()?.first()?.clone().into_owned())
    }
}

/// A front end with a second, encrypted port.
struct Encrypted {
    front: Front,
    address: SocketAddr,
    stop: CancellationToken,
    certificates: Certificates,
    _hub: Hub,
    _instance: Instance,
}

async fn encrypted(folders: &[&TempDir], server: ServerSettings) -> Encrypted {
    let hub = Hub::start();
    let instance = Instance::start().await;
    hub.add(1, instance.address, 4);
    let front = Front::start(&hub, 1, settings()).await;
    let folders: Vec<_> = folders.iter().map(|f| f.path().to_owned()).collect();
    let certificates = Certificates::load(&folders).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let door = Door {
        listener,
        certificates: Some(certificates.clone()),
    };
    tokio::spawn(serve_all(
        vec![door],
        front.proxy.clone(),
        server,
        stop.clone(),
    ));
    Encrypted {
        front,
        address,
        stop,
        certificates,
        _hub: hub,
        _instance: instance,
    }
}

fn failures(front: &Front, category: &str) -> bool {
    let name = format!("front_tls_handshake_failures_total{{category=\"{category}\"}} ");
    front.metrics().contains(&name)
}

fn request(version: Version) -> Request<Empty<Bytes>> {
    let request = Request::builder().version(version);
    let request = if version == Version::HTTP_2 {
        request.uri(format!("https://{HOST}/x"))
    } else {
        request.uri("/x").header("host", HOST)
    };
    request.body(Empty::new()).unwrap()
}

#[tokio::test]
async fn both_versions_of_http_are_agreed_on_and_the_instance_is_told_of_https() {
    let (authority, folder) = (Authority::new(), tempfile::tempdir().unwrap());
    authority.write(folder.path(), &[HOST]);
    let server = encrypted(&[&folder], ServerSettings::default()).await;
    for (protocols, expected) in [
        (&["h2", "http/1.1"][..], Some(&b"h2"[..])),
        (&["http/1.1"], Some(b"http/1.1")),
        (&[], None),
    ] {
        let stream = authority
            .connect(server.address, HOST, protocols)
            .await
            .unwrap();
        let agreed = stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec);
        assert_eq!(agreed.as_deref(), expected);
        let io = TokioIo::new(stream);
        let response = if expected == Some(b"h2") {
            let (mut sender, connection) =
                hyper::client::conn::http2::handshake(TokioExecutor::new(), io)
                    .await
                    .unwrap();
            tokio::spawn(connection);
            sender.send_request(request(Version::HTTP_2)).await.unwrap()
        } else {
            let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
            tokio::spawn(connection);
            sender
                .send_request(request(Version::HTTP_11))
                .await
                .unwrap()
        };
        assert_eq!(response.status(), StatusCode::OK);
        response.collect().await.unwrap();
    }
    let text = server.front.metrics();
    assert!(!text.contains("handshake_failures_total{"), "{text}");
    // The plain port goes on beside it.
    assert_eq!(get(server.front.address, "/x").await.0, StatusCode::OK);
}

#[tokio::test]
async fn a_changed_certificate_is_shown_and_a_wrong_one_is_not() {
    let (authority, folder) = (Authority::new(), tempfile::tempdir().unwrap());
    authority.write(folder.path(), &[HOST]);
    let server = encrypted(&[&folder], ServerSettings::default()).await;
    let stop = CancellationToken::new();
    let _stop = stop.clone().drop_guard();
    let numbers = server.front.numbers.clone();
    tokio::spawn(server.certificates.clone().follow(RELOAD, numbers, stop));
    let shown = async || authority.shown(server.address, HOST).await.unwrap();
    let errors = || {
        let text = server.front.metrics();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("front_tls_reloads_total{result=\"error\"} "));
        line.map_or(0, |count| count.parse::<u64>().unwrap())
    };
    let first = shown().await;
    // A connection that is open lives on.
    let mut old = authority
        .connect(server.address, HOST, &["http/1.1"])
        .await
        .unwrap();

    authority.write(folder.path(), &[HOST]);
    until("the new certificate", async || shown().await != first).await;
    let second = shown().await;

    // A rotation stopped half way, garbage, an empty file, no file: the last good pair stays in use.
    let key = std::fs::read(folder.path().join("tls.key")).unwrap();
    let other = tempfile::tempdir().unwrap();
    authority.write(other.path(), &[HOST]);
    let other_key = std::fs::read(other.path().join("tls.key")).unwrap();
    for wrong in [Some(&other_key[..]), Some(b"garbage"), Some(b""), None] {
        let path = folder.path().join("tls.key");
        match wrong {
            Some(bytes) => std::fs::write(&path, bytes).unwrap(),
            None => std::fs::remove_file(&path).unwrap(),
        }
        let before = errors();
        until("the complaint", async || errors() > before).await;
        assert_eq!(shown().await, second);
    }
    std::fs::write(folder.path().join("tls.key"), key).unwrap();
    authority.write(folder.path(), &[HOST, "more.example"]);
    until("the third certificate", async || shown().await != second).await;

    let text = server.front.metrics();
    let end = text.lines().find_map(|line| {
        let line = line.strip_prefix("front_tls_certificate_end_timestamp_seconds{")?;
        line.rsplit(' ').next()?.parse::<u64>().ok()
    });
    // Certificates of tests end in the far future.
    assert!(end.is_some_and(|end| end > 4_000_000_000), "{text}");

    old.write_all(
        format!("GET /x HTTP/1.1\r\nhost: {HOST}\r\nconnection: close\r\n\r\n").as_bytes(),
    )
    .await
    .unwrap();
    let mut answer = String::new();
    old.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test]
async fn the_name_that_is_asked_for_decides_on_the_certificate() {
    let authority = Authority::new();
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    authority.write(first.path(), &[HOST]);
    authority.write(second.path(), &["other.example", "*.wild.example"]);
    let server = encrypted(&[&first, &second], ServerSettings::default()).await;
    let shown = async |name| authority.shown(server.address, name).await;
    assert_ne!(shown(HOST).await, shown("other.example").await);
    assert_eq!(shown("other.example").await, shown("a.wild.example").await);
    // The first one is shown, and the client sees that it is for somebody else.
    assert_eq!(shown("unknown.example").await, None);
    until("the refusal", async || {
        failures(&server.front, "refused-by-client")
    })
    .await;
}

#[tokio::test]
async fn clients_that_speak_no_tls_or_nothing_are_let_go_and_take_no_place() {
    let (authority, folder) = (Authority::new(), tempfile::tempdir().unwrap());
    authority.write(folder.path(), &[HOST]);
    let settings = ServerSettings {
        handshakes: 1,
        handshake_limit: Duration::from_millis(300),
        ..ServerSettings::default()
    };
    let server = encrypted(&[&folder], settings).await;
    let mut silent = TcpStream::connect(server.address).await.unwrap();
    let mut plain = TcpStream::connect(server.address).await.unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let mut rest = Vec::new();
    plain.read_to_end(&mut rest).await.ok();
    // The silent one holds no place: there is one only.
    assert!(authority.shown(server.address, HOST).await.is_some());
    assert_eq!(
        silent.read(&mut [0]).await.unwrap(),
        0,
        "closed at the limit"
    );
    until("both are counted", async || {
        failures(&server.front, "not-tls") && failures(&server.front, "timeout")
    })
    .await;
    server.stop.cancel();
}

#[test]
fn a_start_without_any_usable_certificate_says_why() {
    let (authority, good, bad) = (
        Authority::new(),
        tempfile::tempdir().unwrap(),
        tempfile::tempdir().unwrap(),
    );
    let load = |folders: &[&TempDir]| {
        let folders: Vec<_> = folders.iter().map(|f| f.path().to_owned()).collect();
        Certificates::load(&folders).map(drop)
    };
    let told = |result: Result<(), TlsError>| {
        let error = result.unwrap_err();
        assert_eq!(error.category(), "tls-none");
        error.to_string()
    };
    assert!(told(load(&[])).contains("no folder"));
    let text = told(load(&[&bad]));
    assert!(text.contains("tls.crt"), "{text}");
    authority.write(bad.path(), &[HOST]);
    std::fs::write(bad.path().join("tls.key"), "no key").unwrap();
    let text = told(load(&[&bad]));
    assert!(text.contains("tls.key"), "{text}");
    // One bad pair among good ones takes only its own names away.
    authority.write(good.path(), &[HOST]);
    assert!(load(&[&bad, &good]).is_ok());
}
