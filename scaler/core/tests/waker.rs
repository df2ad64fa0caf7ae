//! When a timer needs an instance.

use std::time::Duration;

use jiff::Timestamp;
use maniple_core::names::Settings;
use maniple_core::timer::{
    AlwaysOn, Awake, MAX_LEAD, MIN_LEAD, ScheduleStatus, ScheduleWarning, StartTimes,
    StatusReading, Timer, WakeState,
};

const LEAD: Duration = Duration::from_secs(10);

fn time(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

fn timer(schedule: &str) -> Timer {
    Timer::new(schedule, &Settings::default(), true, false).expect("a timer")
}

fn wake(timer: &Timer, status: &StatusReading, now: &str) -> WakeState {
    timer.wake(status, LEAD, None, time(now), None)
}

fn recorded(last: &str, next: &str) -> StatusReading {
    StatusReading::Present(status(last, next))
}

fn status(last: &str, next: &str) -> ScheduleStatus {
    ScheduleStatus {
        last: Some(time(last)),
        next: Some(time(next)),
        last_updated: Some(time(last)),
    }
}

fn awake(because: Awake, due: &str) -> WakeState {
    WakeState::Awake {
        because,
        due: Some(time(due)),
    }
}

fn asleep(until: &str, due: &str) -> WakeState {
    WakeState::Asleep {
        until: Some(time(until)),
        due: Some(time(due)),
        unmatched: false,
    }
}

const DAILY: &str = "0 30 9 * * *";

#[test]
fn sleeps_wakes_ahead_and_stays_until_the_run_is_recorded() {
    let timer = timer(DAILY);
    let before = recorded("2026-06-01T09:30:01Z", "2026-06-02T09:30:00Z");
    let sleeping = asleep("2026-06-02T09:29:50Z", "2026-06-02T09:30:00Z");
    assert_eq!(wake(&timer, &before, "2026-06-01T09:30:05Z"), sleeping);
    assert_eq!(wake(&timer, &before, "2026-06-02T09:29:49Z"), sleeping);
    let due = awake(Awake::Due, "2026-06-02T09:30:00Z");
    for now in [
        "2026-06-02T09:29:50Z",
        "2026-06-02T09:30:00Z",
        "2026-06-02T09:31:00Z",
        "2026-06-05T00:00:00Z",
    ] {
        assert_eq!(wake(&timer, &before, now), due, "{now}");
    }
    let after = recorded("2026-06-02T09:30:00.2Z", "2026-06-03T09:30:00Z");
    assert_eq!(
        wake(&timer, &after, "2026-06-02T09:30:30Z"),
        asleep("2026-06-03T09:29:50Z", "2026-06-03T09:30:00Z")
    );
}

#[test]
fn a_missing_status_needs_one_start_whatever_the_time() {
    for schedule in [DAILY, "01:00:00", "0 0 0 29 2 *"] {
        let state = wake(
            &timer(schedule),
            &StatusReading::Missing,
            "2026-06-01T00:00:00Z",
        );
        assert!(
            matches!(
                state,
                WakeState::Awake {
                    because: Awake::FirstStart,
                    due: Some(_)
                }
            ),
            "{schedule}: {state:?}"
        );
    }
}

#[test]
fn the_first_status_counts_from_when_it_was_written() {
    let first = StatusReading::Present(ScheduleStatus {
        last: None,
        next: Some(time("2026-06-02T09:30:00Z")),
        last_updated: Some(time("2026-06-01T10:00:00Z")),
    });
    assert_eq!(
        wake(&timer(DAILY), &first, "2026-06-01T10:00:10Z"),
        asleep("2026-06-02T09:29:50Z", "2026-06-02T09:30:00Z")
    );
}

#[test]
fn a_changed_schedule_needs_one_start() {
    let changed = timer("0 0 12 * * *");
    let old = recorded("2026-06-01T09:30:01Z", "2026-06-02T09:30:00Z");
    let now = time("2026-06-01T10:00:00Z");
    let wanted = awake(Awake::ScheduleChanged, "2026-06-01T12:00:00Z");
    assert_eq!(changed.wake(&old, LEAD, None, now, None), wanted);
    // An instance that has just come up may not have read the status yet.
    let just_up = Some(time("2026-06-01T09:59:00Z"));
    assert_eq!(changed.wake(&old, LEAD, just_up, now, None), wanted);
    // A host that was up and left the status as it is reads the schedule in its own way, say with older time zone data.
    let long_up = Some(time("2026-06-01T09:50:00Z"));
    let trusted = changed.wake(&old, LEAD, long_up, now, None);
    assert_eq!(
        trusted,
        WakeState::Asleep {
            until: Some(time("2026-06-02T09:29:50Z")),
            due: Some(time("2026-06-02T09:30:00Z")),
            unmatched: true,
        }
    );
    // The instance is gone, the status is the same: no new start.
    let later = time("2026-06-01T11:00:00Z");
    assert_eq!(
        changed.wake(&old, LEAD, None, later, Some(&trusted)),
        trusted
    );
}

#[test]
fn a_change_that_the_host_does_not_notice_is_none_for_us_either() {
    // 09:30 daily and 09:30 on weekdays give the same next time on a Monday.
    let weekdays = timer("0 30 9 * * 1-5");
    let status = recorded("2026-06-01T09:30:01Z", "2026-06-02T09:30:00Z");
    assert_eq!(
        wake(&weekdays, &status, "2026-06-01T10:00:00Z"),
        asleep("2026-06-02T09:29:50Z", "2026-06-02T09:30:00Z")
    );
}

#[test]
fn an_interval_counts_from_its_last_run() {
    let hourly = timer("01:00:00");
    let status = recorded("2026-06-01T09:17:03.5Z", "2026-06-01T10:17:03.5Z");
    assert_eq!(
        wake(&hourly, &status, "2026-06-01T09:18:00Z"),
        asleep("2026-06-01T10:16:53.5Z", "2026-06-01T10:17:03.5Z")
    );
}

#[test]
fn what_cannot_be_persisted_is_always_on() {
    for (schedule, use_monitor, reason) in [
        ("*/10 * * * * *", true, AlwaysOn::SubMinute),
        ("0,30 * * * * *", true, AlwaysOn::SubMinute),
        ("00:00:59", true, AlwaysOn::SubMinute),
        (DAILY, false, AlwaysOn::MonitorOff),
    ] {
        let timer =
            Timer::new(schedule, &Settings::default(), use_monitor, false).expect("a timer");
        let state = wake(&timer, &StatusReading::Missing, "2026-06-01T00:00:00Z");
        assert_eq!(state, WakeState::AlwaysOn { reason }, "{schedule}");
    }
    let state = wake(
        &timer(DAILY),
        &StatusReading::NoStorage,
        "2026-06-01T00:00:00Z",
    );
    let reason = AlwaysOn::NoStorage;
    assert_eq!(state, WakeState::AlwaysOn { reason });
    for schedule in ["0 * * * * *", "00:01:00", "*/10 * * * * 1-5"] {
        assert_eq!(timer(schedule).always_on(), None, "{schedule}");
    }
}

#[test]
fn an_unreadable_status_holds_but_does_not_miss_the_time() {
    let timer = timer(DAILY);
    let unknown = |last_known| StatusReading::Unknown {
        error: "timed out".to_owned(),
        last_known,
    };
    let held = WakeState::Hold {
        error: "timed out".to_owned(),
        until: Some(time("2026-06-02T09:29:50Z")),
    };
    let due = awake(Awake::Due, "2026-06-02T09:30:00Z");
    let known = Some(status("2026-06-01T09:30:01Z", "2026-06-02T09:30:00Z"));
    for last_known in [known, None] {
        let reading = unknown(last_known);
        assert_eq!(wake(&timer, &reading, "2026-06-01T10:00:00Z"), held);
        assert_eq!(wake(&timer, &reading, "2026-06-02T09:29:50Z"), due);
        assert_eq!(wake(&timer, &reading, "2026-06-02T09:30:00.9Z"), due);
    }
    // Nobody knows when an interval is due.
    let state = wake(
        &self::timer("01:00:00"),
        &unknown(None),
        "2026-06-01T10:00:00Z",
    );
    assert!(
        matches!(state, WakeState::Hold { until: None, .. }),
        "{state:?}"
    );
}

#[test]
fn a_clock_that_jumps_neither_skips_nor_doubles() {
    let timer = timer(DAILY);
    let before = recorded("2026-06-01T09:30:01Z", "2026-06-02T09:30:00Z");
    let due = awake(Awake::Due, "2026-06-02T09:30:00Z");
    let step = |status: &StatusReading, now: &str, previous: &WakeState| {
        timer.wake(status, LEAD, None, time(now), Some(previous))
    };
    // A small step back does not put the instance to sleep.
    assert_eq!(step(&before, "2026-06-02T09:29:30Z", &due), due);
    // A shorter lead does not either.
    let shorter = timer.wake(
        &before,
        MIN_LEAD,
        None,
        time("2026-06-02T09:29:51Z"),
        Some(&due),
    );
    assert_eq!(shorter, due);
    // A large step back does; the time comes again and nothing is lost.
    let back = step(&before, "2026-06-02T03:00:00Z", &due);
    assert_eq!(back, asleep("2026-06-02T09:29:50Z", "2026-06-02T09:30:00Z"));
    // Back after the run was recorded: it is not due a second time.
    let after = recorded("2026-06-02T09:30:00Z", "2026-06-03T09:30:00Z");
    let rested = step(&after, "2026-06-02T09:00:00Z", &due);
    assert_eq!(
        rested,
        asleep("2026-06-03T09:29:50Z", "2026-06-03T09:30:00Z")
    );
    // A jump over the due time: late, but not lost.
    assert_eq!(step(&before, "2026-06-02T12:00:00Z", &back), due);
}

#[test]
fn the_repeated_hour_is_read_by_what_fits() {
    let settings = Settings::from_environment([("TZ", "America/New_York")]);
    let timer = Timer::new("0 30 1 * * *", &settings, true, false).expect("a timer");
    // 01:30 is due in the first pass, though the blob may name the offset of the second.
    for next in ["2026-11-01T01:30:00-04:00", "2026-11-01T01:30:00-05:00"] {
        let status = recorded("2026-10-31T01:30:00-04:00", next);
        assert_eq!(
            wake(&timer, &status, "2026-10-31T12:00:00Z"),
            asleep("2026-11-01T05:29:50Z", "2026-11-01T05:30:00Z"),
            "{next}"
        );
    }
}

#[test]
fn an_instance_stays_while_a_host_repeats_itself() {
    let settings = Settings::from_environment([("TZ", "Europe/Dublin")]);
    let timer = Timer::new("0 30 1 * * *", &settings, true, false).expect("a timer");
    // The host computes 00:30Z again and again from 00:30Z to 01:00Z; its blob shows that.
    let stuck = recorded("2026-03-29T00:40:00Z", "2026-03-29T00:30:00Z");
    let now = "2026-03-29T00:40:00Z";
    assert!(timer.host_repeats_at(time(now)));
    assert_eq!(
        wake(&timer, &stuck, now),
        awake(Awake::Due, "2026-03-29T00:30:00Z")
    );
    let over = recorded("2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z");
    assert!(!timer.host_repeats_at(time("2026-03-29T01:00:00Z")));
    assert_eq!(
        wake(&timer, &over, "2026-03-29T01:00:01Z"),
        asleep("2026-03-30T00:29:50Z", "2026-03-30T00:30:00Z")
    );
}

#[test]
fn a_schedule_that_never_fires_sleeps_for_ever() {
    let timer = timer("0 0 0 30 2 *");
    assert_eq!(timer.warnings(), [ScheduleWarning::NeverFires]);
    let blob = br#"{"Last":"0001-01-01T00:00:00","Next":"9999-12-31T23:59:59.9999999-05:00","LastUpdated":"2026-06-01T10:00:00Z"}"#;
    let status = ScheduleStatus::parse(blob, &timer.zone).expect("a status");
    for reading in [StatusReading::Missing, StatusReading::Present(status)] {
        let state = wake(&timer, &reading, "2026-06-01T00:00:00Z");
        assert!(
            matches!(state, WakeState::Asleep { until: None, .. }),
            "{state:?}"
        );
    }
}

#[test]
fn settings_zones_and_mistakes() {
    let settings = Settings::from_environment([
        ("SCHEDULE", "0 0 8 * * *"),
        ("WEBSITE_TIME_ZONE", "W. Europe Standard Time"),
        ("BAD", "0 0 8 * *  * *"),
        ("ZERO", "0"),
    ]);
    let timer = Timer::new("%schedule%", &settings, true, true).expect("a timer");
    assert_eq!(timer.zone.name(), "Europe/Berlin");
    assert_eq!(timer.warnings(), [ScheduleWarning::RunOnStartup]);
    for (schedule, category, words) in [
        ("%NOPE%", "setting-missing", "add the app setting 'NOPE'"),
        ("%BAD%", "schedule-syntax", "this one has 7"),
        ("%ZERO%", "schedule-interval", "run without a pause"),
        ("-00:05:00", "schedule-interval", "use a positive time span"),
        ("0 0 0 * * 7", "schedule-syntax", "7 is outside 0 to 6"),
    ] {
        let error = Timer::new(schedule, &settings, true, false).expect_err("a mistake");
        assert_eq!(error.category(), category, "{error}");
        assert!(error.to_string().contains(words), "{error}");
    }
    let mars = Settings::from_environment([("TZ", "Mars/Olympus")]);
    let error = Timer::new(DAILY, &mars, true, false).expect_err("no such zone");
    assert_eq!(error.category(), "time-zone");
    for (schedule, words) in [
        (
            "0 0 22-2 * * *",
            "the hour range '22-2' does not wrap around: the host reads it as 2 to 22",
        ),
        ("24:00:00", "read as 24 days"),
    ] {
        let warnings = self::timer(schedule).warnings();
        assert_eq!(warnings.len(), 1, "{schedule}");
        assert!(warnings[0].to_string().contains(words), "{}", warnings[0]);
    }
}

#[test]
fn blobs_of_a_real_host_are_read() {
    let zone = timer(DAILY).zone;
    let read = |blob: &str| ScheduleStatus::parse(blob.as_bytes(), &zone);
    let status = read(
        r#"{"Last":"0001-01-01T00:54:00+00:54","Next":"2026-11-23T08:00:00+01:00","LastUpdated":"2026-11-22T17:41:26.1791017+01:00"}"#,
    )
    .expect("a status");
    assert_eq!(status.last, None, "never is a matter of the year");
    assert_eq!(status.next, Some(time("2026-11-23T07:00:00Z")));
    assert_eq!(
        status.last_updated,
        Some(time("2026-11-22T16:41:26.1791017Z"))
    );
    let written = status.to_json(&zone);
    assert_eq!(read(&written).as_ref(), Ok(&status));
    for bad in ["", "[]", "{\"Next\":5}", "{\"Next\":\"soon\"}"] {
        let error = read(bad).expect_err("no status");
        assert!(error.to_string().contains("delete the blob"), "{error}");
    }
}

#[test]
fn the_lead_is_learned_within_limits() {
    let mut times = StartTimes::default();
    assert_eq!(times.lead(), StartTimes::UNKNOWN);
    times.record(Duration::from_millis(10));
    assert_eq!(times.lead(), Duration::from_micros(1_012_500));
    for _ in 0..StartTimes::KEPT {
        times.record(Duration::from_secs(8));
    }
    times.record(Duration::from_hours(1));
    assert_eq!(
        times.lead(),
        Duration::from_secs(11),
        "one outlier does not count"
    );
    times.record(Duration::from_hours(1));
    assert_eq!(times.lead(), MAX_LEAD);
    let state = timer(DAILY).wake(
        &recorded("2026-06-01T09:30:01Z", "2026-06-02T09:30:00Z"),
        Duration::ZERO,
        None,
        time("2026-06-02T09:29:58.5Z"),
        None,
    );
    assert_eq!(
        state,
        asleep("2026-06-02T09:29:59Z", "2026-06-02T09:30:00Z")
    );
}
