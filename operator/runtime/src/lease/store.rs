//! Where the lease is kept.

use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, Client, api::PostParams};

use super::LeaseSettings;

/// Why a lease was not read or written.
#[derive(Debug, thiserror::Error)]
pub(super) enum StoreError {
    /// Somebody else wrote first, or the lease is gone; read it again.
    #[error("the lease was changed by another candidate")]
    Conflict,
    /// The API server said no, or nothing.
    #[error("{0}")]
    Other(String),
}

/// The three operations, each with optimistic locking by resource version.
pub(super) trait LeaseStore: Send + Sync + 'static {
    /// The lease, or `None` when there is none.
    fn read(&self) -> impl Future<Output = Result<Option<Lease>, StoreError>> + Send;
    /// Makes the lease; [`StoreError::Conflict`] when there is one.
    fn create(&self, lease: Lease) -> impl Future<Output = Result<Lease, StoreError>> + Send;
    /// Replaces the version named in the metadata; [`StoreError::Conflict`] when it is not the present one.
    fn replace(&self, lease: Lease) -> impl Future<Output = Result<Lease, StoreError>> + Send;
}

/// The real one.
pub(super) struct KubeStore {
    api: Api<Lease>,
    name: String,
    params: PostParams,
}

impl KubeStore {
    pub(super) fn new(client: Client, settings: &LeaseSettings) -> Self {
        Self {
            api: Api::namespaced(client, &settings.namespace),
            name: settings.name.clone(),
            params: PostParams {
                field_manager: Some("maniple-lease".into()),
                ..PostParams::default()
            },
        }
    }
}

impl LeaseStore for KubeStore {
    async fn read(&self) -> Result<Option<Lease>, StoreError> {
        self.api.get_opt(&self.name).await.map_err(translate)
    }

    async fn create(&self, lease: Lease) -> Result<Lease, StoreError> {
        self.api
            .create(&self.params, &lease)
            .await
            .map_err(translate)
    }

    async fn replace(&self, lease: Lease) -> Result<Lease, StoreError> {
        self.api
            .replace(&self.name, &self.params, &lease)
            .await
            .map_err(translate)
    }
}

fn translate(error: kube::Error) -> StoreError {
    match &error {
        kube::Error::Api(status) if matches!(status.code, 404 | 409) => {
            match status.reason.as_str() {
                // A missing namespace is not a race.
                "NotFound" if status.message.contains("namespaces") => {
                    StoreError::Other(status.message.clone())
                }
                _ => StoreError::Conflict,
            }
        }
        _ => StoreError::Other(crate::error::chain(&error)),
    }
}
