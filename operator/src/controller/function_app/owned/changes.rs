//! Which app an object belongs to, and whether an event of a watch changed anything that a run looks at.

use super::ready_condition;
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::DynamicObject;
use kube::runtime::reflector::ObjectRef;
use kube::runtime::watcher::Event;
use kube::{Resource, ResourceExt};
use maniple_crds::FunctionApp;
use maniple_crds::names::APP_LABEL;
use std::collections::{BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};

/// Namespace and name of an object.
type Key = (String, String);

/// What is remembered of one object.
#[derive(Clone, PartialEq)]
struct Known {
    app: ObjectRef<FunctionApp>,
    digest: u64,
}

/// The objects of one kind as the last events left them.
#[derive(Default)]
pub(super) struct Changes {
    known: HashMap<Key, Known>,
    by_app: HashMap<ObjectRef<FunctionApp>, BTreeSet<String>>,
    listing: HashMap<Key, Known>,
    listed: bool,
}

impl Changes {
    /// Names of the objects of an app.
    pub(super) fn names_of(&self, app: &ObjectRef<FunctionApp>) -> Vec<String> {
        let names = self.by_app.get(app);
        names.into_iter().flatten().cloned().collect()
    }

    /// Takes in an event; returns the apps that it concerns. The first list concerns none, because every app is reconciled at
    /// the start anyway, and nobody may be there yet to hear of it.
    pub(super) fn step<K: Resource>(
        &mut self,
        event: &Event<K>,
        digest: fn(&K) -> u64,
    ) -> Vec<ObjectRef<FunctionApp>> {
        match event {
            Event::Init => {
                self.listing.clear();
                Vec::new()
            }
            Event::InitApply(object) => {
                if let Some((key, known)) = look(object, digest) {
                    self.listing.insert(key, known);
                }
                Vec::new()
            }
            Event::InitDone => self.relisted(),
            Event::Apply(object) => {
                let Some((key, known)) = look(object, digest) else {
                    return Vec::new();
                };
                let before = self.known.get(&key);
                if before == Some(&known) {
                    return Vec::new();
                }
                let app = known.app.clone();
                self.insert(key, known);
                vec![app]
            }
            Event::Delete(object) => {
                let key = key(object);
                self.remove(&key).into_iter().collect()
            }
        }
    }

    fn relisted(&mut self) -> Vec<ObjectRef<FunctionApp>> {
        let listing = std::mem::take(&mut self.listing);
        let first = !std::mem::replace(&mut self.listed, true);
        let mut changed = Vec::new();
        for (key, known) in &self.known {
            if listing.get(key) != Some(known) {
                changed.push(known.app.clone());
            }
        }
        for (key, known) in &listing {
            if !self.known.contains_key(key) {
                changed.push(known.app.clone());
            }
        }
        self.by_app.clear();
        self.known.clear();
        for (key, known) in listing {
            self.insert(key, known);
        }
        if first { Vec::new() } else { changed }
    }

    fn insert(&mut self, key: Key, known: Known) {
        self.remove(&key);
        self.by_app
            .entry(known.app.clone())
            .or_default()
            .insert(key.1.clone());
        self.known.insert(key, known);
    }

    fn remove(&mut self, key: &Key) -> Option<ObjectRef<FunctionApp>> {
        let app = self.known.remove(key)?.app;
        if let Some(names) = self.by_app.get_mut(&app) {
            names.remove(&key.1);
            if names.is_empty() {
                self.by_app.remove(&app);
            }
        }
        Some(app)
    }
}

fn key<K: Resource>(object: &K) -> Key {
    (object.namespace().unwrap_or_default(), object.name_any())
}

fn look<K: Resource>(object: &K, digest: fn(&K) -> u64) -> Option<(Key, Known)> {
    let key = key(object);
    let app = object.labels().get(APP_LABEL)?;
    let app = ObjectRef::new(app).within(&key.0);
    let digest = digest(object);
    Some((key, Known { app, digest }))
}

/// Everything counts: the kind is written rarely.
pub(super) fn of_any<K: Resource>(object: &K) -> u64 {
    digest(&object.meta().resource_version)
}

