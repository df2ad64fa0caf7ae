//! The front ends of the platform as a suite sees them: pods, numbers, and what the scaler's record says of them.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, Result};
use futures::future::join_all;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, ResourceExt as _};
use serde_json::Value;

use super::http::get;
use super::load::Door;
use super::{PLATFORM_NAMESPACE, PLATFORM_RELEASE, Suite};

/// Port of HTTP in the pod.
const HTTP: u16 = 8080;
/// Port of metrics.
const ADMIN: u16 = 9990;
/// Longest time for the numbers of one front end.
const SCRAPE: Duration = Duration::from_millis(800);
/// Lease of the scaler's leader, and the annotation with the record of its data role.
const LEASE: &str = "maniple-scaler";
const RECORD: &str = "maniple.dev/data-role";

/// A pod of the platform that serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlatformPod {
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// Its address.
    pub ip: IpAddr,
    /// Ready and not about to go.
    pub serves: bool,
}

impl PlatformPod {
    /// The front end as a door for requests.
    pub fn door(&self) -> Door {
        Door {
            name: self.name.clone(),
            address: SocketAddr::new(self.ip, HTTP),
        }
    }
}

/// The pods of one component that have an address.
///
/// # Errors
/// When they cannot be listed.
pub async fn pods(suite: &Suite, component: &str) -> Result<Vec<PlatformPod>> {
    let api: Api<Pod> = Api::namespaced(suite.client.clone(), PLATFORM_NAMESPACE);
    let selector = format!("app.kubernetes.io/component={component}");
    let list = api.list(&ListParams::default().labels(&selector)).await?;
    let found = list.items.iter().filter_map(|pod| {
        let status = pod.status.as_ref()?;
        let ready = status.conditions.iter().flatten();
        let ready = ready
            .into_iter()
            .any(|c| c.type_ == "Ready" && c.status == "True");
        Some(PlatformPod {
            name: pod.name_any(),
            uid: pod.uid()?,
            ip: status.pod_ip.as_deref()?.parse().ok()?,
            serves: ready && pod.metadata.deletion_timestamp.is_none(),
        })
    });
    Ok(found.collect())
}

/// The pod of the leading scaler.
///
/// # Errors
/// When the Lease cannot be read or nobody leads.
pub fn leading_scaler(suite: &Suite) -> Result<String> {
    let lease = suite
        .connection
        .kubectl()
        .get(&["lease", LEASE, "-n", PLATFORM_NAMESPACE])?;
    let holder = lease["spec"]["holderIdentity"].as_str().unwrap_or_default();
    let pod = holder.split('/').next().unwrap_or_default();
    anyhow::ensure!(!pod.is_empty(), "nobody leads: {lease}");
    Ok(pod.to_owned())
}

/// Uids of the pods whose front ends may hold slots, as the record says.
///
/// # Errors
/// When the record cannot be read.
pub fn members(suite: &Suite) -> Result<Vec<String>> {
    let lease = suite
        .connection
        .kubectl()
        .get(&["lease", LEASE, "-n", PLATFORM_NAMESPACE])?;
    let text = lease["metadata"]["annotations"][RECORD].as_str();
    let record: Value = serde_json::from_str(text.context("the Lease has no record")?)?;
    let members = record["members"].as_array().context("no members")?;
    let uids = members
        .iter()
        .map(|m| m["pod"].as_str().map(str::to_owned).context("no pod"));
    uids.collect()
}

/// What one front end says of one group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Slots {
    /// Requests that wait.
    pub waiting: u64,
    /// Slots in no use.
    pub free: u64,
    /// Slots in use.
    pub busy: u64,
    /// Slots of requests whose end is not known.
    pub lingering: u64,
}

/// What every front end that answers says, by name of the pod and group. The group's key is `namespace/app/group`.
pub async fn slots(pods: &[PlatformPod]) -> BTreeMap<String, BTreeMap<String, Slots>> {
    let scrapes = pods.iter().map(|pod| async {
        let address = SocketAddr::new(pod.ip, ADMIN);
        let answer = tokio::time::timeout(SCRAPE, get(address, "localhost", "/metrics")).await;
        let answer = answer.ok()?.ok()?;
        Some((pod.name.clone(), read(&answer.body)))
    });
    join_all(scrapes).await.into_iter().flatten().collect()
}

fn read(text: &str) -> BTreeMap<String, Slots> {
    let mut groups: BTreeMap<String, Slots> = BTreeMap::new();
    for line in text.lines() {
        let Some((name, rest)) = line.split_once('{') else {
            continue;
        };
        let Some((labels, value)) = rest.split_once("} ") else {
            continue;
        };
        let label = |name: &str| {
            let start = labels.find(&format!("{name}=\""))? + name.len() + 2;
            labels[start..].split('"').next()
        };
        let (Some(group), Ok(value)) = (label("group"), value.trim().parse()) else {
            continue;
        };
        let state = label("state");
        if !matches!(name, "maniple_front_waiting" | "maniple_front_slots") {
            continue;
        }
        let slots = groups.entry(group.to_owned()).or_default();
        match state {
            None => slots.waiting = value,
            Some("free") => slots.free = value,
            Some("busy") => slots.busy = value,
            Some("lingering") => slots.lingering = value,
            Some(_) => {}
        }
    }
    groups
}

/// Name of the front end's Deployment.
pub fn deployment() -> String {
    format!("{PLATFORM_RELEASE}-front")
}

#[cfg(test)]
mod tests {
    use super::{Slots, read};

    #[test]
    fn numbers_are_read_by_group_and_state() {
        let text = "# TYPE maniple_front_waiting gauge\nmaniple_front_waiting{group=\"a/b/http\"} 3\nmaniple_front_slots{group=\"a/b/http\",state=\"free\"} 1\nmaniple_front_slots{group=\"a/b/http\",state=\"busy\"} 2\nmaniple_front_slots{group=\"a/b/http\",state=\"lingering\"} 4\nmaniple_front_streams 2\n";
        let seen = read(text);
        let wanted = Slots {
            waiting: 3,
            free: 1,
            busy: 2,
            lingering: 4,
        };
        assert_eq!(seen.len(), 1);
        assert_eq!(seen["a/b/http"], wanted);
    }
}
