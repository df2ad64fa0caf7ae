//! The decision, rule by rule.

use std::num::NonZeroU32;
use std::time::Duration;

use jiff::Timestamp;
use maniple_core::decision::{
    Decision, GroupObservation, GroupSpec, GroupState, Now, Reason, SourceKind, SourceReading,
    SourceSpec, decide,
};
use maniple_core::timer::{AlwaysOn, Awake, WakeState};

const SECOND: Duration = Duration::from_secs(1);

fn start() -> Timestamp {
    "2026-06-01T00:00:00Z".parse().expect("a time")
}

fn at(seconds: u64) -> Now {
    Now::at(start() + SECOND * u32::try_from(seconds).expect("small"))
}

fn queue(function: &str) -> SourceSpec {
    source(
        function,
        SourceKind::StorageQueue {
            target: NonZeroU32::new(24).expect("not zero"),
        },
    )
}

fn source(function: &str, kind: SourceKind) -> SourceSpec {
    SourceSpec {
        key: function.to_owned(),
        function: function.to_owned(),
        kind,
        instance_cap: None,
    }
}

fn group(sources: Vec<SourceSpec>) -> GroupSpec {
    GroupSpec {
        always_ready: 0,
        max_on_demand: 100,
        idle_window: GroupSpec::IDLE_WINDOW,
        reading_max_age: GroupSpec::READING_MAX_AGE,
        paused: false,
        sources,
    }
}

fn backlog(count: u64, now: Now) -> SourceReading {
    SourceReading::Backlog {
        count,
        at: now.wall,
        note: None,
    }
}

fn broken() -> SourceReading {
    SourceReading::Unknown {
        error: "connection refused".to_owned(),
        since: start(),
        last_good: Some(7),
    }
}

fn seen(replicas: Option<u32>, readings: &[(&str, SourceReading)]) -> GroupObservation {
    GroupObservation {
        replicas,
        readings: readings
            .iter()
            .map(|(key, reading)| ((*key).to_owned(), reading.clone()))
            .collect(),
    }
}

fn known(desired: u32) -> GroupState {
    GroupState {
        desired: Some(desired),
        busy_at: None,
    }
}

fn outcome(decision: &Decision) -> (Option<u32>, Reason) {
    (decision.desired, decision.reason)
}

#[test]
fn steps_are_exact_also_small_ones() {
    let spec = group(vec![queue("orders")]);
    let mut state = GroupState::default();
    let mut replicas = 0;
    for (step, (count, expected)) in [(240, 10), (241, 11), (480, 20), (456, 19), (1, 1)]
        .into_iter()
        .enumerate()
    {
        let now = at(step as u64);
        let observed = seen(Some(replicas), &[("orders", backlog(count, now))]);
        let (decision, next) = decide(&spec, &observed, &state, now);
        assert_eq!(outcome(&decision), (Some(expected), Reason::Backlog));
        assert_eq!(
            decision.message,
            format!(
                "function orders (queueTrigger): backlog {count}, target 24 per instance, wants {expected}"
            )
        );
        assert_eq!(decision.sources[0].wants, Some(expected));
        (state, replicas) = (next, expected);
    }
}

#[test]
fn the_largest_want_counts_and_names_itself() {
    let spec = group(vec![queue("a"), queue("b"), queue("c")]);
    let now = at(0);
    let observed = seen(
        Some(0),
        &[
            ("a", backlog(24, now)),
            ("b", backlog(100, now)),
            ("c", backlog(90, now)),
        ],
    );
    let (decision, _) = decide(&spec, &observed, &GroupState::default(), now);
    assert_eq!(decision.desired, Some(5));
    assert!(
        decision.message.contains("function b"),
        "{}",
        decision.message
    );
}

