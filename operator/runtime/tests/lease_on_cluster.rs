//! Leader election against a real API server.

#![allow(clippy::unwrap_used, reason = "a test; a failure here is its result")]

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, api::DeleteParams};
use maniple_runtime::{
    ClientProfile, Component, KubeArgs, LeaderState, Leadership, LeaseSettings, LeaseTimes,
    Metrics, Shutdown, kube_client,
};

/// Nothing here takes that long unless it hangs.
const HANG: Duration = Duration::from_secs(60);
const COMPONENT: Component = Component::new("lease-test", "0");

struct Member {
    leadership: Leadership,
    metrics: Metrics,
    shutdown: Shutdown,
}

impl Member {
    async fn join(namespace: &str, name: &str, identity: &str) -> Self {
        let args = KubeArgs {
            kube_context: None,
            kube_connect_timeout_seconds: 5,
            kube_request_timeout_seconds: 15,
        };
        let client = kube_client(COMPONENT, &args, ClientProfile::Lease)
            .await
            .unwrap();
        let times = LeaseTimes {
            poll: Duration::from_millis(200),
            renew: Duration::from_millis(400),
            hold: Duration::from_secs(3),
            duration: Duration::from_secs(5),
        };
        let settings = LeaseSettings {
            times,
            ..LeaseSettings::new(namespace, name, identity)
        };
        let metrics = Metrics::new(COMPONENT);
        let mut shutdown = Shutdown::new();
        let stage = shutdown.stage("lease", Duration::from_secs(5));
        let leadership = Leadership::start(client, settings, &metrics, &stage).unwrap();
        Self {
            leadership,
            metrics,
            shutdown,
        }
    }

    async fn leads(&mut self) {
        let leads = tokio::time::timeout(HANG, self.leadership.until_leading()).await;
        assert!(leads.expect("somebody leads"));
        assert!(self.leadership.is_leading());
    }

    async fn leave(self) {
        self.shutdown.requested().cancel();
        self.shutdown.run().await.unwrap();
    }
}

#[tokio::test]
#[ignore = "needs a cluster: KUBECONFIG=... cargo test -p maniple-runtime --test lease_on_cluster -- --ignored"]
async fn hand_over_between_two_candidates() {
    let client = kube::Client::try_default().await.unwrap();
    let leases: Api<Lease> = Api::namespaced(client, "default");
    let name = format!("lease-test-{}", std::process::id());

    let mut first = Member::join("default", &name, "pod-a/10.0.0.1:6000").await;
    first.leads().await;
    let mut second = Member::join("default", &name, "pod-b/10.0.0.2:6000").await;
    let following = LeaderState::Following {
        holder: Some("pod-a/10.0.0.1:6000".to_owned()),
    };
    let mut states = second.leadership.watch();
    tokio::time::timeout(HANG, states.wait_for(|state| *state == following))
        .await
        .unwrap()
        .unwrap();

    let spec = leases.get(&name).await.unwrap().spec.unwrap();
    assert_eq!(spec.holder_identity.as_deref(), Some("pod-a/10.0.0.1:6000"));
    assert_eq!(spec.lease_duration_seconds, Some(5));
    assert_eq!(spec.lease_transitions, Some(0));
    assert!(spec.renew_time.is_some() && spec.acquire_time.is_some());

    first.leave().await;
    second.leads().await;
    let spec = leases.get(&name).await.unwrap().spec.unwrap();
    assert_eq!(spec.holder_identity.as_deref(), Some("pod-b/10.0.0.2:6000"));
    assert_eq!(spec.lease_transitions, Some(1));

    second.leave().await;
    let spec = leases.get(&name).await.unwrap().spec.unwrap();
    assert_eq!(spec.holder_identity, None);
    leases
        .delete(&name, &DeleteParams::default())
        .await
        .unwrap();
}

#[tokio::test]
#[ignore = "needs a cluster: KUBECONFIG=... cargo test -p maniple-runtime --test lease_on_cluster -- --ignored"]
async fn a_missing_namespace_is_an_error_and_nobody_leads() {
    let member = Member::join("no-such-namespace-here", "lease", "pod-a").await;
    let counted = async {
        let line = "maniple_lease_attempts_total{lease=\"lease\",result=\"error\"}";
        while !member.metrics.encode().contains(line) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(HANG, counted).await.unwrap();
    assert_eq!(
        member.leadership.state(),
        LeaderState::Following { holder: None }
    );
    member.leave().await;
}
