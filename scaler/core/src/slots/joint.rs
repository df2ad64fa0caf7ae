//! What all front ends together had to do at one moment, from what each of them saw of its own requests.
//!
//! Load moves between front ends, so that the sum of their highest values is far above what ever ran. Each front end samples itself every
//! [`GRID_MS`]; the samples are placed by age on one grid. Clocks are not compared, and messages take their time: two rows of the grid may be
//! shifted against each other by one or two points. A request that moves from one front end to another may stand in both or in none of them
//! there. So single points are never summed for a decision. What is taken is the highest of three values that a shift cannot raise:
//!
//! * the mean over [`MEAN_POINTS`]: a shift only matters at both ends. Of requests that are shorter than the grid, the samples of two front ends are of
//!   different moments, and the mean may be too high or too low by a few;
//! * the sum of what each front end had at least over [`STEADY_POINTS`]: more than that ran at every moment that these have in common;
//! * the value of a single front end.
//!
//! Bursts of requests shorter than [`STEADY_POINTS`] that are spread over several front ends may be higher than all three. These wait for slots
//! when the instances are too few, and waiting requests count at once.

use std::collections::{BTreeMap, VecDeque};

use super::message::{FrontEndId, GroupDemand};

/// Distance between two samples in milliseconds.
pub const GRID_MS: u64 = 20;
/// Samples in one report at most: more than a report interval has.
pub const MOST_SAMPLES: usize = 64;
/// Points of the mean, 2 s: of short requests, samples of different front ends are of different moments, and this many make up for it.
pub const MEAN_POINTS: usize = 100;
/// Points over which a front end has to have a value for it to count beside that of others, 140 ms: far more than two rows are shifted.
pub const STEADY_POINTS: u64 = 7;
/// Age of the newest point that is summed: reports come every second at the latest.
pub const LAG_MS: u64 = 1_500;
/// How long it takes until everything that is counted has been seen.
pub const SEEN_AFTER_MS: u64 = LAG_MS + MEAN_POINTS as u64 * GRID_MS;

/// Points that a row keeps at most; what is older has been summed.
const KEPT: u64 = 256;

/// The samples of one front end; those before the first are 0, those after the last are what it had when it reported them.
#[derive(Clone, Debug, Default)]
struct Row {
    first: u64,
    values: VecDeque<u32>,
    last: u32,
}

impl Row {
    fn end(&self) -> u64 {
        self.first + self.values.len() as u64
    }

    fn at(&self, point: u64) -> u32 {
        match point.checked_sub(self.first) {
            None => 0,
            Some(place) => usize::try_from(place)
                .ok()
                .and_then(|place| self.values.get(place))
                .copied()
                .unwrap_or(self.last),
        }
    }

    /// Puts samples so that they end before point `end`; from then on it is `level`.
    fn put(&mut self, samples: &[u32], level: u32, end: u64) {
        let samples = &samples[samples.len().saturating_sub(MOST_SAMPLES)..];
        let start = end.saturating_sub(samples.len() as u64);
        if self.values.is_empty() && self.last == 0 {
            self.first = start;
        }
        if start.saturating_sub(self.end()) > KEPT {
            self.values.clear();
            self.first = start - KEPT;
        }
        while self.end() < start {
            self.values.push_back(self.last);
        }
        // What a report says again replaces what was said before.
        let keep = start.saturating_sub(self.first);
        self.values
            .truncate(usize::try_from(keep).unwrap_or(usize::MAX));
        self.first = self.first.min(start);
        self.values.extend(samples);
        self.last = level;
        self.forget(self.end().saturating_sub(KEPT));
    }

    fn forget(&mut self, before: u64) {
        while self.first < before && self.values.pop_front().is_some() {
            self.first += 1;
        }
    }

    fn is_quiet(&self) -> bool {
        self.values.is_empty() && self.last == 0
    }
}

/// The samples of one group.
#[derive(Clone, Debug, Default)]
pub struct Joint {
    rows: BTreeMap<FrontEndId, Row>,
    /// The next point to be summed; none before the first.
    next: Option<u64>,
    /// Sums of the last points.
    sums: VecDeque<u64>,
    /// Sum of `sums`.
    total: u64,
    last: u32,
}

impl Joint {
    /// Takes in what a front end has just reported. `now_ms` never goes back.
    pub fn put(&mut self, from: FrontEndId, report: &GroupDemand, now_ms: u64) {
        let level = report.waiting.saturating_add(report.busy);
        let row = self.rows.entry(from).or_default();
        row.put(&report.samples, level, now_ms / GRID_MS + 1);
    }

    /// Sums the points that have become old enough, over the front ends of which `counts` is true; the others are forgotten. The highest of the new
    /// points, or the newest one when none is new.
    pub fn advance(&mut self, now_ms: u64, counts: impl Fn(FrontEndId) -> bool) -> u32 {
        let limit = now_ms.saturating_sub(LAG_MS) / GRID_MS;
        let next = self.next.replace(limit).unwrap_or(limit);
        if next >= limit {
            self.next = Some(next);
            return self.last;
        }
        self.rows.retain(|id, _| counts(*id));
        // After a long pause only what still counts is looked at.
        let first = next.max(limit.saturating_sub(2 * MEAN_POINTS as u64));
        if self.rows.is_empty() && self.total == 0 {
            self.last = 0;
            return 0;
        }
        let mut highest = 0;
        for point in first..limit {
            self.last = self.sum(point);
            highest = highest.max(self.last);
        }
        for row in self.rows.values_mut() {
            row.forget((limit + 1).saturating_sub(STEADY_POINTS));
        }
        self.rows.retain(|_, row| !row.is_quiet());
        highest
    }

    /// What the newest point that was summed says.
    pub fn last(&self) -> u32 {
        self.last
    }

    fn sum(&mut self, point: u64) -> u32 {
        let since = (point + 1).saturating_sub(STEADY_POINTS);
        let (mut sum, mut steady, mut single) = (0, 0, 0);
        for row in self.rows.values() {
            let value = u64::from(row.at(point));
            let least = (since..point).map(|p| u64::from(row.at(p))).min();
            sum += value;
            steady += least.map_or(value, |least| least.min(value));
            single = single.max(value);
        }
        self.sums.push_back(sum);
        self.total += sum;
        if self.sums.len() > MEAN_POINTS {
            self.total -= self.sums.pop_front().unwrap_or(0);
        }
        // What was not seen counts as 0: nobody decides for less before everything has been seen.
        let points = MEAN_POINTS as u64;
        let mean = (self.total + points / 2) / points;
        u32::try_from(mean.max(steady).max(single)).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
#[path = "joint/tests.rs"]
mod tests;
