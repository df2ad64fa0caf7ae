//! How long the instances of a group take to start, learned by watching.

use super::metrics::EngineMetrics;
use jiff::Timestamp;
use maniple_core::decision::Now;
use maniple_core::timer::StartTimes;
use std::time::Duration;

/// The starts of one group. Kept in memory only.
#[derive(Debug, Default)]
pub(super) struct Starts {
    times: StartTimes,
    /// When it was decided to leave zero, on the clock that never goes back; `None` when nothing is starting.
    since: Option<Duration>,
    ready_since: Option<Timestamp>,
}

impl Starts {
    /// How long before a due time to wake.
    pub(super) fn lead(&self) -> Duration {
        self.times.lead()
    }

    /// Since when an instance has been ready without a break.
    pub(super) fn ready_since(&self) -> Option<Timestamp> {
        self.ready_since
    }

    /// Looks at the ready instances.
    pub(super) fn saw_ready(&mut self, ready: u32, now: Now, metrics: &EngineMetrics) {
        if ready == 0 {
            self.ready_since = None;
            return;
        }
        self.ready_since.get_or_insert(now.wall);
        if let Some(since) = self.since.take() {
            let took = now.mono.saturating_sub(since);
            self.times.record(took);
            metrics.starts.observe(took.as_secs_f64());
        }
    }

    /// Looks at a decision. A start is measured only from zero: further instances find the image on the node.
    pub(super) fn decided(&mut self, before: Option<u32>, desired: Option<u32>, now: Now) {
        match desired {
            Some(0) => self.since = None,
            Some(_) if before == Some(0) && self.ready_since.is_none() => {
                self.since.get_or_insert(now.mono);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Now {
        Now::at(Timestamp::from_second(seconds).unwrap())
    }

    #[test]
    fn a_start_from_zero_is_learned() {
        let metrics = EngineMetrics::default();
        let mut starts = Starts::default();
        assert_eq!(starts.lead(), StartTimes::UNKNOWN);
        starts.decided(Some(0), Some(1), at(100));
        starts.decided(Some(1), Some(5), at(102));
        starts.saw_ready(1, at(104), &metrics);
        assert_eq!(
            starts.lead(),
            Duration::from_secs(6),
            "4 s, a quarter, and one second"
        );
        assert_eq!(starts.ready_since(), Timestamp::from_second(104).ok());
        starts.saw_ready(2, at(110), &metrics);
        assert_eq!(starts.ready_since(), Timestamp::from_second(104).ok());
    }

    #[test]
    fn a_start_that_was_called_off_and_a_growth_are_not() {
        let metrics = EngineMetrics::default();
        let mut starts = Starts::default();
        starts.decided(Some(0), Some(1), at(100));
        starts.decided(Some(1), Some(0), at(101));
        starts.saw_ready(1, at(200), &metrics);
        starts.decided(Some(1), Some(4), at(201));
        starts.saw_ready(4, at(300), &metrics);
        assert_eq!(starts.lead(), StartTimes::UNKNOWN);
        starts.saw_ready(0, at(301), &metrics);
        assert_eq!(starts.ready_since(), None);
    }
}
