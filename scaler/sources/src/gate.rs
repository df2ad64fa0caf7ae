//! Shared limits of all pollers: requests in parallel, and back-off of throttled accounts.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::storage::StorageError;

/// First pause of a throttled account when the service names none; doubles up to [`MAX_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const MAX_PAUSE: Duration = Duration::from_secs(30);
/// Longest wait that a service can ask for.
const MAX_RETRY_AFTER: Duration = Duration::from_mins(5);
/// After this long without throttling an account is trusted one level more.
const RECOVERY: Duration = Duration::from_secs(10);
/// At the highest level polls of the account are 2^5 times rarer.
const MAX_LEVEL: u32 = 5;

/// Back-off of one account: pure, time is an argument.
///
/// Each throttled answer pauses the whole account and raises its level; pollers of the account pause 2^level times longer than they would.
#[derive(Debug, Clone, Default)]
pub struct Throttle {
    until: Option<Instant>,
    level: u32,
}

impl Throttle {
    /// The service said that it is too busy.
    pub fn throttled(&mut self, now: Instant, retry_after: Option<Duration>) {
        let asked = retry_after.unwrap_or_default().min(MAX_RETRY_AFTER);
        if let Some(until) = self.until.filter(|until| *until > now) {
            // The answer to a request sent before the pause: the same event, not a worse one.
            self.until = Some(until.max(now + asked));
            return;
        }
        self.level = (self.level(now) + 1).min(MAX_LEVEL);
        let pause = FIRST_PAUSE
            .saturating_mul(1 << (self.level - 1))
            .min(MAX_PAUSE);
        self.until = Some(now + pause.max(asked));
    }

    /// How long nothing may be sent.
    pub fn pause(&self, now: Instant) -> Duration {
        self.until
            .map_or(Duration::ZERO, |until| until.saturating_duration_since(now))
    }

    /// By which factor polls should be rarer.
    pub fn stretch(&self, now: Instant) -> u32 {
        1 << self.level(now)
    }

    fn level(&self, now: Instant) -> u32 {
        let calm = self
            .until
            .map_or(Duration::ZERO, |until| now.saturating_duration_since(until));
        let recovered = u32::try_from(calm.as_secs() / RECOVERY.as_secs()).unwrap_or(u32::MAX);
        self.level.saturating_sub(recovered)
    }
}

/// The limits of a process. Clones share them.
#[derive(Debug, Clone)]
pub struct Gate {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    permits: Semaphore,
    /// For places that did not answer the last time. They have their own limit, so that dead accounts never use up the places of the
    /// healthy ones.
    suspects: Semaphore,
    accounts: Mutex<HashMap<String, Weak<Mutex<Throttle>>>>,
}

impl Gate {
    /// At most `parallel` polls at once over all accounts, and a quarter of that for places that did not answer the last time.
    pub fn new(parallel: usize) -> Self {
        Self {
            inner: Arc::new(Inner {
                permits: Semaphore::new(parallel.max(1)),
                suspects: Semaphore::new((parallel / 4).max(1)),
                accounts: Mutex::new(HashMap::new()),
            }),
        }
    }

    /// The entrance for one account, named by its endpoint.
    pub(crate) fn account(&self, endpoint: &str) -> AccountGate {
        let mut accounts = self.inner.accounts.lock();
        let throttle = accounts
            .get(endpoint)
            .and_then(Weak::upgrade)
            .unwrap_or_else(|| {
                accounts.retain(|_, throttle| throttle.strong_count() > 0);
                let throttle = Arc::default();
                accounts.insert(endpoint.to_owned(), Arc::downgrade(&throttle));
                throttle
            });
        AccountGate {
            gate: self.inner.clone(),
            throttle,
        }
    }
}

/// The default: 64 polls at once.
impl Default for Gate {
    fn default() -> Self {
        Self::new(64)
    }
}

/// The entrance for the pollers of one account.
#[derive(Debug, Clone)]
pub(crate) struct AccountGate {
    gate: Arc<Inner>,
    throttle: Arc<Mutex<Throttle>>,
}

