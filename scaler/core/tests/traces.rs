//! Requests of an HTTP group over time, and the counts that follow.

use std::num::NonZeroU32;
use std::time::Duration;

use jiff::Timestamp;
use maniple_core::decision::{
    GroupObservation, GroupSpec, GroupState, Now, SourceKind, SourceReading, SourceSpec, decide,
};
use maniple_core::slots::peaks::Peaks;

/// What happens at a second: so many requests run and wait from now on. A negative number: as many, but a front end is silent.
type Requests = (u64, i64);
/// The count from a second on.
type Count = (u64, u32);

struct Trace {
    what: &'static str,
    /// Requests that one instance gets at a time.
    concurrency: u32,
    always_ready: u32,
    max_on_demand: u32,
    requests: Vec<Requests>,
    /// Seconds.
    length: u64,
}

impl Trace {
    fn new(what: &'static str, concurrency: u32, requests: &[Requests], length: u64) -> Self {
        Self {
            what,
            concurrency,
            always_ready: 0,
            max_on_demand: 100,
            requests: requests.to_vec(),
            length,
        }
    }

    /// Every change of the count. Instances are there at once: what the decision does must not depend on how fast they are.
    fn counts(&self) -> Vec<Count> {
        let kind = SourceKind::Http {
            concurrency: NonZeroU32::new(self.concurrency).expect("a concurrency is above 0"),
        };
        let spec = GroupSpec {
            always_ready: self.always_ready,
            max_on_demand: self.max_on_demand,
            idle_window: GroupSpec::IDLE_WINDOW,
            reading_max_age: GroupSpec::READING_MAX_AGE,
            paused: false,
            sources: vec![SourceSpec {
                key: "h".to_owned(),
                function: "h".to_owned(),
                kind,
                instance_cap: None,
            }],
        };
        let start: Timestamp = "2026-06-01T00:00:00Z".parse().expect("a time");
        let (mut peaks, mut state) = (Peaks::default(), GroupState::default());
        let mut replicas = 0;
        let (mut now_requests, mut complete) = (0, true);
        let mut counts = Vec::new();
        let mut next = self.requests.iter().peekable();
        for second in 0..self.length {
            if let Some((_, requests)) = next.next_if(|(at, _)| *at == second) {
                now_requests = u32::try_from(requests.unsigned_abs()).expect("a small number");
                complete = *requests >= 0;
            }
            let reading = SourceReading::Demand {
                current: now_requests.into(),
                peak: peaks.put(now_requests, second * 1_000).into(),
                complete,
            };
            let observed = GroupObservation {
                replicas: Some(replicas),
                readings: [("h".to_owned(), reading)].into(),
            };
            let now = Now::at(start + Duration::from_secs(second));
            let (decision, next_state) = decide(&spec, &observed, &state, now);
            state = next_state;
            let desired = decision.desired.expect("everything is known");
            if desired != replicas || second == 0 {
                counts.push((second, desired));
                replicas = desired;
            }
        }
        assert!(next.peek().is_none(), "{}: it ends too early", self.what);
        counts
    }
}

/// 10 and 20 requests in turn, 5 s each.
fn saw() -> Vec<Requests> {
    (0..24)
        .map(|i| (i * 5, if i % 2 == 0 { 10 } else { 20 }))
        .collect()
}