#[test]
fn floor_and_cap_are_exact() {
    let mut spec = group(vec![queue("orders")]);
    spec.always_ready = 3;
    spec.max_on_demand = 10;
    for (count, expected) in [
        (0, (3, Reason::AlwaysReady)),
        (24, (3, Reason::AlwaysReady)),
        (96, (4, Reason::Backlog)),
        (24 * 13, (13, Reason::Backlog)),
        (24 * 13 + 1, (13, Reason::Capped)),
        (u64::MAX, (13, Reason::Capped)),
    ] {
        let now = at(0);
        let observed = seen(Some(3), &[("orders", backlog(count, now))]);
        let (decision, _) = decide(&spec, &observed, &known(3), now);
        assert_eq!(
            outcome(&decision),
            (Some(expected.0), expected.1),
            "{count}"
        );
    }
    spec.always_ready = u32::MAX;
    assert_eq!(spec.cap(), u32::MAX, "no overflow");
}

#[test]
fn a_function_can_be_limited() {
    let mut spec = group(vec![queue("slow"), queue("fast")]);
    spec.sources[0].instance_cap = Some(2);
    let now = at(0);
    let observed = seen(
        Some(0),
        &[("slow", backlog(2_400, now)), ("fast", backlog(72, now))],
    );
    let (decision, _) = decide(&spec, &observed, &GroupState::default(), now);
    assert_eq!(decision.desired, Some(3));
    assert_eq!(decision.sources[0].wants, Some(2));
    let note = decision.sources[0].note.as_deref();
    assert_eq!(note, Some("wants 100, limited to 2 for this function"));
}

#[test]
fn the_last_instance_stays_through_the_idle_window() {
    let spec = group(vec![queue("orders")]);
    let decide_at = |second, count, replicas, state: &GroupState| {
        let now = at(second);
        decide(
            &spec,
            &seen(Some(replicas), &[("orders", backlog(count, now))]),
            state,
            now,
        )
    };
    let (decision, state) = decide_at(0, 100, 0, &GroupState::default());
    assert_eq!(decision.desired, Some(5));
    let (decision, state) = decide_at(10, 0, 5, &state);
    assert_eq!(outcome(&decision), (Some(1), Reason::IdleWindow));
    assert_eq!(decision.next_wake, Some(at(60).wall));
    let (decision, state) = decide_at(59, 0, 1, &state);
    assert_eq!(outcome(&decision), (Some(1), Reason::IdleWindow));
    let (again, busy) = decide_at(59, 1, 1, &state);
    assert_eq!(again.desired, Some(1), "work in the window starts it anew");
    assert_eq!(decide_at(100, 0, 1, &busy).0.reason, Reason::IdleWindow);
    let (decision, state) = decide_at(60, 0, 1, &state);
    assert_eq!(outcome(&decision), (Some(0), Reason::Idle));
    let (decision, _) = decide_at(61, 0, 0, &state);
    assert_eq!(outcome(&decision), (Some(0), Reason::Idle));
}

#[test]
fn the_wall_clock_may_jump() {
    let spec = group(vec![queue("orders")]);
    let mut now = at(1_000_000);
    let observed = seen(Some(0), &[("orders", backlog(1, now))]);
    let (_, mut state) = decide(&spec, &observed, &GroupState::default(), now);
    for (jump, passed, expected) in [(-86_400, 30, 1), (172_800, 20, 1), (0, 10, 0)] {
        now.wall = now
            .wall
            .checked_add(jiff::SignedDuration::from_secs(jump + passed))
            .expect("in range");
        now.mono += SECOND * u32::try_from(passed).expect("small");
        let observed = seen(Some(1), &[("orders", backlog(0, now))]);
        let (decision, next) = decide(&spec, &observed, &state, now);
        assert_eq!(decision.desired, Some(expected), "after a jump of {jump} s");
        state = next;
    }
}

