//! The FunctionApps, from a watch that one of them cannot break.

use super::watching::WatchErrors;
use crate::metrics::OperatorMetrics;
use futures::{Stream, StreamExt};
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::watcher::{self, Event, watcher};
use kube::runtime::{PredicateConfig, WatchStreamExt};
use kube::{Api, Client, ResourceExt};
use maniple_crds::FunctionApp;
use maniple_runtime::{Guarded, Unreadable};
use std::collections::HashSet;
use std::future::ready;
use std::hash::{DefaultHasher, Hash, Hasher};
use tokio::sync::mpsc;

/// What became of an app that could not be read.
#[derive(Debug)]
pub(super) enum Trouble {
    /// It cannot be read, for this reason.
    Unreadable(Unreadable),
    /// It is readable again, or gone.
    Over(ObjectRef<FunctionApp>),
}

/// The apps that can be read, a stream of those that changed, and what is wrong with the others.
///
/// The stream passes on what a user changes and leaves out writes of status, which are the operator's own: each of them would
/// set off another run. Errors of the watch are said and counted here.
pub(super) fn watch(
    client: &Client,
    namespace: Option<&str>,
    metrics: OperatorMetrics,
    trouble: mpsc::UnboundedSender<Trouble>,
) -> (
    Store<FunctionApp>,
    impl Stream<Item = Result<FunctionApp, watcher::Error>> + Send + 'static,
) {
    let api: Api<Guarded<FunctionApp>> = match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    };
    let writer = reflector::store::Writer::<FunctionApp>::default();
    let (store, known) = (writer.as_reader(), writer.as_reader());
    let errors = WatchErrors::new("FunctionApp", metrics);
    let mut sieve = Sieve {
        known,
        bad: HashSet::new(),
        trouble,
    };
    let changed = watcher(api, watcher::Config::default())
        .default_backoff()
        .filter_map(move |event| {
            ready(match event {
                Ok(event) => sieve.pass(event).map(Ok),
                Err(error) => {
                    errors.saw(&error);
                    None
                }
            })
        })
        .modify(|app: &mut FunctionApp| app.managed_fields_mut().clear())
        .reflect(writer)
        .applied_objects()
        .predicate_filter(
            |app: &FunctionApp| Some(of_the_user(app)),
            PredicateConfig::default(),
        );
    (store, changed)
}

/// Lets readable apps through.
struct Sieve {
    known: Store<FunctionApp>,
    bad: HashSet<ObjectRef<FunctionApp>>,
    trouble: mpsc::UnboundedSender<Trouble>,
}

impl Sieve {
    /// An app that became unreadable leaves the store: nothing is done to it, and what runs keeps running.
    fn pass(&mut self, event: Event<Guarded<FunctionApp>>) -> Option<Event<FunctionApp>> {
        match event {
            Event::Init => Some(Event::Init),
            Event::InitDone => Some(Event::InitDone),
            Event::InitApply(app) => self.readable(app).ok().map(Event::InitApply),
            Event::Apply(app) => match self.readable(app) {
                Ok(app) => Some(Event::Apply(app)),
                Err(key) => self.drop_known(&key),
            },
            Event::Delete(app) => {
                let key = reference(app.name_any(), app.namespace());
                if self.bad.remove(&key) {
                    // The receiver ends with the process.
                    let _ = self.trouble.send(Trouble::Over(key.clone()));
                }
                match app.0 {
                    Ok(app) => Some(Event::Delete(app)),
                    Err(_) => self.drop_known(&key),
                }
            }
        }
    }

    fn readable(
        &mut self,
        app: Guarded<FunctionApp>,
    ) -> Result<FunctionApp, ObjectRef<FunctionApp>> {
        let key = reference(app.name_any(), app.namespace());
        match app.0 {
            Ok(app) => {
                if self.bad.remove(&key) {
                    let _ = self.trouble.send(Trouble::Over(key));
                }
                Ok(app)
            }
            Err(unreadable) => {
                self.bad.insert(key.clone());
                let _ = self.trouble.send(Trouble::Unreadable(unreadable));
                Err(key)
            }
        }
    }

