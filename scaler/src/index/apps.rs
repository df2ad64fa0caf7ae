//! Keeps the plan of every app: made anew when the app changes, when a Secret or ConfigMap may have changed, and when a
//! source says that it was not let in.

use super::key::AppKey;
use super::plan::AppPlan;
use super::references::{REFRESH, Reader, References, objects};
use super::translate::{TranslateError, translate};
use super::watch::Seen;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use maniple_crds::FunctionApp;
use maniple_crds::function_app::FunctionAppSpec;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, interval, sleep_until};
use tokio_util::sync::CancellationToken;

/// What came of watching apps.
#[derive(Debug, PartialEq, Eq)]
pub enum AppEvent {
    /// The plan of an app, new or changed.
    Planned(AppKey, Arc<AppPlan>),
    /// There is no such app any more.
    Gone(AppKey),
    /// Every app that there is has been planned, if it can be.
    Listed,
}

/// Age at which a Secret is read again because a source was not let in.
const REFUSED_AGE: Duration = Duration::from_secs(5);
/// Apps whose Secrets and ConfigMaps are read again in one second, at most: 10,000 apps within about 8 minutes.
const REFRESHES_PER_SECOND: f64 = 20.0;

#[derive(Debug)]
struct Entry {
    generation: i64,
    spec: Arc<FunctionAppSpec>,
    /// Number of the last change; a plan made from an older spec is thrown away.
    change: u64,
    plan: Option<Arc<AppPlan>>,
    refresh_at: Option<Instant>,
}

/// The making of one plan.
#[derive(Debug)]
struct Job {
    key: AppKey,
    generation: i64,
    spec: Arc<FunctionAppSpec>,
    change: u64,
    max_age: Duration,
}

struct Done {
    key: AppKey,
    change: u64,
    plan: Result<AppPlan, TranslateError>,
}

impl Job {
    async fn run<R: Reader>(self, references: &References<R>) -> Done {
        let settings = references
            .resolve(&self.key.namespace, &self.spec.app_settings, self.max_age)
            .await;
        Done {
            plan: translate(&self.key, self.generation, &self.spec, &settings),
            key: self.key,
            change: self.change,
        }
    }
}

/// The apps and their plans.
#[derive(Debug, Default)]
struct Apps {
    entries: HashMap<AppKey, Entry>,
    refreshes: BTreeSet<(Instant, AppKey)>,
    /// Apps that were never planned.
    unplanned: HashSet<AppKey>,
    listed: bool,
    announced: bool,
    changes: u64,
}

/// Plans apps until `stop` is cancelled or `events` is closed. `refused` names apps whose source answered that the credential
/// is wrong: their Secrets are read again at once.
pub async fn run<R: Reader>(
    references: References<R>,
    mut seen: mpsc::Receiver<Seen<FunctionApp>>,
    mut refused: mpsc::Receiver<AppKey>,
    events: mpsc::Sender<AppEvent>,
    stop: CancellationToken,
) {
    let mut apps = Apps::default();
    let mut jobs = FuturesUnordered::new();
    let mut sweep = interval(REFRESH);
    let mut out = Vec::new();
    loop {
        let refresh_at = apps.refreshes.first().map(|(at, _)| *at);
        let job = tokio::select! {
            () = stop.cancelled() => return,
            Some(seen) = seen.recv() => apps.seen(seen, &mut out),
            Some(key) = refused.recv() => apps.job(&key, REFUSED_AGE),
            Some(done) = jobs.next() => {
                apps.done(done, Instant::now(), &mut out);
                None
            }
            () = at(refresh_at) => apps.due(Instant::now()),
            _ = sweep.tick() => {
                references.retain(&apps.objects());
                None
            }
        };
        jobs.extend(job.map(|job| job.run(&references)));
        apps.announce(&mut out);
        for event in out.drain(..) {
            if events.send(event).await.is_err() {
                return;
            }
        }
    }
}

