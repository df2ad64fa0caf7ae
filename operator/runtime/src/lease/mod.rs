//! Leader election on a `coordination.k8s.io/v1` Lease, with the meaning that client-go gives its fields.
//!
//! Own code because the interface needs the holder's identity (a standby finds the leader by it) and a local,
//! monotonic end of one's own leadership. Wall clocks of different nodes are never compared: a candidate counts the
//! lease duration from the moment at which *it* saw the lease change, a leader counts from the moment before it
//! sent its last confirmed renewal, and stops believing in itself well before anybody else may take over.

mod candidate;
mod evaluate;
mod store;

use std::{sync::Arc, time::Duration};

use kube::Client;
use parking_lot::Mutex;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
};
use tokio::{sync::watch, time::Instant};

use crate::{Error, Metrics, Stage};
use candidate::Candidate;
use store::KubeStore;

/// Who leads, as far as this process knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeaderState {
    /// This process leads.
    Leading {
        /// Since when, on the local monotonic clock.
        since: Instant,
    },
    /// Another one leads, or nobody, or it is not known yet.
    Following {
        /// Identity of the leader; `None` when there is none or the lease was not read yet.
        holder: Option<String>,
    },
}

/// Which lease, and as whom.
#[derive(Debug, Clone)]
pub struct LeaseSettings {
    /// Namespace of the Lease.
    pub namespace: String,
    /// Name of the Lease.
    pub name: String,
    /// Free text that is unique among the candidates, such as the pod's name. Others read it as
    /// [`LeaderState::Following::holder`].
    pub identity: String,
    /// The clock of the election.
    pub times: LeaseTimes,
}

/// The clock of an election. Must grow in this order: `poll`, `renew`, `hold`, `duration`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseTimes {
    /// A follower reads the lease, and a failed attempt is repeated, this often (10 % jitter).
    pub poll: Duration,
    /// A leader renews this often.
    pub renew: Duration,
    /// A leader that could not renew for this long no longer leads.
    pub hold: Duration,
    /// A candidate takes over from a leader that did not renew for this long. Whole seconds.
    pub duration: Duration,
}

impl Default for LeaseTimes {
    /// A crash costs at most 17 s, a clean stop about 2 s; one write in 4 s.
    fn default() -> Self {
        Self {
            poll: Duration::from_secs(2),
            renew: Duration::from_secs(4),
            hold: Duration::from_secs(10),
            duration: Duration::from_secs(15),
        }
    }
}

impl LeaseSettings {
    /// With the default times.
    pub fn new(
        namespace: impl Into<String>,
        name: impl Into<String>,
        identity: impl Into<String>,
    ) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
            identity: identity.into(),
            times: LeaseTimes::default(),
        }
    }

    fn check(&self) -> Result<(), Error> {
        let times = &self.times;
        let message = if self.identity.is_empty() {
            "the identity is empty; pass the pod's name"
        } else if times.poll.is_zero() {
            "poll must be longer than 0"
        } else if !(times.poll <= times.renew
            && times.renew < times.hold
            && times.hold < times.duration)
        {
            "times must grow in the order poll <= renew < hold < duration"
        } else if times.duration.subsec_nanos() != 0
            || i32::try_from(times.duration.as_secs()).is_err()
        {
            "duration must be whole seconds"
        } else {
            return Ok(());
        };
        Err(Error::LeaseSettings {
            lease: format!("{}/{}", self.namespace, self.name),
            message: message.to_owned(),
        })
    }
}

/// The view of one election; clones share it.
#[derive(Debug, Clone)]
pub struct Leadership {
    state: watch::Receiver<LeaderState>,
    valid_until: Arc<Mutex<Option<Instant>>>,
}

impl Leadership {
    /// Takes part in an election until `stage` stops; then the lease is given back, so put it into a stage after
    /// the work that only a leader may do. What to do at a loss is for the caller to decide.
    ///
    /// # Errors
    /// When the settings contradict each other.
    pub fn start(
        client: Client,
        settings: LeaseSettings,
        metrics: &Metrics,
        stage: &Stage,
    ) -> Result<Self, Error> {
        settings.check()?;
        let store = KubeStore::new(client, &settings);
        let (leadership, candidate) =
            Self::candidate(store, settings, LeaseMetrics::register(metrics));
        let stop = stage.token();
        stage.spawn("leader election", async move {
            candidate.run(stop).await;
            Ok::<(), std::convert::Infallible>(())
        });
        Ok(leadership)
    }

    fn candidate<S: store::LeaseStore>(
        store: S,
        settings: LeaseSettings,
        metrics: LeaseMetrics,
    ) -> (Self, Candidate<S>) {
        let (sender, state) = watch::channel(LeaderState::Following { holder: None });
        let valid_until = Arc::new(Mutex::new(None));
        let leadership = Self {
            state,
            valid_until: Arc::clone(&valid_until),
        };
        (
            leadership,
            Candidate::new(store, settings, sender, valid_until, metrics),
        )
    }

    /// The present state.
    pub fn state(&self) -> LeaderState {
        self.state.borrow().clone()
    }

    /// Follows the state.
    pub fn watch(&self) -> watch::Receiver<LeaderState> {
        self.state.clone()
    }

    /// Whether this process may act as the leader at this very moment. Ask before each batch of writes: it
    /// also turns false when the election task itself was held up.
    pub fn is_leading(&self) -> bool {
        self.valid_until
            .lock()
            .is_some_and(|until| Instant::now() < until)
    }

    /// Waits until this process leads. `false` when the election ended before that.
    pub async fn until_leading(&mut self) -> bool {
        self.state
            .wait_for(|state| matches!(state, LeaderState::Leading { .. }))
            .await
            .is_ok()
    }

    /// Waits until this process does not lead any longer, or the election ended.
    pub async fn until_following(&mut self) {
        let _ = self
            .state
            .wait_for(|state| matches!(state, LeaderState::Following { .. }))
            .await;
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LeaseLabels {
    lease: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AttemptLabels {
    lease: String,
    result: &'static str,
}

#[derive(Debug, Clone, Default)]
struct LeaseMetrics {
    leading: Family<LeaseLabels, Gauge>,
    attempts: Family<AttemptLabels, Counter>,
}

impl LeaseMetrics {
    fn register(metrics: &Metrics) -> Self {
        let own = Self::default();
        metrics.register(|registry| {
            registry.register("leader", "1 while this process leads", own.leading.clone());
            registry.register(
                "lease_attempts",
                "Attempts to read, take or renew the lease by result: held, following, conflict, error",
                own.attempts.clone(),
            );
        });
        own
    }
}
