//! Requests that come while no instance can serve: what they waited for.
//!
//! Times of the scaler come as ages, so that no two clocks are compared.

use std::{fmt::Write as _, time::Duration};

use http::HeaderValue;
use parking_lot::Mutex;
use tokio::time::Instant;

/// What a cold start consists of, in this order.
///
/// * `decision`: until the scaler wanted an instance.
/// * `pod`: until Kubernetes had made a pod for it.
/// * `address`: until the pod had an address and this front end knew it.
/// * `answer`: until the instance answered there.
/// * `dispatch`: until the request was sent.
pub const PHASES: [&str; 5] = ["decision", "pod", "address", "answer", "dispatch"];

/// How long ago it was, when the message about an instance was sent, that …
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StartAges {
    /// … it was decided to have one more instance; none when somebody else decides that.
    pub decided: Option<Duration>,
    /// … the scaler first saw its pod.
    pub seen: Duration,
    /// … the scaler first saw the address of the pod.
    pub addressed: Duration,
}

/// The start of one instance, as this front end knows it.
#[derive(Debug)]
pub(crate) struct Start(Mutex<Times>);

#[derive(Clone, Copy, Debug)]
struct Times {
    /// When the instance became known here.
    known: Instant,
    decided: Option<Instant>,
    seen: Option<Instant>,
    answered: Option<Instant>,
    logged: bool,
}

impl Start {
    pub(crate) fn new(known: Instant) -> Self {
        Self(Mutex::new(Times {
            known,
            decided: None,
            seen: None,
            answered: None,
            logged: false,
        }))
    }

    /// The scaler told how it went on its side; `now` is when it was heard.
    pub(crate) fn told(&self, ages: &StartAges, now: Instant) {
        let mut times = self.0.lock();
        times.decided = ages.decided.and_then(|age| now.checked_sub(age));
        times.seen = now.checked_sub(ages.seen);
    }

    /// The instance answered at its address.
    pub(crate) fn answered(&self, now: Instant) {
        self.0.lock().answered = Some(now);
    }

    /// Whether nobody asked before: a start is logged once, however many requests waited for it.
    pub(crate) fn log_once(&self) -> bool {
        !std::mem::replace(&mut self.0.lock().logged, true)
    }

    /// The wait of a request from `began` until now. What happened before it came costs it nothing, and the phases add up to the wait.
    pub(crate) fn phases(&self, began: Instant, now: Instant) -> Phases {
        let times = *self.0.lock();
        // Without news of the scaler, what is not known belongs to the phase after it.
        let ends = [
            times.decided,
            times.seen,
            Some(times.known),
            times.answered,
            Some(now),
        ];
        let mut before = began;
        Phases(ends.map(|end| {
            let end = end.unwrap_or(before).clamp(before, now.max(before));
            let took = end - before;
            before = end;
            took
        }))
    }
}

/// How long each of the [`PHASES`] took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Phases([Duration; PHASES.len()]);

impl Phases {
    /// In the order of [`PHASES`].
    pub fn durations(&self) -> [Duration; PHASES.len()] {
        self.0
    }

    /// All together.
    pub fn total(&self) -> Duration {
        self.0.iter().sum()
    }

    /// As the response header `server-timing`, in milliseconds.
    pub(crate) fn server_timing(&self) -> HeaderValue {
        let mut text = format!("cold-start;dur={:.1}", milliseconds(self.total()));
        for (phase, took) in PHASES.iter().zip(self.0) {
            write!(text, ", {phase};dur={:.1}", milliseconds(took))
                .expect("writing to a String cannot fail");
        }
        HeaderValue::from_str(&text).expect("words and numbers are a valid value")
    }
}

/// To a microsecond: more digits say nothing.
pub(crate) fn milliseconds(time: Duration) -> f64 {
    time.as_micros() as f64 / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn the_phases_add_up_to_the_wait() {
        let zero = Instant::now();
        let at = |ms: u32| zero + MS * ms;
        // (request came, instance known, ages told with it, answered, slot), expected phases in ms.
        let ages = |decided: Option<u32>, seen: u32, addressed: u32| StartAges {
            decided: decided.map(|ms| MS * ms),
            seen: MS * seen,
            addressed: MS * addressed,
        };
        let cases = [
            // From zero: decided at 2, pod at 20, address at 300.
            (
                (0, 301, ages(Some(299), 281, 1), 305, 306),
                [2, 18, 281, 4, 1],
            ),
            // It came while the pod started.
            (
                (100, 301, ages(Some(299), 281, 1), 305, 306),
                [0, 0, 201, 4, 1],
            ),
            // It came when the instance was nearly there.
            (
                (304, 301, ages(Some(299), 281, 1), 305, 306),
                [0, 0, 0, 1, 1],
            ),
            // Somebody else decides.
            ((0, 301, ages(None, 281, 1), 305, 306), [0, 20, 281, 4, 1]),
            // An age that cannot be: the start of the process is the limit.
            (
                (0, 301, ages(Some(u32::MAX), 281, 1), 305, 306),
                [0, 20, 281, 4, 1],
            ),
        ];
        for ((came, known, ages, answered, slot), expected) in cases {
            let start = Start::new(at(known));
            start.told(&ages, at(known));
            start.answered(at(answered));
            let phases = start.phases(at(came), at(slot));
            assert_eq!(phases.durations(), expected.map(|ms| MS * ms), "{came}");
            assert_eq!(phases.total(), at(slot) - at(came), "{came}");
        }
    }

    #[test]
    fn without_news_of_the_scaler_the_address_takes_all_before_it() {
        let zero = Instant::now();
        let start = Start::new(zero + MS * 300);
        let phases = start.phases(zero, zero + MS * 310);
        assert_eq!(phases.durations(), [0, 0, 300, 0, 10].map(|ms| MS * ms));
        assert_eq!(
            phases.server_timing(),
            "cold-start;dur=310.0, decision;dur=0.0, pod;dur=0.0, address;dur=300.0, answer;dur=0.0, dispatch;dur=10.0"
        );
        assert!(start.log_once() && !start.log_once());
    }
}
