//! How pods of instances came to be, so that front ends can tell what a cold start waited for.

use std::time::Duration;

use maniple_front::cold::StartAges;
use tokio::time::Instant;

/// The start of one pod, by this process's clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct PodStart {
    decided: Option<Instant>,
    seen: Instant,
    addressed: Option<Instant>,
}

impl PodStart {
    /// A pod that is seen for the first time. `decided` is when more instances were last wanted than before.
    pub(super) fn new(decided: Option<Instant>) -> Self {
        Self {
            decided,
            seen: Instant::now(),
            addressed: None,
        }
    }

    /// It has an address now. One that had it when it was first seen did not start before our eyes.
    pub(super) fn addressed(&mut self) {
        self.addressed.get_or_insert_with(Instant::now);
    }

    /// How long ago all that was; none while there is no address.
    pub(super) fn ages(&self) -> Option<StartAges> {
        let age = |since: Instant| -> Duration { since.elapsed() };
        Some(StartAges {
            decided: self.decided.map(age),
            seen: age(self.seen),
            addressed: age(self.addressed?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn ages_count_from_each_step() {
        let pause = |ms| tokio::time::advance(Duration::from_millis(ms));
        let decided = Instant::now();
        pause(20).await;
        let mut start = PodStart::new(Some(decided));
        assert_eq!(start.ages(), None);
        pause(300).await;
        start.addressed();
        pause(5).await;
        start.addressed();
        let ms = Duration::from_millis;
        let expected = StartAges {
            decided: Some(ms(325)),
            seen: ms(305),
            addressed: ms(5),
        };
        assert_eq!(start.ages(), Some(expected));
    }
}
