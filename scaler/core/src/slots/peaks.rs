//! The highest demand of the last while.

use std::collections::VecDeque;

/// How far scale-in looks back. Long enough for a lull between two bursts, shorter than the start of a new instance is worth.
pub const WINDOW_MS: u64 = 30_000;

/// A sliding maximum: values that can still become the maximum, in falling order.
#[derive(Debug, Default)]
pub struct Peaks(VecDeque<(u64, u32)>);

impl Peaks {
    /// Adds a value; the maximum of the window. `now_ms` never goes back.
    pub fn put(&mut self, value: u32, now_ms: u64) -> u32 {
        while self.0.back().is_some_and(|(_, last)| *last <= value) {
            self.0.pop_back();
        }
        self.0.push_back((now_ms, value));
        while self
            .0
            .front()
            .is_some_and(|(at, _)| at + WINDOW_MS <= now_ms)
        {
            self.0.pop_front();
        }
        self.0.front().map_or(value, |(_, peak)| *peak)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peak_counts_for_one_window() {
        let mut peaks = Peaks::default();
        let seen: Vec<_> = [
            (0, 3),
            (1_000, 9),
            (2_000, 4),
            (20_000, 5),
            (30_999, 0),
            (31_000, 0),
            (49_999, 1),
            (50_000, 1),
            (80_000, 0),
        ]
        .map(|(at, value)| peaks.put(value, at))
        .into();
        assert_eq!(seen, [3, 9, 9, 9, 9, 5, 5, 1, 0]);
    }
}