#[test]
fn a_restart_starts_the_idle_window_anew() {
    let spec = group(vec![queue("orders")]);
    let zero = |replicas, state: &GroupState, second| {
        let now = at(second);
        decide(
            &spec,
            &seen(replicas, &[("orders", backlog(0, now))]),
            state,
            now,
        )
    };
    let fresh = GroupState::default();
    let (decision, state) = zero(Some(4), &fresh, 0);
    assert_eq!(outcome(&decision), (Some(1), Reason::IdleWindow));
    assert_eq!(zero(Some(1), &state, 60).0.desired, Some(0));
    assert_eq!(zero(Some(0), &fresh, 0).0.desired, Some(0));
    let (decision, state) = zero(None, &fresh, 0);
    assert_eq!(outcome(&decision), (None, Reason::Unknown));
    assert_eq!(zero(Some(0), &state, 1).0.desired, Some(0));
    assert_eq!(zero(Some(2), &state, 1).0.desired, Some(1));
}

#[test]
fn nothing_is_said_before_the_first_reading() {
    let spec = group(vec![queue("orders")]);
    let fresh = GroupState::default();
    for replicas in [None, Some(0), Some(3)] {
        for readings in [vec![], vec![("orders", broken())]] {
            let (decision, state) = decide(&spec, &seen(replicas, &readings), &fresh, at(0));
            assert_eq!(outcome(&decision), (None, Reason::Unknown));
            assert_eq!(state.desired, None);
            assert!(decision.sources[0].error.is_some());
        }
    }
}

#[test]
fn unknown_keeps_the_present_count() {
    let spec = group(vec![queue("orders")]);
    for (desired, replicas, kept) in [
        (3, Some(3), 3),
        (3, Some(5), 5),
        (5, Some(3), 5),
        (3, None, 3),
        (0, Some(0), 0),
        (1, Some(1), 1),
        (300, Some(1), 100),
    ] {
        let observed = seen(replicas, &[("orders", broken())]);
        let (decision, _) = decide(&spec, &observed, &known(desired), at(1_000));
        assert_eq!(outcome(&decision), (Some(kept), Reason::HoldUnknown));
        assert_eq!(
            decision.message,
            format!(
                "function orders (queueTrigger): connection refused (since 2026-06-01T00:00:00Z); kept at {kept}"
            )
        );
        assert_eq!(
            decision.sources[0].backlog,
            Some(7),
            "the last known number"
        );
    }
}

#[test]
fn known_sources_still_scale_out_beside_an_unknown_one() {
    let spec = group(vec![queue("orders"), queue("mails")]);
    let now = at(0);
    let observed = |count, replicas| {
        seen(
            replicas,
            &[("orders", broken()), ("mails", backlog(count, now))],
        )
    };
    for (state, replicas, count, expected) in [
        (known(3), Some(3), 240, (Some(10), Reason::Backlog)),
        (known(3), Some(3), 24, (Some(3), Reason::HoldUnknown)),
        (known(3), Some(3), 24_000, (Some(100), Reason::Capped)),
        (
            GroupState::default(),
            Some(3),
            240,
            (Some(10), Reason::Backlog),
        ),
        (GroupState::default(), Some(3), 24, (None, Reason::Unknown)),
        (GroupState::default(), None, 240, (None, Reason::Unknown)),
    ] {
        let (decision, _) = decide(&spec, &observed(count, replicas), &state, now);
        assert_eq!(outcome(&decision), expected, "{}", decision.message);
    }
}

#[test]
fn after_an_unknown_time_the_idle_window_starts_anew() {
    let spec = group(vec![queue("orders")]);
    let (_, state) = decide(
        &spec,
        &seen(Some(2), &[("orders", broken())]),
        &known(2),
        at(900),
    );
    let now = at(930);
    let readable = seen(Some(2), &[("orders", backlog(0, now))]);
    let (decision, state) = decide(&spec, &readable, &state, now);
    assert_eq!(outcome(&decision), (Some(1), Reason::IdleWindow));
    let now = at(960);
    let readable = seen(Some(1), &[("orders", backlog(0, now))]);
    assert_eq!(decide(&spec, &readable, &state, now).0.desired, Some(0));
    // A group at zero is not woken by a time of not knowing.
    let (_, state) = decide(
        &spec,
        &seen(Some(0), &[("orders", broken())]),
        &known(0),
        at(900),
    );
    let readable = seen(Some(0), &[("orders", backlog(0, now))]);
    assert_eq!(decide(&spec, &readable, &state, now).0.desired, Some(0));
}

