//! Where the Secrets are.

use super::Error;
use http::Request;
use jiff::Timestamp;
use jiff::fmt::rfc2822;
use k8s_openapi::api::core::v1::Secret;
use kube::api::PostParams;
use kube::client::Body;
use kube::{Api, Client, ResourceExt};
use maniple_crds::names::FIELD_MANAGER;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Where the Secrets are, and what time it is there.
pub trait Store: Send + Sync {
    /// The time by which certificates are judged and made.
    fn now(&self) -> impl Future<Output = Result<Timestamp, Error>> + Send;

    /// A Secret, if there is one.
    fn read(&self, name: &str) -> impl Future<Output = Result<Option<Secret>, Error>> + Send;

    /// Creates a Secret without a resource version, or replaces the one that still has that version.
    ///
    /// # Errors
    /// [`Error::Conflict`] when somebody else was faster.
    fn write(&self, secret: &Secret) -> impl Future<Output = Result<(), Error>> + Send;
}

/// Secrets of the cluster.
#[derive(Clone)]
pub struct ClusterSecrets {
    client: Client,
    api: Api<Secret>,
    /// That the API server does not tell the time was said.
    told: Arc<AtomicBool>,
}

impl ClusterSecrets {
    /// Those of a namespace.
    pub fn new(client: Client, namespace: &str) -> Self {
        Self {
            api: Api::namespaced(client.clone(), namespace),
            client,
            told: Arc::default(),
        }
    }
}

impl Store for ClusterSecrets {
    /// The API server's clock, which all replicas of the operator share: a node whose clock jumps makes no certificates that
    /// nobody else can use yet, and throws none away that are good.
    async fn now(&self) -> Result<Timestamp, Error> {
        let request = Request::get("/version")
            .body(Body::empty())
            .expect("the path is fixed");
        let answer = self.client.send(request).await.map_err(Error::clock)?;
        let date = answer.headers().get(http::header::DATE);
        let date = date.and_then(|date| date.to_str().ok());
        if let Some(time) = date.and_then(|date| rfc2822::parse(date).ok()) {
            return Ok(time.timestamp());
        }
        if !self.told.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "the API server's answers have no date (a proxy before it?); certificates are made by the clock of this node"
            );
        }
        Ok(Timestamp::now())
    }

    async fn read(&self, name: &str) -> Result<Option<Secret>, Error> {
        let read = self.api.get_opt(name).await;
        read.map_err(|source| Error::Read {
            name: name.to_owned(),
            source: Box::new(source),
        })
    }

    async fn write(&self, secret: &Secret) -> Result<(), Error> {
        let params = PostParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PostParams::default()
        };
        let name = secret.name_any();
        let replaces = secret.resource_version().is_some();
        let written = if replaces {
            self.api.replace(&name, &params, secret).await
        } else {
            self.api.create(&params, secret).await
        };
        match written {
            Ok(_) => Ok(()),
            // Made by somebody else, changed, or gone since it was read. A create is not found where the namespace is missing.
            Err(kube::Error::Api(status))
                if status.code == 409 || (replaces && status.code == 404) =>
            {
                Err(Error::Conflict { name })
            }
            Err(source) => Err(Error::Write {
                name,
                source: Box::new(source),
            }),
        }
    }
}