/// Without times and messages of status, which change while nothing of interest happens.
pub(super) fn of_deployment(object: &Deployment) -> u64 {
    let status = object.status.as_ref();
    let conditions: Vec<_> = status
        .and_then(|s| s.conditions.as_ref())
        .into_iter()
        .flatten()
        .map(|c| (&c.type_, &c.status, &c.reason))
        .collect();
    let counts = status.map(|s| (s.replicas, s.ready_replicas));
    digest(&(of_meta(object), counts, conditions))
}

/// Without what KEDA notes down at every poll.
pub(super) fn of_scaled_object(object: &DynamicObject) -> u64 {
    let ready = ready_condition(object).map(|c| {
        ["status", "reason", "message"].map(|field| c[field].as_str().unwrap_or_default())
    });
    digest(&(of_meta(object), ready))
}

fn of_meta<K: Resource>(object: &K) -> u64 {
    let meta = object.meta();
    let owners: Vec<_> = meta
        .owner_references
        .iter()
        .flatten()
        .map(|o| &o.uid)
        .collect();
    digest(&(
        (&meta.uid, &meta.generation, &meta.labels, &meta.annotations),
        (&meta.finalizers, meta.deletion_timestamp.is_some(), owners),
    ))
}

fn digest(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn deployment(name: &str, ready: i32, message: &str) -> Deployment {
        serde_json::from_value(json!({
            "metadata": {"name": name, "namespace": "n", "labels": {APP_LABEL: "shop"}, "generation": 1},
            "status": {"readyReplicas": ready, "conditions": [
                {"type": "Progressing", "status": "True", "reason": "r", "message": message}]},
        }))
        .unwrap()
    }

    fn step(changes: &mut Changes, event: Event<Deployment>) -> usize {
        changes.step(&event, of_deployment).len()
    }

    #[test]
    fn the_first_list_concerns_nobody_and_a_later_one_only_what_changed() {
        let mut changes = Changes::default();
        let app = ObjectRef::<FunctionApp>::new("shop").within("n");
        for name in ["a", "b", "c"] {
            step(&mut changes, Event::InitApply(deployment(name, 1, "")));
        }
        assert_eq!(step(&mut changes, Event::InitDone), 0);
        assert_eq!(changes.names_of(&app), ["a", "b", "c"]);

        // `a` is as before, `b` changed, `c` went, `d` came.
        step(&mut changes, Event::Init);
        for (name, ready) in [("a", 1), ("b", 2), ("d", 1)] {
            step(&mut changes, Event::InitApply(deployment(name, ready, "")));
        }
        assert_eq!(step(&mut changes, Event::InitDone), 3);
        assert_eq!(changes.names_of(&app), ["a", "b", "d"]);
        assert_eq!(step(&mut changes, Event::Delete(deployment("d", 1, ""))), 1);
        assert_eq!(changes.names_of(&app), ["a", "b"]);
    }

    #[test]
    fn noise_in_status_concerns_nobody() {
        let mut changes = Changes::default();
        assert_eq!(step(&mut changes, Event::Apply(deployment("a", 1, "x"))), 1);
        assert_eq!(step(&mut changes, Event::Apply(deployment("a", 1, "y"))), 0);
        assert_eq!(step(&mut changes, Event::Apply(deployment("a", 2, "y"))), 1);
    }

    #[test]
    fn what_keda_notes_at_every_poll_is_noise_but_its_verdict_is_not() {
        let object = |active: &str, ready: &str| -> DynamicObject {
            serde_json::from_value(json!({
                "apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject",
                "metadata": {"name": "a", "generation": 1},
                "status": {"lastActiveTime": active, "conditions": [
                    {"type": "Ready", "status": ready, "reason": "r"}, {"type": "Active", "status": active}]},
            }))
            .unwrap()
        };
        let before = of_scaled_object(&object("1", "True"));
        assert_eq!(before, of_scaled_object(&object("2", "True")));
        assert_ne!(before, of_scaled_object(&object("1", "False")));
    }
}
