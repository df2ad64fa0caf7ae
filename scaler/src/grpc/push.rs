//! When a wake-up is pushed to KEDA.
//!
//! Every `true` on the stream makes KEDA write the ScaledObject's status and starts its cool-down anew, so it is sent on
//! the edge from inactive to active only. But KEDA drops a push that comes before it has filled the object's metric
//! names (keda `pkg/scaling/scale_handler.go`), so it is sent again until instances are seen.

use std::time::Duration;

use tokio::time::Instant;

use super::Answer;

/// Wait before the first repetition; doubled each time.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// Longest wait between repetitions.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// What to do on the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Send `true`.
    Send,
    /// Nothing.
    Wait,
    /// End the stream with OK.
    End,
}

/// The memory of one stream. `jitter` is a factor around 1 for its waits.
#[derive(Debug)]
pub(super) struct Push {
    active: bool,
    /// The group existed while the stream was open.
    existed: bool,
    /// Nothing is sent while the decision is not known.
    held: bool,
    /// Set while the group is active and no instance is seen.
    due: Option<Instant>,
    wait: Duration,
    jitter: f64,
}

impl Push {
    pub(super) fn new(jitter: f64) -> Self {
        Self {
            active: false,
            existed: false,
            held: false,
            due: None,
            wait: FIRST_WAIT,
            jitter,
        }
    }

    /// The answer at the opening of the stream and at each change.
    pub(super) fn observe(&mut self, answer: &Answer, now: Instant) -> Step {
        match answer {
            Answer::Known { desired, observed } => {
                self.existed = true;
                self.held = false;
                let edge = *desired > 0 && !self.active;
                self.active = *desired > 0;
                let unseen = self.active && !observed.is_some_and(|count| count > 0);
                if !unseen {
                    self.due = None;
                } else if edge || self.due.is_none() {
                    // New, or the instances vanished although they are wanted.
                    self.schedule(FIRST_WAIT, now);
                }
                if edge { Step::Send } else { Step::Wait }
            }
            Answer::Unknown { .. } | Answer::Paused { .. } => {
                self.existed = true;
                self.held = true;
                Step::Wait
            }
            Answer::NotFound if self.existed => Step::End,
            Answer::NotFound => Step::Wait,
        }
    }

    /// When [`Push::repeat`] is to be called.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due.filter(|_| !self.held)
    }

    /// The repetition that was due is being sent.
    pub(super) fn repeat(&mut self, now: Instant) {
        let wait = (self.wait * 2).min(LONGEST_WAIT);
        self.schedule(wait, now);
    }

    fn schedule(&mut self, wait: Duration, now: Instant) {
        self.wait = wait;
        self.due = Some(now + wait.mul_f64(self.jitter));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(desired: u32, observed: Option<u32>) -> Answer {
        Answer::Known { desired, observed }
    }

    fn unknown() -> Answer {
        Answer::Unknown {
            reason: "storage account does not answer".into(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn edges_only() {
        let now = Instant::now();
        let mut push = Push::new(1.0);
        let sequence = [
            (known(0, Some(0)), Step::Wait),
            (known(3, Some(0)), Step::Send),
            (known(4, Some(0)), Step::Wait),
            (known(4, Some(1)), Step::Wait),
            (known(9, Some(4)), Step::Wait),
            (known(0, Some(9)), Step::Wait),
            (known(1, Some(0)), Step::Send),
            (unknown(), Step::Wait),
            (known(2, Some(0)), Step::Wait),
            (known(0, Some(0)), Step::Wait),
            (unknown(), Step::Wait),
            (known(1, Some(0)), Step::Send),
        ];
        for (n, (answer, step)) in sequence.into_iter().enumerate() {
            assert_eq!(push.observe(&answer, now), step, "{n}: {answer:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn active_at_the_opening_is_an_edge() {
        let now = Instant::now();
        assert_eq!(Push::new(1.0).observe(&known(1, Some(1)), now), Step::Send);
        assert_eq!(Push::new(1.0).observe(&known(0, Some(1)), now), Step::Wait);
        assert_eq!(Push::new(1.0).observe(&unknown(), now), Step::Wait);
    }

    #[tokio::test(start_paused = true)]
    async fn repeated_with_growing_waits_until_instances_are_seen() {
        let start = Instant::now();
        let mut push = Push::new(1.0);
        assert_eq!(push.observe(&known(1, None), start), Step::Send);
        let mut waits = Vec::new();
        let mut now = start;
        for _ in 0..8 {
            let due = push.due().unwrap();
            waits.push((due - now).as_secs());
            now = due;
            push.repeat(now);
            // More work does not change the rhythm.
            assert_eq!(push.observe(&known(2, Some(0)), now), Step::Wait);
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30, 30]);
        assert_eq!(push.observe(&known(2, Some(1)), now), Step::Wait);
        assert_eq!(push.due(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn instances_that_vanish_are_asked_for_again() {
        let now = Instant::now();
        let mut push = Push::new(1.0);
        push.observe(&known(2, Some(2)), now);
        assert_eq!(push.due(), None);
        assert_eq!(push.observe(&known(2, Some(0)), now), Step::Wait);
        assert_eq!(push.due(), Some(now + FIRST_WAIT));
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_repeated_while_unknown_or_inactive() {
        let now = Instant::now();
        let mut push = Push::new(1.0);
        push.observe(&known(1, Some(0)), now);
        push.observe(&unknown(), now);
        assert_eq!(push.due(), None);
        push.observe(&known(1, Some(0)), now);
        assert_eq!(push.due(), Some(now + FIRST_WAIT));
        push.observe(&known(0, Some(0)), now);
        assert_eq!(push.due(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_of_a_group_ends_the_stream_but_its_absence_at_the_opening_does_not() {
        let now = Instant::now();
        let mut push = Push::new(1.0);
        assert_eq!(push.observe(&Answer::NotFound, now), Step::Wait);
        assert_eq!(push.observe(&known(0, None), now), Step::Wait);
        assert_eq!(push.observe(&Answer::NotFound, now), Step::End);
    }
}
