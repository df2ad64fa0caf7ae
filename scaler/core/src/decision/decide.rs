//! The decision itself.

use std::time::Duration;

use jiff::Timestamp;

use super::look::Look;
use super::{Decision, GroupObservation, GroupSpec, GroupState, Now, Reason, SourceReading};

/// What the sources say together.
struct Sources {
    looks: Vec<Look>,
}

/// Decides how many instances a group should have.
pub fn decide(
    spec: &GroupSpec,
    observed: &GroupObservation,
    previous: &GroupState,
    now: Now,
) -> (Decision, GroupState) {
    // What the group has, as far as it is known. Nothing below this is safe while a source is unknown.
    let present = previous.desired.max(observed.replicas);
    let sources = Sources::look(spec, observed, present, now.wall);
    let mut state = *previous;
    let mut wake = sources.wake();

    let (desired, reason, message) = if spec.paused {
        state.busy_at = Some(now.mono);
        wake = None;
        let kept = observed.replicas.or(previous.desired);
        match kept {
            Some(kept) => (
                kept.into(),
                Reason::Paused,
                format!("paused, kept at {kept}"),
            ),
            None => (None, Reason::Unknown, no_count("paused")),
        }
    } else if let Some(unknown) = sources.first_unknown() {
        if present.is_some_and(|present| present > 0) {
            // Work may come and go unseen: when the source can be read again, the idle window starts anew.
            state.busy_at = Some(now.mono);
        }
        with_unknown(spec, observed, previous, &sources, unknown)
    } else {
        if sources.busy() || (previous.desired.is_none() && observed.replicas != Some(0)) {
            state.busy_at = Some(now.mono);
        }
        if sources.need() > 0 {
            needed(spec, sources.need(), sources.driver())
        } else {
            let idle = state.busy_at.map(|busy| now.mono.saturating_sub(busy));
            let left = idle.and_then(|idle| spec.idle_window.checked_sub(idle));
            let (outcome, until) = idle_group(spec, present, left, now.wall);
            wake = wake.into_iter().chain(until).min();
            outcome
        }
    };

    state.desired = desired.or(previous.desired);
    let decision = Decision {
        desired,
        reason,
        message,
        sources: sources.looks.into_iter().map(|look| look.result).collect(),
        at: now.wall,
        next_wake: wake,
    };
    (decision, state)
}

type Outcome = (Option<u32>, Reason, String);

/// The need of known sources, within the limits of the group.
fn needed(spec: &GroupSpec, need: u32, driver: Option<&Look>) -> Outcome {
    let (floor, cap) = (spec.always_ready, spec.cap());
    let why = driver.map_or_else(|| "no work is known".to_owned(), Look::words);
    if need > cap {
        let message = format!(
            "{why}; limited to {cap} ({floor} always ready + {} on demand)",
            spec.max_on_demand
        );
        (Some(cap), Reason::Capped, message)
    } else if need < floor {
        let message = format!("{why}; {floor} are always ready");
        (Some(floor), Reason::AlwaysReady, message)
    } else {
        let reason = driver.map_or(Reason::Backlog, |look| look.reason);
        (Some(need), reason, why)
    }
}

/// Some source is unknown: never below what is there.
fn with_unknown(
    spec: &GroupSpec,
    observed: &GroupObservation,
    previous: &GroupState,
    sources: &Sources,
    unknown: &Look,
) -> Outcome {
    let need = sources.need();
    let least = need.max(spec.always_ready).min(spec.cap());
    let problem = unknown.words();
    let Some(decided) = previous.desired else {
        // Nothing has ever been decided here. Adding instances is safe when the present count is known, all else waits.
        return match observed.replicas {
            Some(replicas) if least > replicas => needed(spec, need, sources.driver()),
            Some(_) => (None, Reason::Unknown, problem),
            None => (None, Reason::Unknown, no_count(&problem)),
        };
    };
    let present = observed
        .replicas
        .map_or(decided, |replicas| decided.max(replicas));
    if least > present {
        return needed(spec, need, sources.driver());
    }
    let kept = present.max(spec.always_ready).min(spec.cap());
    (
        Some(kept),
        Reason::HoldUnknown,
        format!("{problem}; kept at {kept}"),
    )
}

/// All sources are known and nothing is to be done. `left` is what is left of the idle window.
fn idle_group(
    spec: &GroupSpec,
    present: Option<u32>,
    left: Option<Duration>,
    wall: Timestamp,
) -> (Outcome, Option<Timestamp>) {
    let floor = spec.always_ready;
    let window = spec.idle_window.as_secs();
    let Some(present) = present else {
        return ((None, Reason::Unknown, no_count("no work")), None);
    };
    if floor > 0 {
        let message = format!("no work, {floor} are always ready");
        return ((Some(floor), Reason::AlwaysReady, message), None);
    }
    match left.filter(|left| present > 0 && spec.cap() > 0 && !left.is_zero()) {
        Some(left) => {
            let message =
                format!("no work, one instance stays through the idle window of {window} s");
            let until = wall.checked_add(left).unwrap_or(Timestamp::MAX);
            ((Some(1), Reason::IdleWindow, message), Some(until))
        }
        None => ((Some(0), Reason::Idle, "no work".to_owned()), None),
    }
}

fn no_count(words: &str) -> String {
    format!("{words}; the present count of instances is not known yet")
}

impl Sources {
    fn look(
        spec: &GroupSpec,
        observed: &GroupObservation,
        present: Option<u32>,
        wall: Timestamp,
    ) -> Self {
        let looks = spec
            .sources
            .iter()
            .map(|source| {
                let reading = observed
                    .readings
                    .get(&source.key)
                    .unwrap_or(&SourceReading::NotRead);
                Look::at(source, reading, spec.reading_max_age, present, wall)
            })
            .collect();
        Self { looks }
    }

    /// The largest known want.
    fn need(&self) -> u32 {
        self.driver()
            .and_then(|look| look.result.wants)
            .unwrap_or(0)
    }

    /// The source with the largest known want, the first of equals.
    fn driver(&self) -> Option<&Look> {
        self.looks
            .iter()
            .rev()
            .filter(|look| look.result.wants.is_some())
            .max_by_key(|look| look.result.wants)
    }

    fn first_unknown(&self) -> Option<&Look> {
        self.looks.iter().find(|look| look.result.wants.is_none())
    }

    /// Whether there is work that leaves an idle window behind: all but timers.
    fn busy(&self) -> bool {
        self.looks
            .iter()
            .any(|look| look.result.wants > Some(0) && look.reason != Reason::Timer)
    }

    fn wake(&self) -> Option<Timestamp> {
        self.looks.iter().filter_map(|look| look.wake).min()
    }
}
