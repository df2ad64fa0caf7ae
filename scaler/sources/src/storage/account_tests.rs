use super::*;

fn settings(pairs: &[(&str, &str)]) -> Settings {
    pairs.iter().copied().collect()
}

fn identity(client_id: Option<&str>, tenant_id: Option<&str>) -> Credential {
    Credential::WorkloadIdentity {
        client_id: client_id.map(str::to_owned),
        tenant_id: tenant_id.map(str::to_owned),
    }
}

#[test]
fn connection_string_by_the_default_name() {
    let settings = settings(&[("AzureWebJobsStorage", "AccountName=acct;AccountKey=a2V5")]);
    let account = Account::resolve(&settings, None, Service::Blob).expect("resolves");
    assert_eq!(account.name, "acct");
    assert_eq!(account.endpoint, "https://acct.blob.core.windows.net");
}

/// Settings, service, expected account name, endpoint and credential.
type IdentityCase = (
    &'static [(&'static str, &'static str)],
    Service,
    &'static str,
    &'static str,
    Credential,
);

#[test]
fn identity_forms() {
    let cases: [IdentityCase; 6] = [
        (
            &[("X__accountName", "acct")],
            Service::Queue,
            "acct",
            "https://acct.queue.core.windows.net",
            identity(None, None),
        ),
        (
            &[
                ("X__queueServiceUri", "https://acct.queue.core.windows.net/"),
                ("x__CREDENTIAL", "ManagedIdentity"),
                ("X:clientId", "1-2"),
                ("X__tenantId", "t"),
            ],
            Service::Queue,
            "acct",
            "https://acct.queue.core.windows.net",
            identity(Some("1-2"), Some("t")),
        ),
        (
            &[
                ("X", " "),
                ("X__blobServiceUri", "https://b.blob.storage.azure.net"),
            ],
            Service::Blob,
            "b",
            "https://b.blob.storage.azure.net",
            identity(None, None),
        ),
        (
            // The account name wins, as in the extension.
            &[
                ("X__accountName", "one"),
                ("X__queueServiceUri", "https://two.queue.core.windows.net"),
            ],
            Service::Queue,
            "one",
            "https://one.queue.core.windows.net",
            identity(None, None),
        ),
        (
            &[
                ("X__serviceUri", "https://acct.queue.core.windows.net"),
                ("X__credential", "workloadidentity"),
            ],
            Service::Queue,
            "acct",
            "https://acct.queue.core.windows.net",
            identity(None, None),
        ),
        (
            &[(
                "X__queueServiceUri",
                "https://a.queue.core.windows.net/?sv=1&sig=abc",
            )],
            Service::Queue,
            "a",
            "https://a.queue.core.windows.net",
            Credential::Sas(Secret::new("sv=1&sig=abc")),
        ),
    ];
    for (pairs, service, name, endpoint, credential) in cases {
        let account = Account::resolve(&settings(pairs), Some("X"), service)
            .unwrap_or_else(|error| panic!("{pairs:?}: {error}"));
        assert_eq!(account.name, name, "{pairs:?}");
        assert_eq!(account.endpoint, endpoint, "{pairs:?}");
        assert_eq!(account.credential, credential, "{pairs:?}");
    }
}

#[test]
fn sas_urls() {
    let account = Account::from_value(
        "X",
        "http://127.0.0.1:10001/devstoreaccount1?sv=2023-11-03&sig=abc%3D",
        Service::Queue,
    )
    .expect("resolves");
    assert_eq!(account.name, "devstoreaccount1");
    assert_eq!(account.endpoint, "http://127.0.0.1:10001/devstoreaccount1");
    assert_eq!(
        account.credential,
        Credential::Sas(Secret::new("sv=2023-11-03&sig=abc%3D"))
    );
}

#[test]
fn refusals_have_a_category_and_say_what_to_do() {
    type Case = (
        &'static [(&'static str, &'static str)],
        &'static str,
        &'static str,
    );
    let cases: &[Case] = &[
        (&[], "connection_missing", "X__queueServiceUri"),
        (&[("X", "hunter2")], "connection_malformed", "name=value"),
        (&[("X", "")], "connection_malformed", "X__accountName"),
        (
            &[("X__credential", "managedidentity")],
            "connection_malformed",
            "X__accountName",
        ),
        (
            &[("X", "https://a.queue.core.windows.net/?x=hunter2")],
            "connection_malformed",
            "shared access signature",
        ),
        (
            &[("X", "https://a.blob.core.windows.net/?sig=hunter2")],
            "connection_malformed",
            "queue service is needed",
        ),
        (
            &[("X__queueServiceUri", "a.queue.core.windows.net")],
            "connection_malformed",
            "https://",
        ),
        (
            &[(
                "X__queueServiceUri",
                "https://me:hunter2@a.queue.core.windows.net",
            )],
            "connection_malformed",
            "user name",
        ),
        (
            &[("X__accountName", "a"), ("X__credential", "magic")],
            "credential_unsupported",
            "workload identity",
        ),
        (
            &[("X__accountName", "a"), ("X__clientSecret", "hunter2")],
            "credential_unsupported",
            "workload identity",
        ),
        (
            &[
                ("X__accountName", "a"),
                ("X__managedIdentityResourceId", "/sub"),
            ],
            "credential_unsupported",
            "clientId",
        ),
    ];
    for (pairs, category, expected) in cases {
        let error = Account::resolve(&settings(pairs), Some("X"), Service::Queue)
            .expect_err("must be refused");
        let text = format!("{error} {error:?}");
        assert_eq!(error.category(), *category, "{pairs:?}: {text}");
        assert!(text.contains(expected), "{pairs:?}: {text}");
        assert!(!text.contains("hunter2"), "{pairs:?}: {text}");
    }
}

#[test]
fn debug_of_an_account_hides_the_key() {
    let account = Account::from_value(
        "X",
        "AccountName=acct;AccountKey=aHVudGVyMg==",
        Service::Queue,
    )
    .expect("resolves");
    let shown = format!("{account:?}");
    assert!(
        shown.contains("acct") && !shown.contains("aHVudGVyMg"),
        "{shown}"
    );
}