#[test]
fn an_old_reading_is_unknown() {
    let spec = group(vec![queue("orders")]);
    let observed = seen(Some(2), &[("orders", backlog(0, at(0)))]);
    let (fresh, _) = decide(&spec, &observed, &known(2), at(180));
    assert_eq!(fresh.reason, Reason::Idle);
    assert!(fresh.next_wake.is_some_and(|wake| wake > at(180).wall));
    let (old, _) = decide(&spec, &observed, &known(2), at(181));
    assert_eq!(outcome(&old), (Some(2), Reason::HoldUnknown));
    assert!(old.message.contains("too old"), "{}", old.message);
}

#[test]
fn a_timer_wakes_one_and_leaves_at_once() {
    let spec = group(vec![source("nightly", SourceKind::Timer)]);
    let due = at(100).wall;
    let asleep = |until| {
        SourceReading::Timer(WakeState::Asleep {
            until: Some(until),
            due: Some(due),
            unmatched: false,
        })
    };
    let (decision, state) = decide(
        &spec,
        &seen(Some(0), &[("nightly", asleep(at(80).wall))]),
        &GroupState::default(),
        at(0),
    );
    assert_eq!(outcome(&decision), (Some(0), Reason::Idle));
    assert_eq!(decision.next_wake, Some(at(80).wall));
    // The time has come, nothing new was read.
    let observed = seen(Some(0), &[("nightly", asleep(at(80).wall))]);
    let (decision, state) = decide(&spec, &observed, &state, at(80));
    assert_eq!(outcome(&decision), (Some(1), Reason::Timer));
    let awake = SourceReading::Timer(WakeState::Awake {
        because: Awake::Due,
        due: Some(due),
    });
    let (decision, state) = decide(
        &spec,
        &seen(Some(1), &[("nightly", awake)]),
        &state,
        at(101),
    );
    assert_eq!(outcome(&decision), (Some(1), Reason::Timer));
    assert!(decision.message.contains("run due at 2026-06-01T00:01:40Z"));
    // The run is recorded: no idle window.
    let observed = seen(Some(1), &[("nightly", asleep(at(1_000).wall))]);
    let (decision, _) = decide(&spec, &observed, &state, at(103));
    assert_eq!(outcome(&decision), (Some(0), Reason::Idle));
}

#[test]
fn a_timer_without_status_holds_or_stays() {
    let spec = group(vec![source("nightly", SourceKind::Timer)]);
    let hold = |until| {
        SourceReading::Timer(WakeState::Hold {
            error: "timed out".to_owned(),
            until: Some(until),
        })
    };
    for (desired, now, expected) in [
        (0, 10, (Some(0), Reason::HoldUnknown)),
        (1, 10, (Some(1), Reason::HoldUnknown)),
        (0, 80, (Some(1), Reason::Timer)),
    ] {
        let observed = seen(Some(desired), &[("nightly", hold(at(80).wall))]);
        let (decision, _) = decide(&spec, &observed, &known(desired), at(now));
        assert_eq!(outcome(&decision), expected);
    }
    let always = SourceReading::Timer(WakeState::AlwaysOn {
        reason: AlwaysOn::MonitorOff,
    });
    let observed = seen(Some(0), &[("nightly", always)]);
    let (decision, _) = decide(&spec, &observed, &known(0), at(0));
    assert_eq!(outcome(&decision), (Some(1), Reason::Timer));
    assert!(decision.message.contains("useMonitor is false"));
}

