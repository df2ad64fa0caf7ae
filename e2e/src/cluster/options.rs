//! What a cluster was started with.

use std::fs;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::address::AddressPlan;
use super::capacity::Capacity;
use super::paths::StateDir;
use super::versions::Kubernetes;

/// Choices for `up`; they are kept with the cluster, so that a repair uses the same ones.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Options {
    /// Kubernetes release.
    pub kubernetes: Kubernetes,
    /// With KEDA.
    pub keda: bool,
    /// With Azurite.
    pub azurite: bool,
    /// Seconds between two looks of the HorizontalPodAutoscaler controller; none keeps Kubernetes' 15.
    pub hpa_sync_seconds: Option<u32>,
    /// Requests per second of the controller manager; none keeps Kubernetes' 20.
    pub controller_qps: Option<u32>,
    /// Addresses.
    pub addresses: AddressPlan,
    /// Size of the node for the scheduler.
    pub capacity: Capacity,
}

impl Options {
    /// The usual cluster of that name.
    pub fn for_name(name: &str) -> Self {
        Self {
            kubernetes: Kubernetes::default(),
            keda: true,
            azurite: true,
            hpa_sync_seconds: None,
            controller_qps: None,
            addresses: AddressPlan::for_name(name),
            capacity: Capacity::default(),
        }
    }

    /// The options of a cluster that was started before.
    pub fn load(state: &StateDir) -> Result<Option<Self>> {
        let path = state.join("options.json");
        let Ok(text) = fs::read_to_string(&path) else {
            return Ok(None);
        };
        serde_json::from_str(&text).map(Some).with_context(|| {
            format!(
                "{} is from another version of the harness: run `cluster down`",
                path.display()
            )
        })
    }

    /// Keeps the options with the cluster. What cannot change in a living cluster is refused.
    pub fn save(&self, state: &StateDir) -> Result<()> {
        if let Some(old) = Self::load(state)? {
            let fixed = |options: &Self| (options.kubernetes, options.addresses, options.capacity);
            if fixed(&old) != fixed(self) {
                bail!(
                    "the cluster in {} was started with {:?}, asked for {:?}, which cannot change: run `cluster down` first",
                    state.root().display(),
                    fixed(&old),
                    fixed(self)
                );
            }
        }
        let path = state.join("options.json");
        fs::write(&path, serde_json::to_string_pretty(self)?)
            .with_context(|| format!("cannot write {}", path.display()))
    }
}
