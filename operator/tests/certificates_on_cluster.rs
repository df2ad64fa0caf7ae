//! Certificates against a real API server.

#![allow(clippy::unwrap_used, reason = "a test; a failure here is its result")]

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Namespace, Secret};
use k8s_openapi::api::events::v1::Event;
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::runtime::events::{Recorder, Reporter};
use kube::{Api, Client};
use maniple_operator::certificates::{ClusterSecrets, Error, Settings, Store, Times, keep};
use maniple_operator::metrics::OperatorMetrics;
use maniple_runtime::{ClientProfile, Component, KubeArgs, Metrics, kube_client};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Nothing here takes that long unless it hangs.
const HANG: Duration = Duration::from_secs(60);
const COMPONENT: Component = Component::new("certificates-test", "0");
const SECRETS: [&str; 3] = ["authority", "front", "scaler"];

async fn until<T>(what: &str, mut attempt: impl AsyncFnMut() -> Option<T>) -> T {
    let attempts = async {
        loop {
            if let Some(value) = attempt().await {
                return value;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let waited = tokio::time::timeout(HANG, attempts).await;
    waited.unwrap_or_else(|_| panic!("waited for {what}"))
}

/// A namespace that goes with the test.
struct Place {
    client: Client,
    name: String,
}

impl Place {
    async fn new() -> Self {
        let args = KubeArgs {
            kube_context: None,
            kube_connect_timeout_seconds: 5,
            kube_request_timeout_seconds: 15,
        };
        let client = kube_client(COMPONENT, &args, ClientProfile::Ordinary)
            .await
            .unwrap();
        let name = format!("certificates-test-{}", std::process::id());
        let mut namespace = Namespace::default();
        namespace.metadata.name = Some(name.clone());
        let all: Api<Namespace> = Api::all(client.clone());
        all.create(&PostParams::default(), &namespace)
            .await
            .unwrap();
        Self { client, name }
    }

    fn secrets(&self) -> Api<Secret> {
        Api::namespaced(self.client.clone(), &self.name)
    }

    /// Certificates of all Secrets, when all are there.
    async fn certificates(&self) -> Option<[Vec<u8>; 3]> {
        let mut found = Vec::new();
        for name in SECRETS {
            let secret = self.secrets().get_opt(name).await.unwrap()?;
            found.push(secret.data?.get("tls.crt")?.0.clone());
        }
        found.try_into().ok()
    }

    /// An operator that leads.
    fn operator(&self) -> (CancellationToken, JoinHandle<()>) {
        let settings = Settings {
            namespace: self.name.clone(),
            authority: SECRETS[0].to_owned(),
            front: SECRETS[1].to_owned(),
            scaler: SECRETS[2].to_owned(),
            server_names: vec!["scaler.test".to_owned()],
            times: Times::of_days(90),
        };
        let reporter = Reporter {
            controller: "certificates-test".to_owned(),
            instance: None,
        };
        let (stop, recorder) = (
            CancellationToken::new(),
            Recorder::new(self.client.clone(), reporter),
        );
        let metrics = OperatorMetrics::register(&Metrics::new(COMPONENT));
        let store = ClusterSecrets::new(self.client.clone(), &self.name);
        let task = tokio::spawn(keep(store, settings, metrics, recorder, stop.clone()));
        (stop, task)
    }
}

#[tokio::test]
#[ignore = "needs a cluster: KUBECONFIG=... cargo test -p maniple-operator --test certificates_on_cluster -- --ignored"]
async fn operators_that_come_and_go_keep_one_set_of_certificates() {
    let place = Place::new().await;
    let store = ClusterSecrets::new(place.client.clone(), &place.name);

    // The clock is that of the API server, which runs somewhere near.
    let off = Timestamp::now().duration_since(store.now().await.unwrap());
    assert!(off.abs() < SignedDuration::from_mins(10), "{off}");

    // Two at once agree.
    let (one, two) = (place.operator(), place.operator());
    let first = until("all Secrets", async || place.certificates().await).await;
    for (stop, task) in [one, two] {
        stop.cancel();
        task.await.unwrap();
    }
    assert_eq!(place.certificates().await.unwrap(), first);

    // The next one leaves what is good, and puts right what is not.
    let delete = DeleteParams::default();
    place.secrets().delete(SECRETS[1], &delete).await.unwrap();
    let (stop, task) = place.operator();
    let second = until("the Secret that was deleted", async || {
        place.certificates().await
    })
    .await;
    stop.cancel();
    task.await.unwrap();
    assert_eq!((&second[0], &second[2]), (&first[0], &first[2]));
    assert_ne!(second[1], first[1]);

    // People are told where they look.
    let events: Api<Event> = Api::namespaced(place.client.clone(), &place.name);
    until("events on all Secrets", async || {
        let all = events.list(&ListParams::default()).await.unwrap();
        let told = |name: &&str| {
            all.items.iter().any(|event| {
                let about = event.regarding.as_ref();
                event.reason.as_deref() == Some("CertificateWritten")
                    && about.and_then(|about| about.name.as_deref()) == Some(*name)
            })
        };
        SECRETS.iter().all(told).then_some(())
    })
    .await;

    // Who has read an old version, or believes that there is none, is told so.
    let old = store.read(SECRETS[0]).await.unwrap().unwrap();
    store.write(&old).await.unwrap();
    let mut changed = old.clone();
    changed.metadata.labels.get_or_insert_default().clear();
    store.write(&changed).await.unwrap();
    for version in [old.metadata.resource_version.clone(), None] {
        let mut stale = old.clone();
        stale.metadata.resource_version = version;
        let error = store.write(&stale).await.unwrap_err();
        assert!(matches!(error, Error::Conflict { .. }), "{error}");
    }
    place.secrets().delete(SECRETS[0], &delete).await.unwrap();
    let error = store.write(&old).await.unwrap_err();
    assert!(matches!(error, Error::Conflict { .. }), "{error}");

    let all: Api<Namespace> = Api::all(place.client.clone());
    all.delete(&place.name, &delete).await.unwrap();
}
