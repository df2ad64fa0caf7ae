//! Secrets that are kept in memory by the rules of the API server, with a clock that a test sets.

use crate::certificates::found::{CA, CERTIFICATE, Found, KEY, value};
use crate::certificates::settings::Side;
use crate::certificates::settle::{News, settle};
use crate::certificates::{Error, Settings, Store, Times};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;

pub(super) const AUTHORITY: &str = "maniple-slots-authority";
pub(super) const SERVER: &str = "maniple-scaler.maniple-system.svc";

pub(super) fn days(days: i64) -> SignedDuration {
    SignedDuration::from_hours(24 * days)
}

pub(super) fn settings() -> Settings {
    Settings {
        namespace: "maniple-system".to_owned(),
        authority: AUTHORITY.to_owned(),
        front: "maniple-front-slots".to_owned(),
        scaler: "maniple-scaler-slots".to_owned(),
        server_names: vec!["maniple-scaler".to_owned(), SERVER.to_owned()],
        times: Times::of_days(90),
    }
}

#[derive(Default)]
struct Inside {
    secrets: BTreeMap<String, Secret>,
    version: u64,
    now: Timestamp,
    /// Writes that succeed before the process is killed.
    left: Option<u32>,
    writes: u32,
}

/// A namespace. Clones share it.
#[derive(Clone)]
pub(super) struct World(Arc<Mutex<Inside>>);

impl World {
    pub(super) fn new() -> Self {
        let now = "2026-03-01T12:00:00Z".parse().unwrap();
        Self(Arc::new(Mutex::new(Inside {
            now,
            ..Inside::default()
        })))
    }

    pub(super) fn time(&self) -> Timestamp {
        self.0.lock().now
    }

    pub(super) fn pass(&self, time: SignedDuration) {
        self.0.lock().now += time;
    }

    /// The process ends after that many writes.
    pub(super) fn kill_after(&self, writes: u32) {
        self.0.lock().left = Some(writes);
    }

    pub(super) fn revive(&self) {
        self.0.lock().left = None;
    }

    pub(super) fn writes(&self) -> u32 {
        self.0.lock().writes
    }

    pub(super) fn get(&self, name: &str) -> Option<Secret> {
        self.0.lock().secrets.get(name).cloned()
    }

    pub(super) fn side(&self, side: Side) -> Option<Secret> {
        self.get(settings().secret(side))
    }

    pub(super) fn delete(&self, name: &str) {
        self.0.lock().secrets.remove(name).unwrap();
    }

    /// Changes a Secret as a hand would: whatever it was.
    pub(super) fn edit(&self, name: &str, change: impl FnOnce(&mut BTreeMap<String, ByteString>)) {
        let mut inside = self.0.lock();
        inside.version += 1;
        let version = inside.version.to_string();
        let secret = inside.secrets.entry(name.to_owned()).or_default();
        secret.metadata.name = Some(name.to_owned());
        secret.metadata.resource_version = Some(version);
        change(secret.data.get_or_insert_default());
    }

    /// Puts a label on a Secret.
    pub(super) fn label(&self, name: &str, label: &str, value: &str) {
        let mut inside = self.0.lock();
        let secret = inside.secrets.get_mut(name).unwrap();
        let labels = secret.metadata.labels.get_or_insert_default();
        labels.insert(label.to_owned(), value.to_owned());
    }

    /// Runs until nothing is left to do.
    pub(super) async fn settle(&self) -> Vec<News> {
        let mut news = Vec::new();
        settle(self, &settings(), &mut news).await.unwrap();
        news
    }

    /// As [`World::settle`], for a process that is killed on the way.
    pub(super) async fn try_settle(&self) -> Result<Found, Error> {
        settle(self, &settings(), &mut Vec::new()).await
    }

    /// What was done, in short.
    pub(super) async fn done(&self) -> Vec<(&'static str, bool)> {
        let news = self.settle().await;
        news.iter()
            .map(|new| (new.certificate, new.warning))
            .collect()
    }
}

impl Store for World {
    async fn now(&self) -> Result<Timestamp, Error> {
        Ok(self.time())
    }

    async fn read(&self, name: &str) -> Result<Option<Secret>, Error> {
        // Others run between any two calls.
        tokio::task::yield_now().await;
        Ok(self.get(name))
    }

    async fn write(&self, secret: &Secret) -> Result<(), Error> {
        tokio::task::yield_now().await;
        let mut inside = self.0.lock();
        let name = secret.name_any();
        if let Some(left) = &mut inside.left {
            if *left == 0 {
                return Err(Error::Clock("killed".to_owned()));
            }
            *left -= 1;
        }
        let stored = inside
            .secrets
            .get(&name)
            .and_then(ResourceExt::resource_version);
        if stored != secret.resource_version() {
            return Err(Error::Conflict { name });
        }
        inside.version += 1;
        inside.writes += 1;
        let mut secret = secret.clone();
        secret.metadata.resource_version = Some(inside.version.to_string());
        inside.secrets.insert(name, secret);
        Ok(())
    }
}

/// What a pod has in its volume: certificate, key, trusted CAs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mounted {
    pub(super) certificate: Vec<u8>,
    pub(super) key: Vec<u8>,
    pub(super) trusted: Vec<u8>,
}

impl Mounted {
    pub(super) fn of(secret: Option<&Secret>) -> Self {
        Self {
            certificate: value(secret, CERTIFICATE).to_vec(),
            key: value(secret, KEY).to_vec(),
            trusted: value(secret, CA).to_vec(),
        }
    }
}

impl World {
    /// A pod of a side that sees the Secret as it is now.
    pub(super) fn pod(&self, side: Side) -> Mounted {
        let secret = self.side(side);
        assert!(secret.is_some(), "a pod without its Secret does not start");
        Mounted::of(secret.as_ref())
    }
}
