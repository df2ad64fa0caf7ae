//! The timer trigger against recordings of the original library and listener.

mod recorded;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use maniple_core::timer::{Cron, Persistence, Schedule, ScheduleStatus, Zone, wait_until};
use recorded::{cases, none_of, text};
use serde_json::Value;

fn civil(text: &str) -> DateTime {
    text.parse().expect("a wall-clock time")
}

fn instant(text: &str) -> Timestamp {
    text.parse().expect("a time with offset")
}

/// The recordings were made with time zone data 2025b. A zone whose law has changed since is computed with the rule of that
/// time, in POSIX form: zone, first year that differs, rule.
const RULES_OF_2025: [(&str, i16, &str); 2] = [
    ("America/Havana", 2026, "CST5CDT,M3.2.0/0,M11.1.0/1"),
    // Ramadan of 2027: from 7 February 03:00 to 14 March 02:00.
    ("Africa/Casablanca", 2027, "<+01>-1<+00>0,J38/3,J73/2"),
];

fn zone_of(case: &Value) -> Zone {
    let name = text(case, "zone");
    let year = case["after"].as_str().map_or(0, |after| {
        after[..4].parse().expect("a time starts with the year")
    });
    let changed = RULES_OF_2025
        .iter()
        .find(|(zone, since, _)| *zone == name && year >= *since);
    match changed {
        Some((_, _, rule)) => Zone::with_rules(name, TimeZone::posix(rule).expect("a rule")),
        None => Zone::named(name).expect("a zone"),
    }
}

fn strings(value: &Value) -> Vec<&str> {
    value
        .as_array()
        .expect("a list")
        .iter()
        .map(|item| item.as_str().expect("a text"))
        .collect()
}

fn status(value: &Value, zone: &Zone) -> Option<ScheduleStatus> {
    (!value.is_null()).then(|| {
        let text = value
            .to_string()
            .replace("\"never\"", "\"0001-01-01T00:00:00+00:00\"");
        ScheduleStatus::parse(text.as_bytes(), zone).expect("a status")
    })
}

#[test]
fn vectors_schedules() {
    let mut differences = Vec::new();
    let mut runs = 0;
    let all = cases("timers/schedules.json");
    for case in &all {
        let schedule = text(case, "schedule");
        let parsed = Schedule::parse(schedule);
        match (text(case, "kind"), &parsed) {
            ("error", Err(error)) => assert!(!error.to_string().is_empty()),
            ("interval", Ok(Schedule::Interval { ticks })) => {
                if case["ticks_100ns"] != *ticks {
                    differences.push(format!("{schedule}: {ticks} units"));
                }
                // On purpose different: intervals of zero or less are refused before use.
                assert_eq!(Schedule::usable(schedule).is_ok(), *ticks > 0, "{schedule}");
            }
            ("cron", Ok(Schedule::Cron(cron))) => {
                let seen = (cron.has_seconds(), cron.canonical(), cron.is_dst_interval());
                let expected = (
                    case["seconds_field"].as_bool().expect("a flag"),
                    text(case, "canonical").to_owned(),
                    case["dst_interval"].as_bool().expect("a flag"),
                );
                if seen != expected {
                    differences.push(format!("{schedule}: {seen:?}, not {expected:?}"));
                }
                for run in case["runs"].as_array().expect("runs") {
                    runs += 1;
                    let (next, ended) = four_before_2060(cron, civil(text(run, "after")));
                    let expected: Vec<DateTime> =
                        strings(&run["next"]).into_iter().map(civil).collect();
                    if next != expected || run["none_before_2060"] != ended {
                        differences.push(format!("{schedule}: {next:?}, not {run}"));
                    }
                }
            }
            (kind, parsed) => differences.push(format!("{schedule}: {parsed:?}, not {kind}")),
        }
    }
    assert!(runs > 0, "some occurrences were computed");
    none_of(differences, all.len());
}

fn four_before_2060(cron: &Cron, after: DateTime) -> (Vec<DateTime>, bool) {
    let next: Vec<DateTime> =
        std::iter::successors(cron.next_after(after), |last| cron.next_after(*last))
            .take_while(|next| next.year() < 2060)
            .take(4)
            .collect();
    let ended = next.len() < 4;
    (next, ended)
}

#[test]
fn vectors_time_zones() {
    let mut differences = Vec::new();
    let all = cases("timers/time-zones.json");
    for case in &all {
        let zone = zone_of(case);
        let schedule = Schedule::usable(text(case, "schedule")).expect("a schedule");
        let mut after = instant(text(case, "after"));
        for expected in strings(&case["next"]) {
            let host = schedule.host_next_after(&zone, after);
            let clock = schedule.next_after(&zone, after);
            let expected_at = Some(instant(expected));
            let seen = expected_at.map(|at| at.display_with_offset(zone.offset(at)).to_string());
            if host != expected_at || clock != expected_at || seen.as_deref() != Some(expected) {
                differences.push(format!(
                    "{} {} after {after}: {host:?} {clock:?}, not {expected}",
                    zone.name(),
                    text(case, "schedule"),
                ));
            }
            after = instant(expected);
        }
    }
    none_of(differences, all.len());
}

