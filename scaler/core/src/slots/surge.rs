//! Whether more requests wait than the instances that are there can be meant to take.
//!
//! A request waits at one front end beside a slot that is free at another until that one was asked, and a request that has just ended is still in the
//! last report of its front end. So for a moment more seems to be needed than there is. It is believed by its area: requests too many times
//! their time.

use std::collections::VecDeque;

/// How far back requests that are too many count, in milliseconds.
const WINDOW_MS: u64 = 100;
/// Requests too many times milliseconds that are believed: one for 50 ms, ten for 5 ms. A slot moves in some milliseconds.
const BELIEVED: u64 = 50;

/// Requests too many, over time.
#[derive(Clone, Debug, Default)]
pub struct Surge {
    /// From when on there were how many.
    steps: VecDeque<(u64, u32)>,
}

impl Surge {
    /// There are `excess` requests too many from now on. Whether that is believed. `now_ms` never goes back.
    pub fn put(&mut self, excess: u32, now_ms: u64) -> bool {
        if self.steps.back().map_or(0, |(_, last)| *last) != excess {
            self.steps.push_back((now_ms, excess));
        }
        let since = now_ms.saturating_sub(WINDOW_MS);
        while self.steps.get(1).is_some_and(|(at, _)| *at <= since) {
            self.steps.pop_front();
        }
        if let [(_, 0)] = self.steps.make_contiguous() {
            self.steps.clear();
        }
        excess > 0 && self.area(now_ms) >= BELIEVED
    }

    /// In how many milliseconds it will be believed if nothing changes; none when nothing is too many.
    pub fn believed_in_ms(&self, now_ms: u64) -> Option<u64> {
        let (_, excess) = self.steps.back().filter(|(_, excess)| *excess > 0)?;
        let missing = BELIEVED.saturating_sub(self.area(now_ms));
        Some(missing.div_ceil(u64::from(*excess)))
    }

    fn area(&self, now_ms: u64) -> u64 {
        let since = now_ms.saturating_sub(WINDOW_MS);
        let ends = self.steps.iter().skip(1).map(|(at, _)| *at);
        let ends = ends.chain([now_ms]);
        let steps = self.steps.iter().zip(ends);
        steps
            .map(|((from, excess), to)| {
                let time = to.saturating_sub((*from).max(since));
                time.saturating_mul(u64::from(*excess))
            })
            .fold(0, u64::saturating_add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_too_many_is_believed_after_a_while_and_many_at_once() {
        for (excess, after) in [(1, 50), (2, 25), (10, 5), (50, 1)] {
            let mut surge = Surge::default();
            assert!(!surge.put(excess, 1_000));
            assert_eq!(surge.believed_in_ms(1_000), Some(after));
            assert!(!surge.put(excess, 1_000 + after - 1));
            assert!(surge.put(excess, 1_000 + after));
        }
    }

    #[test]
    fn what_passes_is_not_believed() {
        let mut surge = Surge::default();
        for now in (0..10_000).step_by(10) {
            // Slots that move: one request too many for 4 ms of 10.
            assert!(!surge.put(1, now), "{now}");
            assert!(!surge.put(0, now + 4), "{now}");
        }
        assert_eq!(surge.believed_in_ms(10_000), None);
        assert!(!surge.put(0, 20_000));
        assert!(surge.steps.is_empty());
    }
}
