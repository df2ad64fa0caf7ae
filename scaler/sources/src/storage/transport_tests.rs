use super::*;
use crate::storage::Service;

#[test]
fn escape_leaves_nothing_with_a_meaning() {
    assert_eq!(escape("a-b_c.d~e"), "a-b_c.d~e");
    assert_eq!(
        escape("AgAAAA+/=&?#% ü"),
        "AgAAAA%2B%2F%3D%26%3F%23%25%20%C3%BC"
    );
}

#[test]
fn error_codes_are_cleaned() {
    let mut headers = HeaderMap::new();
    assert_eq!(error_code(&headers), "");
    headers.insert("x-ms-error-code", HeaderValue::from_static("Server<b>Busy"));
    assert_eq!(error_code(&headers), "ServerbBusy");
}

#[test]
fn identity_tokens_go_to_storage_domains_only() {
    let http = StorageHttp::new(
        HttpOptions {
            trusted_domains: vec![".storage.example.org".to_owned()],
            ..HttpOptions::default()
        },
        SourceMetrics::default(),
    );
    let cases = [
        ("https://a.queue.core.windows.net", true),
        ("https://a.queue.storage.azure.net", true),
        ("https://A.Queue.Core.UsGovCloudApi.net", true),
        ("https://a.queue.storage.example.org", true),
        ("https://storage.example.org", true),
        ("https://evilstorage.example.org", false),
        ("http://a.queue.core.windows.net", false),
        ("https://evil.example.org", false),
        ("https://core.windows.net.example.org", false),
        ("https://127.0.0.1:10001/devstoreaccount1", false),
    ];
    for (endpoint, trusted) in cases {
        let account = Account {
            name: "a".to_owned(),
            service: Service::Queue,
            endpoint: endpoint.to_owned(),
            credential: Credential::WorkloadIdentity {
                client_id: None,
                tenant_id: None,
            },
        };
        let result = http.service(&account).map(|_| ());
        assert_eq!(result.is_ok(), trusted, "{endpoint}");
        if let Err(error) = result {
            assert_eq!(error.category(), "endpoint_untrusted");
        }
    }
}
