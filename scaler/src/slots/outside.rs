//! The writes of the data role: each is tried until it succeeds, and its outcome comes back as an event.

use super::cluster::{Cluster, PodError};
use super::metrics::SlotsMetrics;
use super::pods::PodName;
use super::record::{Member, RecordChange, TermOver, change};
use maniple_core::slots::message::{Epoch, FrontEndId, InstanceUid, MemberRecord};
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// Shortest and longest wait before a write is tried again.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// What was done.
#[derive(Debug)]
pub(super) enum Done {
    Added(MemberRecord),
    Removed(FrontEndId),
    Confirmed(InstanceUid),
    Claimed(InstanceUid, Epoch),
    Marked(InstanceUid),
    CostLowered(InstanceUid),
    Listed {
        present: BTreeSet<InstanceUid>,
        /// Hellos applied when the list was asked for.
        hellos: u64,
    },
    /// The pod was gone before it could be written.
    Gone,
}

/// Does what the books want done.
pub(super) struct Outside<C> {
    cluster: C,
    pub(super) epoch: Epoch,
    done: mpsc::UnboundedSender<Result<Done, TermOver>>,
    record: mpsc::UnboundedSender<(RecordChange, Done)>,
    /// Ends with the term.
    tasks: JoinSet<()>,
}

impl<C: Cluster> Outside<C> {
    pub(super) fn new(
        cluster: C,
        epoch: u64,
        metrics: SlotsMetrics,
    ) -> (Self, mpsc::UnboundedReceiver<Result<Done, TermOver>>) {
        let (done, receiver) = mpsc::unbounded_channel();
        let (record, changes) = mpsc::unbounded_channel();
        let epoch = Epoch(epoch);
        let mut tasks = JoinSet::new();
        tasks.spawn(keep_record(
            cluster.clone(),
            epoch,
            metrics,
            changes,
            done.clone(),
        ));
        let outside = Self {
            cluster,
            epoch,
            done,
            record,
            tasks,
        };
        (outside, receiver)
    }

    fn spawn(&mut self, work: impl Future<Output = Result<Done, TermOver>> + Send + 'static) {
        while self.tasks.try_join_next().is_some() {}
        let done = self.done.clone();
        self.tasks.spawn(async move {
            let _ = done.send(work.await);
        });
    }

    fn record(&mut self, what: RecordChange, then: Done) {
        let _ = self.record.send((what, then));
    }

    pub(super) fn add_member(&mut self, member: MemberRecord, watched: bool) {
        let what = RecordChange::Add(Member::new(member, watched));
        self.record(what, Done::Added(member));
    }

    pub(super) fn remove_member(&mut self, id: FrontEndId) {
        self.record(RecordChange::Remove(id), Done::Removed(id));
    }

    pub(super) fn confirm(&mut self, uid: InstanceUid) {
        self.record(RecordChange::Confirm, Done::Confirmed(uid));
    }

    pub(super) fn claim(&mut self, uid: InstanceUid, pod: PodName) {
        let (cluster, epoch) = (self.cluster.clone(), self.epoch);
        self.spawn(async move {
            let claimed = again(|| cluster.claim(&pod, epoch)).await;
            Ok(claimed.map_or(Done::Gone, |epoch| Done::Claimed(uid, epoch)))
        });
    }

    pub(super) fn mark(&mut self, uid: InstanceUid, pod: PodName) {
        let (cluster, epoch) = (self.cluster.clone(), self.epoch);
        self.spawn(async move {
            let marked = again(|| cluster.mark_drain(&pod, epoch)).await;
            Ok(marked.map_or(Done::Gone, |()| Done::Marked(uid)))
        });
    }

    pub(super) fn lower_cost(&mut self, uid: InstanceUid, pod: PodName) {
        let cluster = self.cluster.clone();
        self.spawn(async move {
            let lowered = again(|| cluster.lower_cost(&pod)).await;
            Ok(lowered.map_or(Done::Gone, |()| Done::CostLowered(uid)))
        });
    }

    pub(super) fn list(&mut self, hellos: u64) {
        let cluster = self.cluster.clone();
        self.spawn(async move {
            let listed = again(|| cluster.list()).await;
            Ok(listed.map_or(Done::Gone, |present| Done::Listed { present, hellos }))
        });
    }
}

/// Writes the record. What is asked for while a write is under way goes with the next one, so that many instances that leave together
/// cost few writes and none overtakes another.
async fn keep_record<C: Cluster>(
    cluster: C,
    epoch: Epoch,
    metrics: SlotsMetrics,
    mut asked: mpsc::UnboundedReceiver<(RecordChange, Done)>,
    done: mpsc::UnboundedSender<Result<Done, TermOver>>,
) {
    while let Some(first) = asked.recv().await {
        let mut all = vec![first];
        while let Ok(more) = asked.try_recv() {
            all.push(more);
        }
        let (changes, outcomes): (Vec<_>, Vec<_>) = all.into_iter().unzip();
        match change(&cluster, epoch, &changes, &metrics).await {
            Ok(()) => outcomes
                .into_iter()
                .for_each(|outcome| drop(done.send(Ok(outcome)))),
            Err(over) => drop(done.send(Err(over))),
        }
    }
}

/// Tries until it succeeds; none when the pod is gone.
async fn again<T, F>(attempt: impl Fn() -> F) -> Option<T>
where
    F: Future<Output = Result<T, PodError>>,
{
    let mut wait = RETRY.0;
    loop {
        match attempt().await {
            Ok(done) => return Some(done),
            Err(PodError::Gone) => return None,
            Err(error) => tracing::warn!("slots: {error}"),
        }
        tokio::time::sleep(wait.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
        wait = (wait * 2).min(RETRY.1);
    }
}
