//! Secrets and ConfigMaps that app settings refer to: read on demand, kept, read again from time to time.
//!
//! They are not watched: a watch would need the right to list every Secret and would hold them all in memory.

use super::settings::ResolvedSettings;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{Api, Client};
use maniple_crds::function_app::{AppSetting, AppSettingSource, KeyRef};
use maniple_sources::secret::Secret as Redacted;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::Instant;

/// Age at which an object is read again.
pub(super) const REFRESH: Duration = Duration::from_secs(60);
/// Parallel reads of Secrets and ConfigMaps.
const PARALLEL: usize = 8;

/// Kind of an object that holds values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A Secret.
    Secret,
    /// A ConfigMap.
    ConfigMap,
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Secret => "Secret",
            Self::ConfigMap => "ConfigMap",
        }
    }
}

/// Values of one object, by key.
pub type Values = BTreeMap<String, Redacted>;

/// Why an object could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// There is no such object.
    #[error("does not exist")]
    NotFound,
    /// The API server refused or did not answer.
    #[error("could not be read: {0}")]
    Failed(String),
}

/// Where objects are read from.
pub trait Reader: Send + Sync {
    /// Reads one object.
    fn read(
        &self,
        namespace: &str,
        kind: Kind,
        name: &str,
    ) -> impl Future<Output = Result<Values, ReadError>> + Send;
}

/// Reads from the API server.
#[derive(Clone)]
pub struct ClusterReader {
    client: Client,
}

impl ClusterReader {
    /// Uses `client`, which needs the right to get Secrets and ConfigMaps.
    pub fn new(client: Client) -> Self {
        Self { client }
    }
}

impl Reader for ClusterReader {
    async fn read(&self, namespace: &str, kind: Kind, name: &str) -> Result<Values, ReadError> {
        let failed = |error: kube::Error| ReadError::Failed(error.to_string());
        match kind {
            Kind::Secret => {
                let api: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
                let secret = api.get_opt(name).await.map_err(failed)?;
                let data = secret.ok_or(ReadError::NotFound)?.data.unwrap_or_default();
                // A value that is no text cannot be an environment variable; the kubelet would refuse the pod.
                Ok(data
                    .into_iter()
                    .filter_map(|(key, value)| {
                        Some((key, Redacted::new(String::from_utf8(value.0).ok()?)))
                    })
                    .collect())
            }
            Kind::ConfigMap => {
                let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), namespace);
                let map = api.get_opt(name).await.map_err(failed)?;
                let data = map.ok_or(ReadError::NotFound)?.data.unwrap_or_default();
                Ok(data
                    .into_iter()
                    .map(|(key, value)| (key, Redacted::new(value)))
                    .collect())
            }
        }
    }
}

/// Namespace, kind and name of an object.
pub(super) type ObjectKey = (Arc<str>, Kind, String);

struct Entry {
    read: Result<Arc<Values>, ReadError>,
    at: Instant,
}

/// The objects that were read, shared by all apps.
pub struct References<R> {
    reader: R,
    entries: Mutex<HashMap<ObjectKey, Entry>>,
    slots: Semaphore,
}

impl<R: Reader> References<R> {
    /// Nothing is read yet.
    pub fn new(reader: R) -> Self {
        Self {
            reader,
            entries: Mutex::default(),
            slots: Semaphore::new(PARALLEL),
        }
    }

    /// The values of `settings`, from objects that were read at most `max_age` ago.
    ///
    /// When an object cannot be read any more because the API server does not answer, its last known values stay in force.
    pub async fn resolve(
        &self,
        namespace: &Arc<str>,
        settings: &[AppSetting],
        max_age: Duration,
    ) -> ResolvedSettings {
        let mut resolved = ResolvedSettings::default();
        let mut read = BTreeMap::new();
        for setting in settings {
            if let Some(value) = &setting.value {
                resolved.set(&setting.name, Redacted::new(value.as_str()));
                continue;
            }
            let Some((kind, reference)) = setting.value_from.as_ref().and_then(target) else {
                continue;
            };
            let id = (kind, reference.name.clone());
            if !read.contains_key(&id) {
                let values = self.object(namespace, kind, &reference.name, max_age).await;
                read.insert(id.clone(), values);
            }
            let what = format!("{} {namespace}/{}", kind.as_str(), reference.name);
            match &read[&id] {
                Ok(values) => match values.get(&reference.key) {
                    Some(value) => resolved.set(&setting.name, value.clone()),
                    None => resolved.set_missing(
                        &setting.name,
                        format!(
                            "app setting '{}': {what} has no key '{}'; add the key or change the setting",
                            setting.name, reference.key
                        ),
                    ),
                },
                Err(error) => resolved.set_missing(
                    &setting.name,
                    format!(
                        "app setting '{}': {what} (key '{}') {error}{}",
                        setting.name,
                        reference.key,
                        match error {
                            ReadError::NotFound => "; create it or change the setting",
                            ReadError::Failed(_) => "; it is tried again",
                        }
                    ),
                ),
            }
        }
        resolved
    }

    async fn object(
        &self,
        namespace: &Arc<str>,
        kind: Kind,
        name: &str,
        max_age: Duration,
    ) -> Result<Arc<Values>, ReadError> {
        let key = (Arc::clone(namespace), kind, name.to_owned());
        let fresh = |entry: &&Entry| entry.at.elapsed() <= max_age;
        if let Some(entry) = self.entries.lock().get(&key).filter(fresh) {
            return entry.read.clone();
        }
        let _slot = self
            .slots
            .acquire()
            .await
            .expect("the semaphore is never closed");
        let read = self.reader.read(namespace, kind, name).await.map(Arc::new);
        let mut entries = self.entries.lock();
        let read = match (read, entries.get(&key).map(|e| &e.read)) {
            (Err(ReadError::Failed(_)), Some(Ok(last))) => Ok(Arc::clone(last)),
            (read, _) => read,
        };
        let entry = Entry {
            read: read.clone(),
            at: Instant::now(),
        };
        entries.insert(key, entry);
        read
    }

    /// Forgets every object that no app of `used` refers to.
    pub(super) fn retain(&self, used: &BTreeSet<ObjectKey>) {
        self.entries.lock().retain(|key, _| used.contains(key));
    }
}

/// The objects that `settings` refer to.
pub(super) fn objects(namespace: &Arc<str>, settings: &[AppSetting]) -> Vec<ObjectKey> {
    settings
        .iter()
        .filter_map(|setting| target(setting.value_from.as_ref()?))
        .map(|(kind, reference)| (Arc::clone(namespace), kind, reference.name.clone()))
        .collect()
}

fn target(source: &AppSettingSource) -> Option<(Kind, &KeyRef)> {
    let secret = source.secret_key_ref.as_ref().map(|r| (Kind::Secret, r));
    secret.or_else(|| {
        source
            .config_map_key_ref
            .as_ref()
            .map(|r| (Kind::ConfigMap, r))
    })
}

#[cfg(test)]
mod tests;
