//! What may become of a request, and what may not.

use std::fmt;
use std::time::Duration;

use anyhow::{Result, bail};
use e2e::suite::load::{Outcome, Sent};

use super::faults::{Fault, Kind};
use super::scene::HttpApp;

/// A killed process is known to the suite a little before or after it dies.
const SLACK: Duration = Duration::from_secs(1);
/// Until a killed front end is no longer among the doors.
const FORGOTTEN: Duration = Duration::from_secs(8);

/// Counts of one phase.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    answered: usize,
    left: usize,
    with_the_dead: usize,
    not_sent: usize,
    problems: Vec<String>,
    problem_count: usize,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} answered, {} left by their clients, {} with a killed process, {} not sent to a killed front end, {} wrong",
            self.answered, self.left, self.with_the_dead, self.not_sent, self.problem_count
        )
    }
}

impl Verdict {
    /// Fails when there was a problem, with the first ones.
    pub(super) fn require(&self) -> Result<()> {
        if self.problem_count == 0 {
            return Ok(());
        }
        bail!("{self}:\n  {}", self.problems.join("\n  "))
    }

    fn problem(&mut self, text: String) {
        self.problem_count += 1;
        if self.problems.len() < 10 {
            self.problems.push(text);
        }
    }
}

/// Looks at every request of a phase in which these faults happened.
pub(super) fn judge(app: &HttpApp, sent: &[Sent], faults: &[Fault]) -> Verdict {
    let mut verdict = Verdict::default();
    for one in sent {
        match &one.outcome {
            Outcome::Left => verdict.left += 1,
            Outcome::Answered {
                status: 200,
                instance: Some(instance),
                in_flight,
                ..
            } => {
                verdict.answered += 1;
                if in_flight.is_none_or(|count| count > app.concurrency) {
                    verdict.problem(format!(
                        "{instance} had {in_flight:?} requests at a time instead of {}",
                        app.concurrency
                    ));
                }
            }
            // The instance died with it.
            Outcome::Answered {
                status: 502, own, ..
            } if own.contains("instance-lost")
                && faults.iter().any(|fault| fault.ended_instance_of(app, one)) =>
            {
                verdict.with_the_dead += 1;
            }
            Outcome::Broken(_) if faults.iter().any(|f| f.ended_front_end_of(one, SLACK)) => {
                verdict.with_the_dead += 1;
            }
            Outcome::NotSent(_) if faults.iter().any(|f| f.ended_front_end_of(one, FORGOTTEN)) => {
                verdict.not_sent += 1;
            }
            other => verdict.problem(format!(
                "through {} after {:.1} s: {other:?}",
                one.door,
                one.ended.duration_since(one.started).as_secs_f64()
            )),
        }
    }
    verdict
}

impl Fault {
    /// Whether it killed the front end to which the request went, at most `before` its client began.
    fn ended_front_end_of(&self, one: &Sent, before: Duration) -> bool {
        self.kind == Kind::KillFront
            && self.victim == one.door
            && self.at <= one.ended + SLACK
            && self.at + before >= one.started
    }

    /// Whether it killed an instance of the app while the request was under way.
    fn ended_instance_of(&self, app: &HttpApp, one: &Sent) -> bool {
        self.kind == Kind::KillInstance
            && self.app == app.name
            && self.at <= one.ended + SLACK
            && self.at + SLACK >= one.started
    }
}
