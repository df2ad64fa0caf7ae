//! What the suites share: a connection to the cluster with maniple installed, apps to deploy, queues to fill, and conditions
//! to wait for.

pub mod apps;
pub mod front_ends;
pub mod http;
pub mod load;
pub mod observe;
pub mod records;
pub mod storage;
pub mod wait;

use crate::cluster::{Cluster, Connection};
use anyhow::{Context as _, Result};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{DeleteParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use storage::Storage;

/// Namespace into which `e2e platform install` puts maniple.
pub const PLATFORM_NAMESPACE: &str = "maniple-system";
/// Helm release of the platform.
pub const PLATFORM_RELEASE: &str = "maniple";
/// Image of the stand-in for the Functions host.
pub const STANDIN_IMAGE: &str = "maniple.dev/function-host-standin:dev";

/// A cluster with maniple in it.
pub struct Suite {
    /// Where the cluster is.
    pub connection: Connection,
    /// Client with all rights.
    pub client: Client,
    /// Queues and blobs that both the suite and the cluster reach.
    pub storage: Storage,
}

impl Suite {
    /// Connects to the cluster of `KUBECONFIG`, else to the local one.
    ///
    /// # Errors
    /// When there is no cluster, with the command that makes one.
    pub async fn connect() -> Result<Self> {
        let connection = Cluster::connect()?;
        let client = client(&connection).await?;
        let storage = Storage::of(&connection)?;
        Ok(Self {
            connection,
            client,
            storage,
        })
    }

    /// The local cluster, for suites that stop parts of it.
    ///
    /// # Errors
    /// When the suite runs against somebody else's cluster, whose parts it must not stop.
    pub fn own_cluster(&self) -> Result<&Cluster> {
        self.connection
            .own
            .as_ref()
            .context("this suite stops parts of the cluster and runs only on the local one; unset KUBECONFIG")
    }

    /// Makes a namespace for one test. Call [`TestNamespace::remove`] at its end; a failed test leaves it for a look.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn namespace(&self, purpose: &str) -> Result<TestNamespace> {
        let api: Api<Namespace> = Api::all(self.client.clone());
        let namespace: Namespace = serde_json::from_value(serde_json::json!({
            "metadata": {
                "generateName": format!("t-{purpose}-"),
                "labels": {"pod-security.kubernetes.io/enforce": "restricted", "maniple.dev/suite": purpose},
            }
        }))?;
        let made = api.create(&PostParams::default(), &namespace).await?;
        Ok(TestNamespace {
            api,
            name: made.metadata.name.context("the namespace has no name")?,
        })
    }
}

/// A client with all rights, for many watches at a time.
///
/// # Errors
/// When the kubeconfig cannot be used.
pub async fn client(connection: &Connection) -> Result<Client> {
    maniple_runtime::install_tls_provider();
    let kubeconfig = Kubeconfig::read_from(&connection.kubeconfig)?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    Ok(Client::try_from(config)?)
}

/// A namespace of one test.
pub struct TestNamespace {
    api: Api<Namespace>,
    /// Its name.
    pub name: String,
}

impl TestNamespace {
    /// Removes the namespace and does not wait for it.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn remove(self) -> Result<()> {
        self.api
            .delete(&self.name, &DeleteParams::default())
            .await?;
        Ok(())
    }
}
