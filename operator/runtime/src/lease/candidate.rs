//! The loop of one candidate.

use std::{sync::Arc, time::Duration};

use k8s_openapi::{
    api::coordination::v1::Lease, apimachinery::pkg::apis::meta::v1::ObjectMeta, jiff::Timestamp,
};
use parking_lot::Mutex;
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    AttemptLabels, LeaderState, LeaseLabels, LeaseMetrics, LeaseSettings,
    evaluate::{Sighting, Verdict, evaluate, held, released},
    store::{LeaseStore, StoreError},
};

/// One participant of an election.
pub(super) struct Candidate<S> {
    store: S,
    settings: LeaseSettings,
    state: watch::Sender<LeaderState>,
    valid_until: Arc<Mutex<Option<Instant>>>,
    metrics: LeaseMetrics,
    sighting: Option<Sighting>,
    /// Whether the sighting must be read again before it is written to.
    stale: bool,
}

enum Outcome {
    Held,
    Following(String),
}

impl<S: LeaseStore> Candidate<S> {
    pub(super) fn new(
        store: S,
        settings: LeaseSettings,
        state: watch::Sender<LeaderState>,
        valid_until: Arc<Mutex<Option<Instant>>>,
        metrics: LeaseMetrics,
    ) -> Self {
        Self {
            store,
            settings,
            state,
            valid_until,
            metrics,
            sighting: None,
            stale: true,
        }
    }

    /// Takes part until `stop`, then gives the lease back.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        loop {
            let pause = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                pause = self.turn() => pause,
            };
            let valid_until = *self.valid_until.lock();
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                () = until(valid_until) => self.lose("the lease could not be renewed in time"),
                () = sleep(pause) => {}
            }
        }
        self.give_back().await;
    }

    /// One attempt and its consequences; returns how long to wait for the next.
    async fn turn(&mut self) -> Duration {
        let times = self.settings.times;
        let started = Instant::now();
        let valid_until = *self.valid_until.lock();
        let attempt = tokio::select! {
            biased;
            () = until(valid_until) => {
                self.lose("the lease could not be renewed in time");
                Err(StoreError::Other("no answer before the end of the leadership".into()))
            }
            // A third of the time until others may take over, so that a hung request leaves room for another.
            attempt = timeout(times.duration / 3, self.attempt()) => attempt
                .unwrap_or_else(|_| Err(StoreError::Other("no answer in time".into()))),
        };
        match attempt {
            Ok(Outcome::Held) => {
                self.count("held");
                // From before the request: the server may have written at any moment since.
                self.lead(started + times.hold);
                return times.renew;
            }
            Ok(Outcome::Following(holder)) => {
                self.count("following");
                self.follow(Some(holder));
            }
            Err(StoreError::Conflict) => {
                self.count("conflict");
                self.stale = true;
            }
            Err(error) => {
                self.count("error");
                self.stale = true;
                tracing::warn!(lease = self.settings.name, %error, "leader election: attempt failed");
            }
        }
        times.poll.mul_f64(0.9 + 0.2 * fastrand::f64())
    }

    async fn attempt(&mut self) -> Result<Outcome, StoreError> {
        if self.stale || !self.is_ours() {
            let lease = self.store.read().await?;
            let now = Instant::now();
            self.sighting = lease.map(|lease| Sighting::next(self.sighting.take(), lease, now));
            self.stale = false;
        }
        let duration = self.settings.times.duration;
        let identity = self.settings.identity.clone();
        let verdict = evaluate(&identity, self.sighting.as_ref(), duration, Instant::now());
        let written = match verdict {
            Verdict::Follow(holder) => return Ok(Outcome::Following(holder)),
            Verdict::Create => {
                let metadata = ObjectMeta {
                    name: Some(self.settings.name.clone()),
                    namespace: Some(self.settings.namespace.clone()),
                    ..ObjectMeta::default()
                };
                let spec = held(None, &identity, duration, Timestamp::now());
                self.store
                    .create(Lease {
                        metadata,
                        spec: Some(spec),
                    })
                    .await?
            }
            Verdict::Renew | Verdict::Take => {
                let Some(sighting) = &self.sighting else {
                    return Err(StoreError::Conflict);
                };
                let mut lease = sighting.lease.clone();
                lease.spec = Some(held(
                    lease.spec.as_ref(),
                    &identity,
                    duration,
                    Timestamp::now(),
                ));
                // While a write is under way its outcome is unknown, also when this future is dropped.
                self.stale = true;
                self.store.replace(lease).await?
            }
        };
        self.sighting = Some(Sighting::next(
            self.sighting.take(),
            written,
            Instant::now(),
        ));
        self.stale = false;
        Ok(Outcome::Held)
    }

    fn is_ours(&self) -> bool {
        let spec = self
            .sighting
            .as_ref()
            .and_then(|sighting| sighting.lease.spec.as_ref());
        spec.and_then(|spec| spec.holder_identity.as_ref()) == Some(&self.settings.identity)
    }

    fn lead(&self, until: Instant) {
        *self.valid_until.lock() = Some(until);
        let begins = self.state.send_if_modified(|state| {
            let begins = matches!(state, LeaderState::Following { .. });
            if begins {
                *state = LeaderState::Leading {
                    since: Instant::now(),
                };
            }
            begins
        });
        if begins {
            self.leading().set(1);
            tracing::info!(
                lease = self.settings.name,
                identity = self.settings.identity,
                "leading"
            );
        }
    }

    fn lose(&self, reason: &str) {
        tracing::warn!(lease = self.settings.name, "no longer leading: {reason}");
        self.follow(None);
    }

    fn follow(&self, holder: Option<String>) {
        *self.valid_until.lock() = None;
        let next = LeaderState::Following { holder };
        let changed = self.state.send_if_modified(|state| {
            let changed = *state != next;
            state.clone_from(&next);
            changed
        });
        if changed {
            self.leading().set(0);
            tracing::info!(lease = self.settings.name, state = ?next, "not leading");
        }
    }

    async fn give_back(mut self) {
        if matches!(*self.state.borrow(), LeaderState::Leading { .. }) || self.is_ours() {
            let limit = self.settings.times.poll;
            let work = async {
                if self.stale {
                    let lease = self.store.read().await?;
                    self.sighting = lease.map(|lease| Sighting {
                        lease,
                        seen_at: Instant::now(),
                    });
                }
                let Some(sighting) = self.sighting.as_ref().filter(|_| self.is_ours()) else {
                    return Ok(());
                };
                let mut lease = sighting.lease.clone();
                lease.spec = lease
                    .spec
                    .as_ref()
                    .map(|spec| released(spec, Timestamp::now()));
                self.store.replace(lease).await.map(drop)
            };
            match timeout(limit, work).await {
                Ok(Ok(())) => tracing::info!(lease = self.settings.name, "lease given back"),
                Ok(Err(error)) => {
                    tracing::warn!(lease = self.settings.name, %error, "lease not given back");
                }
                Err(_) => tracing::warn!(
                    lease = self.settings.name,
                    "lease not given back: no answer"
                ),
            }
        }
        self.follow(None);
    }

    fn count(&self, result: &'static str) {
        let lease = self.settings.name.clone();
        self.metrics
            .attempts
            .get_or_create(&AttemptLabels { lease, result })
            .inc();
    }

    fn leading(&self) -> prometheus_client::metrics::gauge::Gauge {
        self.metrics.leading.get_or_create_owned(&LeaseLabels {
            lease: self.settings.name.clone(),
        })
    }
}

async fn until(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
#[path = "election_tests.rs"]
mod tests;
