//! One group: what is declared, what is seen of it, and what was decided.

use super::count::Released;
use super::feed::Feeds;
use super::forward::Forwarder;
use super::input::Input;
use super::metrics::EngineMetrics;
use super::starts::Starts;
use super::timer::Around;
use crate::index::GroupPlan;
use maniple_core::decision::{
    Decision, GroupObservation, GroupSpec, GroupState, Now, Reason, SourceKind, SourceReading,
    SourceResult, decide,
};
use std::sync::Arc;
use std::time::Duration;

/// A group that is decided here.
pub(super) struct Group {
    pub(super) plan: Arc<GroupPlan>,
    /// Empty unless this process leads. Otherwise one for each source of the plan.
    inputs: Vec<Input>,
    state: GroupState,
    /// The last decision that said something new.
    pub(super) decision: Option<Arc<Decision>>,
    pub(super) starts: Starts,
    /// Only used by groups whose instances leave by their slots.
    pub(super) released: Released,
}

/// What came of looking at a group.
pub(super) struct Outcome {
    /// Whether the decision differs from the last one by its number or reason.
    pub(super) turned: bool,
    /// When to look again, although nothing new may be seen, on the clock that never goes back.
    pub(super) wake: Option<Duration>,
    /// Whether a source has just begun to refuse the credential.
    pub(super) refused: bool,
}

impl Group {
    pub(super) fn new(plan: Arc<GroupPlan>) -> Self {
        Self {
            plan,
            inputs: Vec::new(),
            state: GroupState::default(),
            decision: None,
            starts: Starts::default(),
            released: Released::default(),
        }
    }

    /// Takes a new plan. Inputs that are still wanted go on.
    pub(super) fn replan(&mut self, plan: Arc<GroupPlan>) {
        self.plan = plan;
    }

    /// Opens what the plan wants and closes what it does not want any more.
    pub(super) fn open(&mut self, feeds: &dyn Feeds, forwarder: &Forwarder) {
        let mut before = std::mem::take(&mut self.inputs);
        self.inputs = self
            .plan
            .inputs
            .iter()
            .map(
                |plan| match before.iter().position(|input| input.plan == *plan) {
                    Some(index) => before.swap_remove(index),
                    None => Input::open(plan, feeds, forwarder),
                },
            )
            .collect();
    }

    /// Ends all reading.
    pub(super) fn close(&mut self) {
        self.inputs.clear();
    }

    /// Begins to decide where another process stopped. Its number stands until something else is known; the idle window
    /// starts anew, because nobody knows when the last work was seen.
    pub(super) fn take_over(&mut self, decision: Option<Arc<Decision>>, now: Now) {
        let desired = decision.as_ref().and_then(|decision| decision.desired);
        self.state = GroupState {
            desired,
            busy_at: desired.map(|_| now.mono),
        };
        self.decision = decision;
    }

    /// True when a reading has become too old although nothing said so.
    pub(super) fn is_stale(&self) -> bool {
        self.inputs.iter().any(Input::is_stale)
    }

    /// Decides. `replicas`: the instances that serve or will, when their number is known.
    pub(super) fn compute(
        &mut self,
        replicas: Option<u32>,
        demand: Option<&SourceReading>,
        now: Now,
        metrics: &EngineMetrics,
    ) -> Outcome {
        let around = Around {
            lead: self.starts.lead(),
            ready_since: self.starts.ready_since(),
            now: now.wall,
        };
        let mut observed = GroupObservation {
            replicas,
            ..GroupObservation::default()
        };
        let plan = Arc::clone(&self.plan);
        let mut learned: Option<GroupSpec> = None;
        let mut recheck: Option<Duration> = None;
        let mut refused = false;
        for (index, input) in self.inputs.iter_mut().enumerate() {
            let source = &plan.spec.sources[index];
            let said = input.read(&source.kind, around, metrics);
            let reading = match (&source.kind, demand) {
                (SourceKind::Http { .. }, Some(demand)) => demand.clone(),
                _ => said.reading,
            };
            observed.readings.insert(source.key.clone(), reading);
            if let Some(target) = said.target {
                let spec = learned.get_or_insert_with(|| plan.spec.clone());
                spec.sources[index].kind = SourceKind::StorageQueue { target };
            }
            recheck = recheck.into_iter().chain(said.recheck).min();
            refused |= said.refused;
        }
        let spec = learned.as_ref().unwrap_or(&plan.spec);

        // What the last decision said was so until this very moment: only changes are heard of. The window begins now.
        if self.decision.as_deref().is_some_and(holds_window) && self.state.desired.is_some() {
            self.state.busy_at = Some(now.mono);
        }
        let (decision, state) = decide(spec, &observed, &self.state, now);
        metrics.computations.inc();
        self.starts
            .decided(self.state.desired, decision.desired, now);
        self.state = state;
        let until = |at| Duration::try_from(now.wall.duration_until(at)).unwrap_or_default();
        let wake = decision
            .next_wake
            .map(until)
            .into_iter()
            .chain(recheck)
            .min();
        let before = self.decision.as_deref();
        let turned =
            before.map(|b| (b.desired, b.reason)) != Some((decision.desired, decision.reason));
        let new = turned
            || before.map(|b| (&b.message, &b.sources))
                != Some((&decision.message, &decision.sources));
        if new {
            self.decision = Some(Arc::new(decision));
        }
        Outcome {
            turned,
            wake: wake.and_then(|wait| now.mono.checked_add(wait)),
            refused,
        }
    }
}

/// Whether the idle window cannot begin while this decision is in force: there is work other than that of timers, or there
/// may be, because a source cannot be read or the group is paused.
fn holds_window(decision: &Decision) -> bool {
    let working = |source: &SourceResult| {
        source.wants > Some(0) && !source.trigger.eq_ignore_ascii_case("timerTrigger")
    };
    match decision.reason {
        Reason::HoldUnknown | Reason::Paused => decision.desired > Some(0),
        _ => decision.sources.iter().any(working),
    }
}