#[test]
fn counts_follow_requests() {
    let cases: Vec<(Trace, Vec<Count>)> = vec![
        (
            Trace::new("one short request", 1, &[(3, 1), (4, 0)], 200),
            // Last seen at 3 and held until 32; the idle window of 60 s begins there.
            vec![(0, 0), (3, 1), (92, 0)],
        ),
        (
            Trace::new(
                "exact division",
                4,
                &[(0, 1), (1, 4), (2, 5), (3, 8), (4, 9), (5, 12), (6, 13)],
                20,
            ),
            vec![(0, 1), (2, 2), (4, 3), (6, 4)],
        ),
        (
            Trace::new(
                "a burst of a second is held, then left",
                1,
                &[(0, 2), (10, 50), (11, 2)],
                120,
            ),
            vec![(0, 2), (10, 50), (40, 2)],
        ),
        (
            Trace::new("a saw is no reason to come and go", 1, &saw(), 120),
            vec![(0, 10), (5, 20)],
        ),
        (
            Trace::new(
                "a slow fall is followed half a minute later",
                2,
                &[(0, 20), (60, 16), (120, 8), (180, 2)],
                300,
            ),
            vec![(0, 10), (89, 8), (149, 4), (209, 1)],
        ),
        (
            Trace {
                max_on_demand: 10,
                always_ready: 2,
                ..Trace::new(
                    "the maximum is for those on demand, always-ready ones come on top",
                    1,
                    &[(1, 500), (2, 0)],
                    120,
                )
            },
            vec![(0, 2), (1, 12), (31, 2)],
        ),
        (
            Trace {
                max_on_demand: 0,
                always_ready: 3,
                ..Trace::new("no instance on demand", 8, &[(0, 1_000), (60, 0)], 200)
            },
            vec![(0, 3)],
        ),
        (
            Trace::new(
                "a silent front end takes nothing away and stops no growth",
                1,
                &[(0, 8), (10, -3), (60, -9), (61, -3), (100, 3)],
                200,
            ),
            // When all are heard again, the peak of the last half minute is that of the silence.
            vec![(0, 8), (60, 9), (100, 3)],
        ),
        (
            Trace::new(
                "requests in the idle window begin it anew",
                16,
                &[(0, 1), (1, 0), (80, 1), (81, 0)],
                300,
            ),
            vec![(0, 1), (169, 0)],
        ),
        (
            Trace::new("a storm from zero is one step", 1, &[(5, 100)], 30),
            vec![(0, 0), (5, 100)],
        ),
    ];
    for (trace, expected) in cases {
        assert_eq!(trace.counts(), expected, "{}", trace.what);
    }
}

/// Requests in each minute of an HTTP function in a public trace, minutes 361 to 480 of its excerpt; one takes 147 s.
///
/// Function `d99726ac…` of the Azure Functions Trace 2019 (M. Shahrad et al., "Serverless in the Wild", USENIX ATC 2020), published
/// by Microsoft under CC-BY 4.0.
const LONG_REQUESTS: &str = "000001000010000010000101100100001001101001000100011000000100000001000000010000000000100100100000100001010001101001010010101000001001";
const LONG_REQUEST_SECONDS: u64 = 147;

#[test]
fn a_public_trace_of_long_requests_never_lacks_and_never_hoards() {
    // Requests of a minute begin in its middle.
    let begins: Vec<u64> = LONG_REQUESTS
        .bytes()
        .enumerate()
        .filter(|(_, count)| *count == b'1')
        .map(|(minute, _)| minute as u64 * 60 + 30)
        .collect();
    let running = |second: u64| {
        let runs = |begin: &&u64| **begin <= second && second < **begin + LONG_REQUEST_SECONDS;
        begins.iter().filter(runs).count() as u32
    };
    let length = LONG_REQUESTS.len() as u64 * 60 + 400;
    let requests: Vec<Requests> = (0..length)
        .filter(|second| *second == 0 || running(*second) != running(*second - 1))
        .map(|second| (second, running(second).into()))
        .collect();
    let trace = Trace::new("long requests", 1, &requests, length);
    let counts = trace.counts();
    let mut following = counts.iter().peekable();
    let (mut count, mut instance_seconds, mut busy_seconds) = (0, 0, 0);
    for second in 0..length {
        if let Some((_, changed)) = following.next_if(|(at, _)| *at == second) {
            count = *changed;
        }
        let lately = (second.saturating_sub(30)..=second).map(running).max();
        let longer = (second.saturating_sub(91)..=second).map(running).max();
        assert!(count >= running(second), "second {second}");
        assert!(
            count <= lately.max(longer.min(Some(1))).unwrap_or(0),
            "second {second}: {count}"
        );
        instance_seconds += count;
        busy_seconds += running(second);
    }
    assert_eq!(count, 0, "back to zero");
    assert_eq!(
        (counts.len(), busy_seconds, instance_seconds),
        (53, 4_998, 6_901)
    );
}
