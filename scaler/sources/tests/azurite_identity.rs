//! Identity-based connections: a token service played by a loopback server, and a real Azurite that checks the tokens over TLS.

mod support;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use maniple_sources::metrics::SourceMetrics;
use maniple_sources::storage::{
    Account, HttpOptions, QueueClient, Service, StorageHttp, WorkloadIdentity,
};
use maniple_sources::storage_queue::{QueueTarget, StorageQueueSource};
use serde_json::json;
use support::answers::{Answers, http_answer};
use support::azurite::{ACCOUNT, Azurite, KEY};
use support::settings;

/// A token as Microsoft Entra ID would make it. Azurite checks everything but the signature.
fn access_token(audience: &str) -> String {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("after 1970")
        .as_secs();
    let claims = json!({
        "aud": audience,
        "iss": "https://sts.windows.net/tenant/",
        "iat": now - 60,
        "nbf": now - 60,
        "exp": now + 3600,
    });
    let part = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!(
        "{}.{}.c2ln",
        part(json!({"alg": "RS256", "typ": "JWT"})),
        part(claims)
    )
}

fn token_answer(audience: &str) -> Vec<u8> {
    let body =
        json!({"access_token": access_token(audience), "expires_in": 3600, "token_type": "Bearer"});
    http_answer(
        "200 OK",
        "Content-Type: application/json\r\n",
        &body.to_string(),
    )
}

#[tokio::test]
async fn workload_identity_reads_a_queue_over_tls() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str, content: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, content).expect("written");
        path.to_str().expect("UTF-8").to_owned()
    };
    let certificate =
        rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let certificate_pem = certificate.cert.pem();
    let cert = file("cert.pem", &certificate_pem);
    let key = file("key.pem", &certificate.signing_key.serialize_pem());
    let azurite = Azurite::start_with(&["--cert", &cert, "--key", &key, "--oauth", "basic"]).await;
    let tokens = Answers::start(&token_answer("https://storage.azure.com")).await;

    let options = |certificates_pem: &str| HttpOptions {
        trusted_domains: vec!["localhost".to_owned()],
        certificates_pem: certificates_pem.as_bytes().to_vec(),
        identity: WorkloadIdentity {
            client_id: Some("scaler-client".to_owned()),
            tenant_id: Some("the-tenant".to_owned()),
            token_file: Some(file("token", "service.account.token\n")),
            authority_host: Some(format!("http://127.0.0.1:{}", tokens.port)),
        },
        ..HttpOptions::default()
    };
    let http = StorageHttp::new(options(&certificate_pem), SourceMetrics::default());
    let endpoint = format!("https://localhost:{}/{ACCOUNT}", azurite.queue_port);

    // Filled with the key, read with the identity.
    let by_key = format!("AccountName={ACCOUNT};AccountKey={KEY};QueueEndpoint={endpoint}");
    let by_key = Account::from_value("X", &by_key, Service::Queue).expect("an account");
    let queue = QueueClient::new(&http, &by_key, "orders").expect("a client");
    queue.create_queue().await.expect("created");
    queue
        .put_message("YQ==", Duration::ZERO)
        .await
        .expect("put");

    let settings = settings(&[
        ("Orders__queueServiceUri", endpoint.as_str()),
        ("Orders__credential", "workloadidentity"),
        ("Orders__clientId", "app-client"),
    ]);
    let target = QueueTarget::resolve(&settings, Some("Orders"), "orders").expect("resolves");
    for _ in 0..3 {
        // Each source is new, the token is not.
        let source = StorageQueueSource::new(&http, &target).expect("a source");
        assert_eq!(source.poll().await.expect("a reading").backlog, 1);
    }
    let received = tokens.received();
    assert_eq!(received.len(), 1, "{received:?}");
    for part in [
        "POST /the-tenant/oauth2",
        "client_id=app-client",
        "client_assertion=service.account.token",
    ] {
        assert!(
            received[0].contains(part),
            "{part} is missing in {}",
            received[0]
        );
    }

    // A server with an unknown certificate gets no token.
    let http = StorageHttp::new(options(""), SourceMetrics::default());
    let source = StorageQueueSource::new(&http, &target).expect("a source");
    let error = source.poll().await.expect_err("an unknown certificate");
    assert_eq!(error.category(), "unreachable", "{error}");
    assert!(error.to_string().contains("certificate"), "{error}");

    // A token for something else is refused by the service, a refused identity by the token service.
    tokens.answer_from_now(&token_answer("https://vault.azure.net"));
    let http = StorageHttp::new(options(&certificate_pem), SourceMetrics::default());
    let source = StorageQueueSource::new(&http, &target).expect("a source");
    let error = source
        .poll()
        .await
        .expect_err("a token for another audience");
    assert_eq!(error.category(), "unauthorized", "{error}");

    tokens.answer_from_now(&http_answer(
        "400 Bad Request",
        "",
        "{\"error\":\"invalid_client\"}",
    ));
    let http = StorageHttp::new(options(&certificate_pem), SourceMetrics::default());
    let source = StorageQueueSource::new(&http, &target).expect("a source");
    let error = source.poll().await.expect_err("no token");
    assert_eq!(error.category(), "credential", "{error}");
    let shown = format!("{error} {error:?}");
    assert!(!shown.contains("service.account.token"), "{shown}");
}
