//! Elections between several candidates over one lease in memory, on tokio's paused clock.

use std::convert::Infallible;

use super::*;
use crate::{
    Stage,
    lease::{Leadership, LeaseTimes},
};

/// One lease with resource versions, as the API server keeps it, and switches for what can go wrong on the way.
#[derive(Clone, Default)]
struct Memory(Arc<Mutex<Shelf>>);

#[derive(Default)]
struct Shelf {
    lease: Option<Lease>,
    version: u64,
}

impl Memory {
    fn put(&self, mut lease: Lease, expected: Option<&str>) -> Result<Lease, StoreError> {
        let mut kept = self.0.lock();
        let present = kept
            .lease
            .as_ref()
            .and_then(|lease| lease.metadata.resource_version.as_deref());
        if present != expected {
            return Err(StoreError::Conflict);
        }
        kept.version += 1;
        lease.metadata.resource_version = Some(kept.version.to_string());
        kept.lease = Some(lease.clone());
        Ok(lease)
    }

    fn holder(&self) -> Option<String> {
        self.0.lock().lease.clone()?.spec?.holder_identity
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Network {
    Good,
    /// Requests are refused.
    Refused,
    /// Requests arrive, answers do not.
    Mute,
}

#[derive(Clone)]
struct Wire {
    memory: Memory,
    network: watch::Receiver<Network>,
}

impl Wire {
    async fn pass<T>(&self, work: impl FnOnce() -> T) -> Result<T, StoreError> {
        sleep(Duration::from_millis(20)).await;
        let network = *self.network.borrow();
        if network == Network::Refused {
            return Err(StoreError::Other("refused".into()));
        }
        let done = work();
        sleep(Duration::from_millis(20)).await;
        if network == Network::Mute {
            std::future::pending::<()>().await;
        }
        Ok(done)
    }
}

impl LeaseStore for Wire {
    async fn read(&self) -> Result<Option<Lease>, StoreError> {
        self.pass(|| self.memory.0.lock().lease.clone()).await
    }

    async fn create(&self, lease: Lease) -> Result<Lease, StoreError> {
        self.pass(|| self.memory.put(lease, None)).await?
    }

    async fn replace(&self, lease: Lease) -> Result<Lease, StoreError> {
        let version = lease.metadata.resource_version.clone();
        self.pass(|| self.memory.put(lease, version.as_deref()))
            .await?
    }
}

struct Member {
    leadership: Leadership,
    network: watch::Sender<Network>,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

fn join(memory: &Memory, identity: &str) -> Member {
    let (network, receiver) = watch::channel(Network::Good);
    let wire = Wire {
        memory: memory.clone(),
        network: receiver,
    };
    let settings = LeaseSettings::new("ns", "lease", identity);
    let (leadership, candidate) = Leadership::candidate(wire, settings, LeaseMetrics::default());
    let stop = CancellationToken::new();
    let task = tokio::spawn(candidate.run(stop.clone()));
    Member {
        leadership,
        network,
        stop,
        task,
    }
}

fn following(holder: &str) -> LeaderState {
    LeaderState::Following {
        holder: Some(holder.to_owned()),
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_leads_and_the_second_knows_where_it_is() {
    let memory = Memory::default();
    let mut first = join(&memory, "pod-a/10.0.0.1:6000");
    assert!(!first.leadership.is_leading());
    assert!(first.leadership.until_leading().await);
    assert!(first.leadership.is_leading());
    let second = join(&memory, "pod-b/10.0.0.2:6000");
    let mut seen = second.leadership.watch();
    seen.changed().await.unwrap();
    assert_eq!(second.leadership.state(), following("pod-a/10.0.0.1:6000"));
    sleep(Duration::from_mins(5)).await;
    assert!(first.leadership.is_leading());
    assert!(!second.leadership.is_leading());
}

#[tokio::test(start_paused = true)]
async fn a_clean_stop_hands_over_within_one_poll() {
    let memory = Memory::default();
    let mut first = join(&memory, "a");
    first.leadership.until_leading().await;
    let mut second = join(&memory, "b");
    sleep(Duration::from_secs(20)).await;
    let start = Instant::now();
    first.stop.cancel();
    first.task.await.unwrap();
    assert!(!first.leadership.is_leading());
    assert!(second.leadership.until_leading().await);
    assert!(
        start.elapsed() < Duration::from_secs(3),
        "{:?}",
        start.elapsed()
    );
    assert_eq!(memory.holder().as_deref(), Some("b"));
}

#[tokio::test(start_paused = true)]
async fn a_killed_leader_is_replaced_after_the_duration() {
    let memory = Memory::default();
    let mut first = join(&memory, "a");
    first.leadership.until_leading().await;
    let mut second = join(&memory, "b");
    sleep(Duration::from_secs(20)).await;
    first.task.abort();
    let start = Instant::now();
    second.leadership.until_leading().await;
    let times = LeaseTimes::default();
    assert!(
        start.elapsed() + times.renew >= times.duration,
        "{:?}",
        start.elapsed()
    );
    assert!(
        start.elapsed() <= times.duration + times.renew,
        "{:?}",
        start.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn a_restart_under_the_same_identity_leads_at_once() {
    let memory = Memory::default();
    let mut first = join(&memory, "a");
    first.leadership.until_leading().await;
    first.task.abort();
    let start = Instant::now();
    join(&memory, "a").leadership.until_leading().await;
    assert!(
        start.elapsed() < Duration::from_secs(1),
        "{:?}",
        start.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn a_deleted_lease_is_made_again() {
    let memory = Memory::default();
    let mut only = join(&memory, "a");
    only.leadership.until_leading().await;
    memory.0.lock().lease = None;
    sleep(Duration::from_secs(20)).await;
    assert!(only.leadership.is_leading());
    assert_eq!(memory.holder().as_deref(), Some("a"));
}

#[tokio::test(start_paused = true)]
async fn a_leader_cut_off_gives_up_before_anybody_else_leads() {
    for fault in [Network::Refused, Network::Mute] {
        let memory = Memory::default();
        let mut first = join(&memory, "a");
        first.leadership.until_leading().await;
        let mut second = join(&memory, "b");
        sleep(Duration::from_secs(20)).await;
        first.network.send_replace(fault);
        let start = Instant::now();
        first.leadership.until_following().await;
        assert_eq!(
            first.leadership.state(),
            LeaderState::Following { holder: None }
        );
        assert!(
            start.elapsed() <= LeaseTimes::default().hold,
            "{fault:?} {:?}",
            start.elapsed()
        );
        assert!(!second.leadership.is_leading(), "{fault:?}");
        if fault == Network::Refused {
            second.leadership.until_leading().await;
            assert!(!first.leadership.is_leading());
        }
        first.network.send_replace(Network::Good);
        sleep(Duration::from_secs(30)).await;
        let leaders = [&first, &second].map(|member| member.leadership.is_leading());
        assert_eq!(
            leaders.iter().filter(|leads| **leads).count(),
            1,
            "{fault:?} {leaders:?}"
        );
    }
}

/// Random faults, kills and joins; at no instant may two candidates believe that they lead.
#[tokio::test(start_paused = true)]
async fn never_two_leaders() {
    for seed in 0..8 {
        let mut random = fastrand::Rng::with_seed(seed);
        let memory = Memory::default();
        let mut members: Vec<Member> = (0..3).map(|n| join(&memory, &format!("m{n}"))).collect();
        let mut reigns = 0;
        let mut led = false;
        for step in 0..4000 {
            sleep(Duration::from_millis(100)).await;
            if step % 20 == 0 {
                let member = random.usize(0..members.len());
                let network = match random.u8(0..4) {
                    0 => Network::Refused,
                    1 => Network::Mute,
                    _ => Network::Good,
                };
                members[member].network.send_replace(network);
                if random.u8(0..20) == 0 {
                    members[member].task.abort();
                    members[member] = join(&memory, &format!("m{member}-{step}"));
                }
            }
            let leaders = members
                .iter()
                .filter(|member| member.leadership.is_leading())
                .count();
            assert!(leaders <= 1, "seed {seed}, step {step}");
            reigns += usize::from(leaders == 1 && !led);
            led = leaders == 1;
        }
        assert!(reigns >= 1, "seed {seed}: nobody ever led");
    }
}

#[test]
fn settings_are_checked() {
    let good = LeaseSettings::new("ns", "lease", "a");
    assert!(good.check().is_ok());
    let times = LeaseTimes::default();
    let bad = [
        (
            LeaseSettings {
                identity: String::new(),
                ..good.clone()
            },
            "identity",
        ),
        (
            LeaseSettings {
                times: LeaseTimes {
                    hold: times.duration,
                    ..times
                },
                ..good.clone()
            },
            "grow",
        ),
        (
            LeaseSettings {
                times: LeaseTimes {
                    poll: Duration::ZERO,
                    ..times
                },
                ..good.clone()
            },
            "poll",
        ),
        (
            LeaseSettings {
                times: LeaseTimes {
                    duration: Duration::from_millis(15_500),
                    ..times
                },
                ..good
            },
            "whole seconds",
        ),
    ];
    for (settings, word) in bad {
        let error = settings.check().unwrap_err();
        assert!(error.to_string().contains(word), "{error}");
        assert!(error.to_string().starts_with("lease ns/lease: "), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stage_gives_the_lease_back() {
    let memory = Memory::default();
    let mut shutdown = crate::Shutdown::new();
    let stage: Stage = shutdown.stage("lease", Duration::from_secs(5));
    let wire = Wire {
        memory: memory.clone(),
        network: watch::channel(Network::Good).1,
    };
    let settings = LeaseSettings::new("ns", "lease", "a");
    let (mut leadership, candidate) =
        Leadership::candidate(wire, settings, LeaseMetrics::default());
    let stop = stage.token();
    stage.spawn("lease", async move {
        candidate.run(stop).await;
        Ok::<(), Infallible>(())
    });
    leadership.until_leading().await;
    shutdown.requested().cancel();
    shutdown.run().await.unwrap();
    assert_eq!(memory.holder(), None);
    assert!(memory.0.lock().lease.is_some());
}
