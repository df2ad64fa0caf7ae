//! The loop against Deployments in memory, on tokio's paused clock.

use super::*;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::{mpsc, watch};

/// Deployments in memory whose writes wait for a gate and may fail.
#[derive(Clone)]
struct Deployments {
    counts: Arc<Mutex<HashMap<WorkloadKey, u32>>>,
    failures: Arc<Mutex<u32>>,
    gate: watch::Receiver<bool>,
    begun: mpsc::UnboundedSender<u32>,
}

impl ScaleWriter for Deployments {
    async fn write(
        &self,
        workload: &WorkloadKey,
        replicas: u32,
    ) -> Result<WrittenScale, WriteError> {
        self.begun.send(replicas).unwrap();
        self.gate.clone().wait_for(|open| *open).await.unwrap();
        let mut failures = self.failures.lock();
        if *failures > 0 {
            *failures -= 1;
            return Err(WriteError::Failed {
                category: "server",
                message: "busy".into(),
            });
        }
        self.counts.lock().insert(workload.clone(), replicas);
        Ok(WrittenScale {
            replicas,
            version: Some(1),
        })
    }
}

struct Bench {
    wishes: Wishes,
    deployments: Deployments,
    gate: watch::Sender<bool>,
    begun: mpsc::UnboundedReceiver<u32>,
    outcomes: mpsc::UnboundedReceiver<Written>,
    leading: Arc<AtomicBool>,
    stop: CancellationToken,
}

fn bench(open: bool, failures: u32) -> Bench {
    let (gate, receiver) = watch::channel(open);
    let (begun_sender, begun) = mpsc::unbounded_channel();
    let (outcome_sender, outcomes) = mpsc::unbounded_channel();
    let deployments = Deployments {
        counts: Arc::default(),
        failures: Arc::new(Mutex::new(failures)),
        gate: receiver,
        begun: begun_sender,
    };
    let (wishes, leading, stop) = (
        Wishes::default(),
        Arc::new(AtomicBool::new(true)),
        CancellationToken::new(),
    );
    let may_write = {
        let leading = Arc::clone(&leading);
        move || leading.load(Ordering::SeqCst)
    };
    tokio::spawn(wishes.clone().run(
        deployments.clone(),
        may_write,
        move |written| outcome_sender.send(written).unwrap(),
        stop.clone(),
    ));
    Bench {
        wishes,
        deployments,
        gate,
        begun,
        outcomes,
        leading,
        stop,
    }
}

fn key(name: &str) -> WorkloadKey {
    WorkloadKey::new("ns", name)
}

#[tokio::test(start_paused = true)]
async fn one_write_for_one_wish_and_none_for_the_same_again() {
    let mut bench = bench(true, 0);
    bench.wishes.want(&key("a"), 7);
    bench.wishes.want(&key("a"), 7);
    let outcome = bench.outcomes.recv().await.unwrap();
    assert_eq!(outcome.result.unwrap().replicas, 7);
    assert!(bench.wishes.is_empty());
    assert_eq!(bench.begun.try_recv(), Ok(7));
    assert!(bench.begun.try_recv().is_err(), "a second write");
}

#[tokio::test(start_paused = true)]
async fn the_newest_wish_wins_while_a_write_is_under_way() {
    let mut bench = bench(false, 0);
    bench.wishes.want(&key("a"), 1);
    assert_eq!(bench.begun.recv().await, Some(1));
    bench.wishes.want(&key("a"), 5);
    bench.wishes.want(&key("a"), 9);
    bench.gate.send_replace(true);
    bench.outcomes.recv().await.unwrap();
    assert_eq!(bench.begun.recv().await, Some(9), "5 was never written");
    bench.outcomes.recv().await.unwrap();
    assert_eq!(bench.deployments.counts.lock()[&key("a")], 9);
    assert!(bench.wishes.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_failed_write_is_tried_again_until_it_succeeds() {
    let mut bench = bench(true, 3);
    bench.wishes.want(&key("a"), 2);
    for _ in 0..3 {
        let outcome = bench.outcomes.recv().await.unwrap();
        assert_eq!(outcome.result.unwrap_err().category(), "server");
        assert_eq!(bench.wishes.wanted(&key("a")), Some(2));
    }
    assert!(bench.outcomes.recv().await.unwrap().result.is_ok());
    assert!(bench.wishes.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_withdrawn_wish_is_not_tried_again() {
    let mut bench = bench(true, 1);
    bench.wishes.want(&key("a"), 2);
    assert!(bench.outcomes.recv().await.unwrap().result.is_err());
    bench.wishes.withdraw(&key("a"));
    bench.wishes.want(&key("b"), 1);
    assert_eq!(bench.outcomes.recv().await.unwrap().workload, key("b"));
    tokio::time::sleep(RETRY.1 * 2).await;
    assert!(bench.outcomes.try_recv().is_err());
    assert!(bench.deployments.counts.lock().get(&key("a")).is_none());
}

#[tokio::test(start_paused = true)]
async fn nothing_is_written_without_the_right_to_write() {
    let mut bench = bench(true, 0);
    bench.leading.store(false, Ordering::SeqCst);
    bench.wishes.want(&key("a"), 2);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(bench.begun.try_recv().is_err());
    assert!(
        bench.wishes.is_empty(),
        "a wish of an earlier leadership must not be fulfilled later"
    );
    bench.leading.store(true, Ordering::SeqCst);
    bench.wishes.want(&key("a"), 3);
    assert_eq!(bench.outcomes.recv().await.unwrap().wanted, 3);
    bench.stop.cancel();
}

#[test]
fn waits_grow_to_the_longest() {
    assert!(wait(0) <= RETRY.0);
    assert!(wait(5) >= RETRY.0 * 2);
    assert!(wait(u32::MAX) <= RETRY.1);
}