/// On purpose different: the host stands still or goes back for the hour of a clock change in these zones. What we know of
/// it (`host_next_after`) must be exactly that, and what we compute ourselves must move on and agree wherever the host does.
#[test]
fn vectors_negative_dst_quirks() {
    let mut differences = Vec::new();
    let (mut stuck, mut agreed) = (0, 0);
    let all = cases("timers/negative-dst-quirks.json");
    for case in &all {
        let zone = zone_of(case);
        let schedule = Schedule::usable(text(case, "schedule")).expect("a schedule");
        let mut after = instant(text(case, "after"));
        for expected in strings(&case["next"]) {
            let expected_at = instant(expected);
            let host = schedule.host_next_after(&zone, after);
            if host != Some(expected_at) {
                differences.push(format!(
                    "{} {} after {}: {:?}, not {expected}",
                    zone.name(),
                    text(case, "schedule"),
                    after.display_with_offset(zone.offset(after)),
                    host.map(|at| at.display_with_offset(zone.offset(at)).to_string()),
                ));
            }
            let clock = schedule
                .next_after(&zone, after)
                .expect("a next occurrence");
            assert!(clock > after, "ours moves on: {case}");
            let repeats = expected_at <= after;
            if schedule.host_repeats_at(&zone, after) != repeats {
                differences.push(format!("repeats: {case}"));
            }
            stuck += usize::from(repeats);
            agreed += usize::from(clock == expected_at);
            after = expected_at;
        }
    }
    assert!(stuck > 0, "the recording shows hosts that stand still");
    assert!(agreed > stuck, "and agrees with us elsewhere");
    none_of(differences, all.len());
}

#[test]
fn vectors_persistence() {
    let mut differences = Vec::new();
    let all = cases("timers/persistence.json");
    for case in &all {
        let schedule = text(case, "schedule");
        let cron = Cron::parse(schedule).expect("a cron schedule");
        let off = cron.persistence_off_at(civil(text(case, "now")));
        if case["persistence_off"] != off {
            differences.push(format!("{case}: {off}"));
        }
        if off {
            assert_eq!(
                Schedule::Cron(cron).persistence(),
                Persistence::Depends,
                "{schedule}"
            );
        }
    }
    none_of(differences, all.len());
}

/// The recordings print every time of a repeated hour with the offset of standard time, so that times are compared on the
/// wall clock.
fn wall(status: &ScheduleStatus, zone: &Zone) -> [Option<DateTime>; 3] {
    [status.last, status.next, status.last_updated].map(|at| at.map(|at| zone.local(at)))
}

#[test]
fn vectors_past_due() {
    let mut differences = Vec::new();
    let all = cases("timers/past-due.json");
    for case in &all {
        let zone = zone_of(case);
        let schedule = Schedule::usable(text(case, "schedule")).expect("a schedule");
        let stored = status(&case["stored"], &zone);
        let start =
            ScheduleStatus::at_listener_start(stored, &schedule, &zone, instant(text(case, "now")));
        let written = start.written.then_some(start.status);
        let late = start.past_due.map_or(0, |late| late.as_millis());
        let expected = status(&case["written"], &zone);
        if case["past_due_ms"] != u64::try_from(late).expect("a span")
            || written.map(|status| wall(&status, &zone))
                != expected.map(|status| wall(&status, &zone))
        {
            differences.push(format!("{case}: {start:?}"));
        }
    }
    none_of(differences, all.len());
}

#[test]
fn vectors_after_run() {
    let mut differences = Vec::new();
    let mut exact = 0;
    let all = cases("timers/after-run.json");
    for case in &all {
        let zone = zone_of(case);
        let schedule = Schedule::usable(text(case, "schedule")).expect("a schedule");
        let before = ScheduleStatus {
            last: None,
            next: Some(instant(text(case, "due"))),
            last_updated: None,
        };
        let regular = case["is_past_due"] == false && case["run_on_startup"] == false;
        let after = before.after_run(&schedule, &zone, instant(text(case, "started")), regular);
        let expected = status(&case["written"], &zone).expect("a status");
        if wall(&after, &zone) != wall(&expected, &zone) {
            differences.push(format!("{case}: {after:?}"));
        }
        if after == expected {
            exact += 1;
            let blob = after.to_json(&zone);
            assert_eq!(
                serde_json::from_str::<Value>(&blob).expect("JSON"),
                case["written"],
                "written as the host writes it"
            );
        }
    }
    assert!(
        exact * 2 > all.len(),
        "most times are not in a repeated hour"
    );
    none_of(differences, all.len());
}

#[test]
fn vectors_waits() {
    let mut differences = Vec::new();
    let all = cases("timers/waits.json");
    for case in &all {
        let wait = wait_until(instant(text(case, "next")), instant(text(case, "now")));
        let ticks = wait.as_nanos() / 100;
        if case["wait_100ns"] != u64::try_from(ticks).expect("a span") {
            differences.push(format!("{case}: {ticks}"));
        }
    }
    none_of(differences, all.len());
}
