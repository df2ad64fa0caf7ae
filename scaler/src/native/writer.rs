//! One write of one replica count.

use crate::index::WorkloadKey;
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;

/// Name under which the scaler owns `spec.replicas`.
const FIELD_MANAGER: &str = "maniple-scaler";

/// What the API server has after a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WrittenScale {
    /// `spec.replicas`.
    pub replicas: u32,
    /// Version of the Deployment, where it is a number.
    pub version: Option<u64>,
}

/// Why a write failed.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// There is no such Deployment: nothing to write to.
    #[error("the deployment does not exist")]
    Gone,
    /// Everything else; it is tried again.
    #[error("the replica count could not be written: {message}; it is tried again")]
    Failed {
        /// Stable word for metrics.
        category: &'static str,
        /// Reason of the API server or the connection.
        message: String,
    },
}

impl WriteError {
    /// Stable word for metrics.
    pub fn category(&self) -> &'static str {
        match self {
            Self::Gone => "gone",
            Self::Failed { category, .. } => category,
        }
    }
}

/// Where replica counts are written to.
pub trait ScaleWriter: Send + Sync + 'static {
    /// Sets the replica count of one Deployment.
    fn write(
        &self,
        workload: &WorkloadKey,
        replicas: u32,
    ) -> impl Future<Output = Result<WrittenScale, WriteError>> + Send;
}

/// Writes to the `scale` subresource of Deployments.
#[derive(Clone)]
pub struct ClusterWriter {
    client: Client,
}

impl ClusterWriter {
    /// Uses `client`, which needs the right to patch `deployments/scale`.
    pub fn new(client: Client) -> Self {
        Self { client }
    }
}

impl ScaleWriter for ClusterWriter {
    async fn write(
        &self,
        workload: &WorkloadKey,
        replicas: u32,
    ) -> Result<WrittenScale, WriteError> {
        let api: Api<Deployment> = Api::namespaced(self.client.clone(), &workload.namespace);
        let params = PatchParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let patch = Patch::Merge(json!({"spec": {"replicas": replicas}}));
        let scale = api
            .patch_scale(&workload.name, &params, &patch)
            .await
            .map_err(|error| failure(&error))?;
        let written = scale.spec.and_then(|spec| spec.replicas).unwrap_or(0);
        Ok(WrittenScale {
            replicas: u32::try_from(written).unwrap_or(0),
            version: scale.metadata.resource_version.and_then(|v| v.parse().ok()),
        })
    }
}

fn failure(error: &kube::Error) -> WriteError {
    let category = match error {
        kube::Error::Api(status) => match status.code {
            404 => return WriteError::Gone,
            401 | 403 => "forbidden",
            409 => "conflict",
            429 => "throttled",
            400..=499 => "refused",
            _ => "server",
        },
        _ => "unreachable",
    };
    WriteError::Failed {
        category,
        message: error.to_string(),
    }
}