impl Apps {
    fn seen(&mut self, seen: Seen<FunctionApp>, out: &mut Vec<AppEvent>) -> Option<Job> {
        match seen {
            Seen::Object(app) => {
                let app = *app;
                let key = AppKey::new(
                    app.metadata.namespace.unwrap_or_default(),
                    app.metadata.name.unwrap_or_default(),
                );
                let generation = app.metadata.generation.unwrap_or_default();
                if let Some(entry) = self.entries.get(&key)
                    && entry.generation == generation
                    && *entry.spec == app.spec
                {
                    return None;
                }
                self.changes += 1;
                let previous = self.entries.remove(&key);
                let entry = Entry {
                    generation,
                    spec: Arc::new(app.spec),
                    change: self.changes,
                    plan: previous.as_ref().and_then(|entry| entry.plan.clone()),
                    refresh_at: previous.and_then(|entry| entry.refresh_at),
                };
                if entry.plan.is_none() {
                    self.unplanned.insert(key.clone());
                }
                self.entries.insert(key.clone(), entry);
                // Settings that were read a moment ago for another app are good enough.
                self.job(&key, REFUSED_AGE)
            }
            Seen::Unreadable {
                namespace,
                name,
                error,
            } => {
                tracing::warn!(
                    namespace,
                    name,
                    "functionapp cannot be read, its last good state stays in force: {error}"
                );
                None
            }
            Seen::Gone { namespace, name } => {
                let key = AppKey::new(namespace, name);
                self.unplanned.remove(&key);
                if let Some(entry) = self.entries.remove(&key) {
                    if let Some(at) = entry.refresh_at {
                        self.refreshes.remove(&(at, key.clone()));
                    }
                    out.push(AppEvent::Gone(key));
                }
                None
            }
            Seen::Listed => {
                self.listed = true;
                None
            }
        }
    }

    fn job(&self, key: &AppKey, max_age: Duration) -> Option<Job> {
        let entry = self.entries.get(key)?;
        Some(Job {
            key: key.clone(),
            generation: entry.generation,
            spec: Arc::clone(&entry.spec),
            change: entry.change,
            max_age,
        })
    }

    /// The next app whose Secrets are to be read again.
    fn due(&mut self, now: Instant) -> Option<Job> {
        let (at, _) = self.refreshes.first()?;
        if *at > now {
            return None;
        }
        let (_, key) = self.refreshes.pop_first()?;
        self.entries.get_mut(&key)?.refresh_at = None;
        self.job(&key, REFRESH / 2)
    }

    fn done(&mut self, done: Done, now: Instant, out: &mut Vec<AppEvent>) {
        let crowd = self.refreshes.len();
        let Some(entry) = self.entries.get_mut(&done.key) else {
            return;
        };
        if entry.change != done.change {
            return;
        }
        self.unplanned.remove(&done.key);
        match done.plan {
            Ok(plan) => {
                if entry.plan.as_deref() != Some(&plan) {
                    let plan = Arc::new(plan);
                    entry.plan = Some(Arc::clone(&plan));
                    out.push(AppEvent::Planned(done.key.clone(), plan));
                }
            }
            Err(error) => tracing::warn!(
                app = %done.key,
                category = error.category(),
                "functionapp is wrong, its last good state stays in force: {error}"
            ),
        }
        let refers = entry
            .spec
            .app_settings
            .iter()
            .any(|s| s.value_from.is_some());
        if refers && entry.refresh_at.is_none() {
            let crowded = Duration::from_secs_f64(crowd as f64 / REFRESHES_PER_SECOND);
            let at = now + REFRESH.max(crowded).mul_f64(0.9 + fastrand::f64() / 5.0);
            entry.refresh_at = Some(at);
            self.refreshes.insert((at, done.key));
        }
    }

    fn announce(&mut self, out: &mut Vec<AppEvent>) {
        if self.listed && !self.announced && self.unplanned.is_empty() {
            self.announced = true;
            out.push(AppEvent::Listed);
        }
    }

    fn objects(&self) -> BTreeSet<super::references::ObjectKey> {
        self.entries
            .iter()
            .flat_map(|(key, entry)| objects(&key.namespace, &entry.spec.app_settings))
            .collect()
    }
}

async fn at(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
