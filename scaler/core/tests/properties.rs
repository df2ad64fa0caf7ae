//! What must hold for all inputs.

use std::num::NonZeroU32;
use std::time::Duration;

use jiff::civil::DateTime;
use jiff::{SignedDuration, Timestamp};
use maniple_core::decision::{
    GroupObservation, GroupSpec, GroupState, Now, SourceKind, SourceReading, SourceSpec, decide,
};
use maniple_core::names::Settings;
use maniple_core::timer::{Cron, Schedule, ScheduleStatus, StatusReading, Timer, WakeState, Zone};
use proptest::prelude::*;

fn moment() -> impl Strategy<Value = Timestamp> {
    // 2020 to 2050, with fractions.
    (1_577_836_800_i64..2_524_608_000, 0_i32..1_000_000_000)
        .prop_map(|(second, nanosecond)| Timestamp::new(second, nanosecond).expect("in range"))
}

fn now() -> Now {
    Now::at(Timestamp::from_second(1_800_000_000).expect("in range"))
}

fn queue(index: usize, target: u32, instance_cap: Option<u32>) -> SourceSpec {
    SourceSpec {
        key: index.to_string(),
        function: format!("f{index}"),
        kind: SourceKind::StorageQueue {
            target: NonZeroU32::new(target).expect("not zero"),
        },
        instance_cap,
    }
}

fn group(limits: (u32, u32), sources: &[(u32, Option<u32>)]) -> GroupSpec {
    GroupSpec {
        always_ready: limits.0,
        max_on_demand: limits.1,
        idle_window: GroupSpec::IDLE_WINDOW,
        reading_max_age: GroupSpec::READING_MAX_AGE,
        paused: false,
        sources: sources
            .iter()
            .enumerate()
            .map(|(index, (target, cap))| queue(index, *target, *cap))
            .collect(),
    }
}

/// A backlog, or `None` for a source that cannot be read.
fn observed(replicas: Option<u32>, counts: &[Option<u64>]) -> GroupObservation {
    let reading = |count: &Option<u64>| match count {
        Some(count) => SourceReading::Backlog {
            count: *count,
            at: now().wall,
            note: None,
        },
        None => SourceReading::Unknown {
            error: "down".to_owned(),
            since: now().wall,
            last_good: None,
        },
    };
    GroupObservation {
        replicas,
        readings: counts
            .iter()
            .enumerate()
            .map(|(index, count)| (index.to_string(), reading(count)))
            .collect(),
    }
}

fn state() -> impl Strategy<Value = GroupState> {
    (
        proptest::option::of(0_u32..2_000),
        proptest::option::of(0_u64..200),
    )
        .prop_map(|(desired, idle)| GroupState {
            desired,
            busy_at: idle.map(|idle| now().mono.saturating_sub(Duration::from_secs(idle))),
        })
}

type Sources = Vec<((u32, Option<u32>), Option<u64>)>;

fn sources() -> impl Strategy<Value = Sources> {
    let count = prop_oneof![Just(0), 0_u64..100_000, any::<u64>()];
    proptest::collection::vec(
        (
            (1_u32..2_000, proptest::option::of(0_u32..500)),
            proptest::option::of(count),
        ),
        0..4,
    )
}

const SCHEDULES: [&str; 9] = [
    "0 */5 * * * *",
    "0 30 1 * * *",
    "0 0 2 * * *",
    "0 30 0,1,2,3 * * *",
    "0 */20 1-3 * * *",
    "0 45 1 * * 0",
    "30 * * * *",
    "15 0 29 2 *",
    "00:07:00",
];

const ZONES: [&str; 10] = [
    "UTC",
    "America/New_York",
    "Europe/Berlin",
    "Europe/Dublin",
    "Africa/Casablanca",
    "Australia/Lord_Howe",
    "Antarctica/Troll",
    "America/St_Johns",
    "Asia/Kolkata",
    "Asia/Beirut",
];

fn field(min: u32, max: u32) -> impl Strategy<Value = String> {
    let part = prop_oneof![
        Just("*".to_owned()),
        (min..=max).prop_map(|value| value.to_string()),
        (min..=max, min..=max).prop_map(|(a, b)| format!("{a}-{b}")),
        (min..=max, 1_u32..70).prop_map(|(a, step)| format!("{a}/{step}")),
        (1_u32..70).prop_map(|step| format!("*/{step}")),
        (min..=max, min..=max, 1_u32..9).prop_map(|(a, b, step)| format!("{a}-{b}/{step}")),
    ];
    proptest::collection::vec(part, 1..4).prop_map(|parts| parts.join(","))
}