    fn drop_known(&self, key: &ObjectRef<FunctionApp>) -> Option<Event<FunctionApp>> {
        let known = self.known.get(key)?;
        Some(Event::Delete((*known).clone()))
    }
}

pub(super) fn reference(name: String, namespace: Option<String>) -> ObjectRef<FunctionApp> {
    let key = ObjectRef::new(&name);
    match namespace {
        Some(namespace) => key.within(&namespace),
        None => key,
    }
}

/// Digest of what others than the operator write.
fn of_the_user(app: &FunctionApp) -> u64 {
    let meta = &app.metadata;
    let mut hasher = DefaultHasher::new();
    (&meta.generation, &meta.labels, &meta.annotations).hash(&mut hasher);
    meta.deletion_timestamp.is_some().hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::app;
    use super::*;
    use serde_json::json;

    fn guarded(name: &str, spec: serde_json::Value) -> Guarded<FunctionApp> {
        serde_json::from_str(
            &json!({"apiVersion": "maniple.dev/v1alpha1", "kind": "FunctionApp",
                "metadata": {"name": name, "namespace": "default"}, "spec": spec})
            .to_string(),
        )
        .unwrap()
    }

    #[test]
    fn an_unreadable_app_is_told_and_leaves_the_others_alone() {
        let mut writer = reflector::store::Writer::<FunctionApp>::default();
        let (trouble, mut told) = mpsc::unbounded_channel();
        let mut sieve = Sieve {
            known: writer.as_reader(),
            bad: HashSet::new(),
            trouble,
        };
        let good = || guarded("good", json!({"image": "i"}));
        let bad = || guarded("bad", json!({"image": "i", "host": "OfTheFuture"}));
        for event in [
            Event::Init,
            Event::InitApply(bad()),
            Event::InitApply(good()),
            Event::InitDone,
        ] {
            if let Some(event) = sieve.pass(event) {
                writer.apply_watcher_event(&event);
            }
        }
        assert_eq!(sieve.known.len(), 1);
        let Ok(Trouble::Unreadable(unreadable)) = told.try_recv() else {
            panic!("nothing was told");
        };
        assert_eq!(unreadable.metadata.name.as_deref(), Some("bad"));
        assert!(unreadable.message.contains("OfTheFuture"));

        // The good one becomes unreadable and leaves; the bad one is corrected.
        let worse = guarded("good", json!({"image": "i", "host": "OfTheFuture"}));
        writer.apply_watcher_event(&sieve.pass(Event::Apply(worse)).unwrap());
        assert!(sieve.known.is_empty());
        assert!(matches!(told.try_recv(), Ok(Trouble::Unreadable(_))));
        let better = guarded("bad", json!({"image": "i"}));
        writer.apply_watcher_event(&sieve.pass(Event::Apply(better)).unwrap());
        assert_eq!(sieve.known.len(), 1);
        assert!(matches!(told.try_recv(), Ok(Trouble::Over(_))));
        writer.apply_watcher_event(&sieve.pass(Event::Delete(bad())).unwrap());
        assert!(sieve.known.is_empty());
    }

    #[test]
    fn a_write_of_status_is_no_change_but_every_other_write_is() {
        let before = app("shop", json!({}));
        let mut status = before.clone();
        status.status = Some(maniple_crds::FunctionAppStatus::default());
        status.metadata.resource_version = Some("9".into());
        assert_eq!(of_the_user(&before), of_the_user(&status));
        let mut generation = before.clone();
        generation.metadata.generation = Some(4);
        let mut annotated = before.clone();
        annotated.annotations_mut().insert("a".into(), "b".into());
        for changed in [generation, annotated] {
            assert_ne!(of_the_user(&before), of_the_user(&changed));
        }
    }
}
