//! When to poll again: pure rules, time and chance are arguments.

use std::time::{Duration, Instant};

/// How often a queue is polled.
///
/// Cost. Azure bills each request. An idle queue costs one request per poll, a queue with messages two (count and peek):
///
/// | state | pause | requests per second | per month (30 days) |
/// |---|---|---|---|
/// | idle | 500 to 900 ms, 700 ms on average | 1.4 | 3.7 million |
/// | busy or just woken | 250 ms | up to 8 | 20.7 million if busy all the time |
/// | long idle with `max_interval` of 60 s | grows to 60 s | 0.017 to 0.023 | 43 to 60 thousand |
///
/// All functions that wait for the same queue with the same credential share one poller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CadenceOptions {
    /// Pause while there are messages, and for `busy_hold` afterwards.
    pub busy: Duration,
    /// How long a queue counts as busy after its last message or after it was woken.
    pub busy_hold: Duration,
    /// Shortest pause of an idle queue.
    pub idle_min: Duration,
    /// Longest pause of an idle queue. With the time of the request it must stay below 1 s, so that a message is seen within 1 s.
    pub idle_max: Duration,
    /// Longest pause of a long idle queue. `None` (default): idle queues are never polled more slowly.
    pub max_interval: Option<Duration>,
    /// Pause after the first failure; doubles with each further one.
    pub error_min: Duration,
    /// Longest pause after failures.
    pub error_max: Duration,
}

/// With `max_interval`, the pause is the idle time divided by this: 1 s after 10 minutes, 6 s after an hour, 60 s after 10 hours. A message
/// then waits for at most about 0.2 % of the time that the queue had been idle.
const IDLE_SHARE: u32 = 600;

impl Default for CadenceOptions {
    fn default() -> Self {
        Self {
            busy: Duration::from_millis(250),
            busy_hold: Duration::from_secs(30),
            idle_min: Duration::from_millis(500),
            idle_max: Duration::from_millis(900),
            max_interval: None,
            error_min: Duration::from_secs(1),
            error_max: Duration::from_secs(30),
        }
    }
}

/// What a poll said, as far as the cadence is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// There are messages.
    Busy,
    /// There are none.
    Idle,
    /// The poll failed.
    Failed,
}

/// The pauses of one poller.
#[derive(Debug, Clone)]
pub struct Cadence {
    options: CadenceOptions,
    /// Last message, or when the poller was woken or started.
    last_busy: Instant,
    /// Whether `last_busy` is a message or a wake, not just the start.
    warm: bool,
    failures: u32,
}

impl Cadence {
    /// A poller that starts now, idle.
    pub fn new(options: CadenceOptions, now: Instant) -> Self {
        Self {
            options,
            last_busy: now,
            warm: false,
            failures: 0,
        }
    }

    /// Somebody expects messages: poll as if there were some.
    pub fn wake(&mut self, now: Instant) {
        self.last_busy = now;
        self.warm = true;
        self.failures = 0;
    }

    /// The pause until the next poll. `random` is in 0..1.
    pub fn pause(&mut self, seen: Seen, now: Instant, random: f64) -> Duration {
        match seen {
            Seen::Failed => {
                self.failures = self.failures.saturating_add(1);
                let exponent = self.failures.min(16) - 1;
                let pause = self.options.error_min.saturating_mul(1 << exponent);
                // Half of it at random, so that many pollers of a broken account do not come back together.
                pause
                    .min(self.options.error_max)
                    .mul_f64(0.5 + random / 2.0)
            }
            Seen::Busy => {
                self.failures = 0;
                self.last_busy = now;
                self.warm = true;
                self.options.busy
            }
            Seen::Idle => {
                self.failures = 0;
                let idle = now.saturating_duration_since(self.last_busy);
                if self.warm && idle < self.options.busy_hold {
                    return self.options.busy;
                }
                self.idle_pause(idle, random)
            }
        }
    }

    fn idle_pause(&self, idle: Duration, random: f64) -> Duration {
        let (min, max) = (self.options.idle_min, self.options.idle_max);
        let max = max.max(min);
        let normal = min + max.saturating_sub(min).mul_f64(random);
        let Some(limit) = self.options.max_interval else {
            return normal;
        };
        let slow = (idle / IDLE_SHARE).min(limit);
        if slow <= max {
            return normal;
        }
        slow.mul_f64(0.75 + random / 4.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn idle_is_jittered_and_below_a_second() {
        let start = Instant::now();
        let mut cadence = Cadence::new(CadenceOptions::default(), start);
        for (hours, random, expected) in [
            (0, 0.0, 500),
            (0, 0.5, 700),
            (1, 0.999_999, 899),
            (9999, 0.0, 500),
        ] {
            let pause = cadence.pause(Seen::Idle, start + ms(hours * 3_600_000), random);
            assert_eq!(pause.as_millis(), expected, "{hours} h, {random}");
        }
    }

    #[test]
    fn busy_and_woken_are_fast_for_a_while() {
        let start = Instant::now();
        let mut cadence = Cadence::new(CadenceOptions::default(), start);
        let at = |seconds: u64| start + ms(seconds * 1000);
        // (second, what happens, expected pause)
        assert_eq!(cadence.pause(Seen::Idle, at(1), 0.5), ms(700));
        assert_eq!(cadence.pause(Seen::Busy, at(2), 0.5), ms(250));
        assert_eq!(cadence.pause(Seen::Idle, at(31), 0.5), ms(250));
        assert_eq!(cadence.pause(Seen::Idle, at(32), 0.5), ms(700));
        cadence.wake(at(100));
        assert_eq!(cadence.pause(Seen::Idle, at(129), 0.5), ms(250));
        assert_eq!(cadence.pause(Seen::Idle, at(130), 0.5), ms(700));
    }

    #[test]
    fn failures_double_up_to_the_limit_and_end_with_a_success() {
        let start = Instant::now();
        let mut cadence = Cadence::new(CadenceOptions::default(), start);
        let pauses: Vec<_> = (0..8)
            .map(|_| cadence.pause(Seen::Failed, start, 1.0).as_secs())
            .collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30, 30]);
        assert_eq!(
            cadence.pause(Seen::Failed, start, 0.0),
            Duration::from_secs(15)
        );
        assert_eq!(cadence.pause(Seen::Idle, start, 0.0), ms(500));
        assert_eq!(
            cadence.pause(Seen::Failed, start, 1.0),
            Duration::from_secs(1)
        );
        for _ in 0..100_000 {
            cadence.pause(Seen::Failed, start, 1.0);
        }
        assert_eq!(
            cadence.pause(Seen::Failed, start, 1.0),
            Duration::from_secs(30)
        );
    }

    #[test]
    fn long_idle_is_slower_only_when_allowed() {
        let start = Instant::now();
        let options = CadenceOptions {
            max_interval: Some(Duration::from_mins(1)),
            ..CadenceOptions::default()
        };
        let mut cadence = Cadence::new(options, start);
        let cases = [
            (60, 1.0, 900),
            (540, 1.0, 900),
            (3600, 1.0, 6000),
            (3600, 0.0, 4500),
            (36_000, 1.0, 60_000),
            (1_000_000, 1.0, 60_000),
        ];
        for (seconds, random, expected) in cases {
            let pause = cadence.pause(Seen::Idle, start + ms(seconds * 1000), random);
            assert_eq!(pause, ms(expected), "{seconds} s");
        }
        assert_eq!(
            cadence.pause(Seen::Busy, start + ms(1_000_000_000), 1.0),
            ms(250)
        );
    }
}