#[test]
fn triggers_without_a_source_keep_one() {
    for (kind, reason, words) in [
        (
            SourceKind::Http {
                concurrency: NonZeroU32::MIN,
            },
            Reason::Http,
            "requests are not counted yet",
        ),
        (
            SourceKind::Unsupported {
                trigger: "serviceBusTrigger".to_owned(),
            },
            Reason::Unsupported,
            "there is no source for serviceBusTrigger yet",
        ),
    ] {
        let spec = group(vec![source("f", kind)]);
        let (decision, _) = decide(&spec, &seen(Some(0), &[]), &GroupState::default(), at(0));
        assert_eq!(outcome(&decision), (Some(1), reason));
        assert!(decision.message.contains(words), "{}", decision.message);
    }
}

#[test]
fn requests_are_divided_exactly_and_only_complete_peaks_let_instances_go() {
    let spec = group(vec![source(
        "h",
        SourceKind::Http {
            concurrency: NonZeroU32::new(4).unwrap(),
        },
    )]);
    // Present count, requests now, peak, every front end heard, expected.
    let cases = [
        (0, 0, 0, true, 0),
        (0, 1, 1, true, 1),
        (1, 4, 4, true, 1),
        (1, 5, 5, true, 2),
        (2, 17, 5, true, 5),
        (5, 3, 9, true, 3),
        (5, 3, 400, true, 5),
        (5, 3, 3, true, 1),
        (5, 3, 3, false, 5),
        (5, 21, 3, false, 6),
        (0, 1, 1, false, 1),
    ];
    for (present, current, peak, complete, expected) in cases {
        let reading = SourceReading::Demand {
            current,
            peak,
            complete,
        };
        let observed = seen(Some(present), &[("h", reading)]);
        let (decision, _) = decide(&spec, &observed, &known(present), at(0));
        let case = (present, current, peak, complete);
        assert_eq!(
            decision.desired,
            Some(expected),
            "{case:?} {}",
            decision.message
        );
    }
    let unknown = SourceReading::Unknown {
        error: "no epoch yet".to_owned(),
        since: at(0).wall,
        last_good: None,
    };
    let observed = seen(Some(5), &[("h", unknown)]);
    let (decision, _) = decide(&spec, &observed, &known(5), at(0));
    assert_eq!(outcome(&decision), (Some(5), Reason::HoldUnknown));
}

#[test]
fn a_paused_group_is_not_touched() {
    let mut spec = group(vec![queue("orders")]);
    spec.paused = true;
    let now = at(0);
    let observed = seen(Some(7), &[("orders", backlog(0, now))]);
    let (decision, state) = decide(&spec, &observed, &known(2), now);
    assert_eq!(outcome(&decision), (Some(7), Reason::Paused));
    let (decision, _) = decide(&spec, &seen(None, &[]), &GroupState::default(), now);
    assert_eq!(outcome(&decision), (None, Reason::Unknown));
    spec.paused = false;
    let (decision, _) = decide(&spec, &observed, &state, at(1));
    assert_eq!(
        outcome(&decision),
        (Some(1), Reason::IdleWindow),
        "then step by step"
    );
}

#[test]
fn a_reading_of_the_wrong_kind_is_unknown() {
    let spec = group(vec![source("nightly", SourceKind::Timer)]);
    let observed = seen(Some(1), &[("nightly", backlog(5, at(0)))]);
    let (decision, _) = decide(&spec, &observed, &known(1), at(0));
    assert_eq!(outcome(&decision), (Some(1), Reason::HoldUnknown));
}

#[test]
fn decisions_travel_as_json() {
    let spec = group(vec![queue("orders"), source("nightly", SourceKind::Timer)]);
    let now = at(0);
    let observed = seen(
        Some(1),
        &[("orders", backlog(5, now)), ("nightly", broken())],
    );
    let (decision, _) = decide(&spec, &observed, &known(1), now);
    let text = serde_json::to_string(&decision).expect("JSON");
    assert!(text.contains("\"reason\":\"HoldUnknown\""), "{text}");
    let back: Decision = serde_json::from_str(&text).expect("the same JSON");
    assert_eq!(back, decision);
    assert_eq!(decision.reason.as_str(), "HoldUnknown");
}