impl AccountGate {
    /// Waits until the account may be asked and a place is free. `suspect`: it did not answer the last time.
    pub(crate) async fn enter(&self, suspect: bool) -> SemaphorePermit<'_> {
        let permits = if suspect {
            &self.gate.suspects
        } else {
            &self.gate.permits
        };
        loop {
            let pause = self.throttle.lock().pause(now());
            if !pause.is_zero() {
                // A random tail, so that the pollers of the account do not all come back in the same instant.
                tokio::time::sleep(pause.mul_f64(1.0 + fastrand::f64() / 4.0)).await;
                continue;
            }
            let permit = permits.acquire().await;
            let permit = permit.expect("the semaphore is never closed");
            // The account may have been throttled while this poller waited for a place.
            if self.throttle.lock().pause(now()).is_zero() {
                return permit;
            }
        }
    }

    /// Takes note of a failure.
    pub(crate) fn report(&self, error: &StorageError) {
        if let StorageError::Throttled { retry_after, .. } = error {
            self.throttle.lock().throttled(now(), *retry_after);
        }
    }

    /// By which factor polls should be rarer.
    pub(crate) fn stretch(&self) -> u32 {
        self.throttle.lock().stretch(now())
    }
}

/// The clock of the runtime, so that tests can move it.
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn pauses_grow_and_recover() {
        let start = Instant::now();
        let mut throttle = Throttle::default();
        assert_eq!((throttle.pause(start), throttle.stretch(start)), (s(0), 1));

        throttle.throttled(start, None);
        assert_eq!((throttle.pause(start), throttle.stretch(start)), (s(1), 2));
        // Answers to requests that were already sent do not count again.
        throttle.throttled(start, None);
        assert_eq!((throttle.pause(start), throttle.stretch(start)), (s(1), 2));

        throttle.throttled(start + s(2), None);
        assert_eq!(throttle.pause(start + s(2)), s(2));
        assert_eq!(throttle.stretch(start + s(2)), 4);
        // Paused until 4; one level back for each 10 s.
        assert_eq!(throttle.stretch(start + s(13)), 4);
        assert_eq!(throttle.stretch(start + s(14)), 2);
        assert_eq!(throttle.stretch(start + s(24)), 1);
        assert_eq!(throttle.stretch(start + s(1_000_000)), 1);
    }

    #[test]
    fn the_service_can_ask_for_more_within_a_limit() {
        let start = Instant::now();
        let mut throttle = Throttle::default();
        throttle.throttled(start, Some(s(20)));
        assert_eq!(throttle.pause(start), s(20));
        throttle.throttled(start + s(1), Some(s(60)));
        assert_eq!(throttle.pause(start), s(61));
        throttle.throttled(start + s(100), Some(s(1_000_000)));
        assert_eq!(throttle.pause(start + s(100)), s(300));
    }

    #[test]
    fn the_level_is_bounded() {
        let start = Instant::now();
        let mut throttle = Throttle::default();
        let mut now = start;
        for _ in 0..50 {
            throttle.throttled(now, None);
            now += throttle.pause(now);
        }
        assert_eq!(throttle.stretch(now), 32);
    }

    #[test]
    fn accounts_share_a_throttle_and_are_forgotten() {
        let gate = Gate::default();
        let (a, b, c) = (gate.account("x"), gate.account("x"), gate.account("y"));
        a.throttle.lock().throttled(Instant::now(), Some(s(100)));
        assert!(!b.throttle.lock().pause(Instant::now()).is_zero());
        assert!(c.throttle.lock().pause(Instant::now()).is_zero());
        drop((a, b, c));
        let _other = gate.account("z");
        assert_eq!(gate.inner.accounts.lock().len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_throttled_account_waits_and_others_do_not() {
        let gate = Gate::new(1);
        let (a, b) = (gate.account("a"), gate.account("b"));
        a.throttle.lock().throttled(now(), Some(s(10)));
        let start = now();
        drop(b.enter(false).await);
        assert_eq!(now(), start);
        drop(a.enter(false).await);
        let waited = now() - start;
        assert!(waited >= s(10) && waited < s(14), "{waited:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn silent_places_do_not_keep_others_waiting() {
        let gate = Gate::new(4);
        let (dead, healthy) = (gate.account("dead"), gate.account("healthy"));
        let start = now();
        let held = dead.enter(true).await;
        // The next silent place has to wait, a healthy one does not.
        assert!(tokio::time::timeout(s(60), dead.enter(true)).await.is_err());
        let before = now();
        drop(healthy.enter(false).await);
        assert_eq!((now(), before - start), (before, s(60)));
        drop(held);
        drop(dead.enter(true).await);
        assert_eq!(now(), before);
    }
}