fn cron_text() -> impl Strategy<Value = String> {
    (
        field(0, 59),
        field(0, 59),
        field(0, 23),
        field(1, 28),
        field(1, 12),
        field(0, 6),
    )
        .prop_map(|(s, m, h, d, mo, w)| format!("{s} {m} {h} {d} {mo} {w}"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_decision_keeps_floor_and_cap(
        limits in (0_u32..50, 0_u32..1_000),
        sources in sources(),
        replicas in proptest::option::of(0_u32..2_000),
        state in state(),
    ) {
        let (specs, counts): (Vec<_>, Vec<_>) = sources.into_iter().unzip();
        let spec = group(limits, &specs);
        let (decision, next) = decide(&spec, &observed(replicas, &counts), &state, now());
        if let Some(desired) = decision.desired {
            prop_assert!(desired >= spec.always_ready && desired <= spec.cap());
            prop_assert_eq!(next.desired, Some(desired));
        } else {
            prop_assert!(state.desired.is_none(), "once decided, there is always a number");
        }
        prop_assert_eq!(decision.sources.len(), counts.len());
        prop_assert!(decision.next_wake.is_none_or(|wake| wake > now().wall));
    }

    #[test]
    fn more_backlog_never_means_fewer(
        limits in (0_u32..50, 0_u32..1_000),
        sources in sources(),
        more in any::<u64>(),
        replicas in 0_u32..2_000,
        state in state(),
    ) {
        let (specs, mut counts): (Vec<_>, Vec<_>) = sources.into_iter().unzip();
        let spec = group(limits, &specs);
        let before = decide(&spec, &observed(Some(replicas), &counts), &state, now()).0;
        for count in counts.iter_mut().flatten() {
            *count = count.saturating_add(more);
        }
        let after = decide(&spec, &observed(Some(replicas), &counts), &state, now()).0;
        prop_assert!(after.desired >= before.desired, "{before:?} {after:?}");
    }

    #[test]
    fn not_knowing_never_takes_an_instance_away(
        limits in (0_u32..50, 0_u32..1_000),
        mut sources in sources(),
        replicas in proptest::option::of(0_u32..2_000),
        state in state(),
    ) {
        sources.push(((1, None), None));
        let (specs, counts): (Vec<_>, Vec<_>) = sources.into_iter().unzip();
        let spec = group(limits, &specs);
        let (decision, next) = decide(&spec, &observed(replicas, &counts), &state, now());
        let present = state.desired.max(replicas).unwrap_or(0).min(spec.cap());
        if let Some(desired) = decision.desired {
            prop_assert!(desired >= present, "{decision:?}");
        }
        prop_assert!(next.desired >= state.desired.min(Some(spec.cap())));
    }

    #[test]
    fn the_next_occurrence_is_the_first_that_matches(
        text in cron_text(),
        after in moment(),
        part in 0_u32..1_000,
    ) {
        let cron = Cron::parse(&text).expect("a schedule");
        let local = Zone::utc().local(after);
        let next = cron.next_after(local).expect("days up to 28 always come");
        prop_assert!(next > local);
        let second = SignedDuration::from_secs(1);
        // It matches: from a second before it is the very next. It is the first: so it is from anywhere between.
        prop_assert_eq!(cron.next_after(next.checked_sub(second).expect("in range")), Some(next));
        let span = next.duration_since(local);
        let between: DateTime = local
            .checked_add(SignedDuration::from_nanos_i128(span.as_nanos() * i128::from(part) / 1_000))
            .expect("in range");
        prop_assert_eq!(cron.next_after(between), Some(next));
        // What the library prints is the same schedule.
        let again = Cron::parse(&cron.canonical()).expect("a schedule");
        prop_assert_eq!(again.canonical(), cron.canonical());
        prop_assert_eq!(again.next_after(local), Some(next));
        prop_assert_eq!(again.is_dst_interval(), cron.is_dst_interval());
    }

    #[test]
    fn time_goes_on_in_every_zone(
        schedule in proptest::sample::select(&SCHEDULES[..]),
        zone in proptest::sample::select(&ZONES[..]),
        after in moment(),
    ) {
        let schedule = Schedule::usable(schedule).expect("a schedule");
        let negative = ["Europe/Dublin", "Africa/Casablanca"].contains(&zone);
        let zone = Zone::named(zone).expect("a zone");
        let next = schedule.next_after(&zone, after).expect("it comes");
        prop_assert!(next > after);
        if !negative {
            prop_assert_eq!(schedule.host_next_after(&zone, after), Some(next));
            prop_assert!(!schedule.host_repeats_at(&zone, after));
        }
        // What a host stores is recognised as its own.
        let status = ScheduleStatus {
            last: None,
            next: Some(after),
            last_updated: None,
        }
        .after_run(&schedule, &zone, after, true);
        let blob = status.to_json(&zone);
        let read = ScheduleStatus::parse(blob.as_bytes(), &zone).expect("a status");
        prop_assert_eq!(read, status);
        prop_assert_eq!(read.fitted(&schedule, &zone, next), Some(status));
    }

    #[test]
    fn any_text_is_read_or_refused(text in "[0-9A-Za-z*/,:. -]{0,30}") {
        if let Err(error) = Schedule::parse(&text) {
            prop_assert_eq!(error.category(), "schedule-syntax");
        }
    }
}

/// A host and the waker on one virtual clock, second by second: the host starts some seconds after it is wanted, reads the
/// status as a real one does, runs and records.
struct World {
    timer: Timer,
    status: Option<ScheduleStatus>,
    lead: Duration,
    latency: u32,
    starting: Option<u32>,
    /// When a run started and the time it was due.
    runs: Vec<(Timestamp, Timestamp)>,
    wake: Option<WakeState>,
    state: GroupState,
}

impl World {
    fn second(&mut self, wall: Timestamp, mono: u64) {
        let spec = GroupSpec {
            sources: vec![SourceSpec {
                kind: SourceKind::Timer,
                ..queue(0, 1, None)
            }],
            ..group((0, 10), &[])
        };
        let reading = self
            .status
            .map_or(StatusReading::Missing, StatusReading::Present);
        let wake = self
            .timer
            .wake(&reading, self.lead, None, wall, self.wake.as_ref());
        let observation = GroupObservation {
            replicas: self.state.desired.or(Some(0)),
            readings: [("0".to_owned(), SourceReading::Timer(wake.clone()))].into(),
        };
        let now = Now {
            wall,
            mono: Duration::from_secs(mono),
        };
        let (decision, state) = decide(&spec, &observation, &self.state, now);
        (self.wake, self.state) = (Some(wake), state);
        if decision.desired == Some(0) {
            self.starting = None;
            return;
        }
        let up_in = self.starting.unwrap_or(self.latency);
        self.starting = Some(up_in.saturating_sub(1));
        if up_in > 0 {
            return;
        }
        let (schedule, zone) = (&self.timer.schedule, &self.timer.zone);
        let start = ScheduleStatus::at_listener_start(self.status, schedule, zone, wall);
        let mut status = start.status;
        if let Some(due) = status.next.filter(|due| *due <= wall) {
            self.runs.push((wall, due));
            status = status.after_run(schedule, zone, wall, start.past_due.is_none());
        }
        self.status = Some(status);
    }
}

/// Seconds of a simulation.
const LASTS: u64 = 10_800;

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_due_time_runs_once_with_scale_to_zero_between(
        schedule in proptest::sample::select(vec!["0 */5 * * * *", "0 7,37 * * * *", "00:10:00", "0 30 1 * * *"]),
        zone in proptest::sample::select(vec!["UTC", "America/New_York", "Asia/Kolkata"]),
        latency in 0_u32..40,
        lead in 1_u64..60,
        jump_at in 1_000_u64..9_000,
        jump in prop_oneof![Just(0), -900_i64..900],
    ) {
        let settings = Settings::from_environment([("TZ", zone)]);
        let timer = Timer::new(schedule, &settings, true, false).expect("a timer");
        // The evening before daylight saving ends in New York.
        let first: Timestamp = "2026-11-01T03:58:20Z".parse().expect("a time");
        let mut world = World {
            timer,
            status: None,
            lead: Duration::from_secs(lead),
            latency,
            starting: None,
            runs: Vec::new(),
            wake: None,
            state: GroupState::default(),
        };
        let mut zeros = 0;
        for second in 0..LASTS {
            let offset = if second < jump_at { 0 } else { jump };
            let at = i64::try_from(second).expect("small") + offset;
            let wall = first.checked_add(SignedDuration::from_secs(at)).expect("in range");
            world.second(wall, second);
            zeros += u32::from(world.state.desired == Some(0));
        }
        prop_assert!(zeros > 0, "it scales to zero between runs");
        let status = world.status.expect("the first start wrote a status");
        // Nothing is doubled: each run is for a later due time than the one before.
        prop_assert!(world.runs.windows(2).all(|pair| pair[0].1 < pair[1].1), "{:?}", world.runs);
        // Nothing is left behind.
        let end = first.checked_add(SignedDuration::from_secs(i64::try_from(LASTS).expect("small") - 1 + jump)).expect("in range");
        if let Some(next) = status.next {
            let late = end.duration_since(next);
            prop_assert!(late <= SignedDuration::from_secs(i64::from(latency) + 2), "pending since {late:?}");
        }
        if schedule.contains(':') || jump > 0 {
            // Intervals count from when they ran; due times that the clock jumps over come together in one late run.
            return Ok(());
        }
        // Nothing is skipped: the due times that ran are all there were.
        let from = first.checked_add(SignedDuration::from_secs(i64::from(latency))).expect("in range");
        let mut next = world.timer.schedule.next_after(&world.timer.zone, from);
        for (started, due) in &world.runs {
            prop_assert_eq!(Some(*due), next);
            if jump == 0 && u64::from(latency) <= lead {
                prop_assert_eq!(started, due, "woken in time");
            }
            next = world.timer.schedule.next_after(&world.timer.zone, *due);
        }
    }
}
