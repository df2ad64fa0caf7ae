use super::*;
use crate::slots::message::GroupId;

const A: FrontEndId = FrontEndId(1);
const B: FrontEndId = FrontEndId(2);

fn report(samples: &[u32]) -> GroupDemand {
    GroupDemand {
        group: GroupId::new("g"),
        waiting: 0,
        busy: samples.last().copied().unwrap_or(0),
        oldest_wait_ms: 0,
        samples: samples.to_vec(),
    }
}

fn all(_: FrontEndId) -> bool {
    true
}

/// Reports every second what `of` says of each point; the highest that was seen from `from_ms` to `to_ms`.
fn play(
    joint: &mut Joint,
    seconds: std::ops::Range<u64>,
    of: impl Fn(FrontEndId, u64) -> u32,
) -> u32 {
    let mut highest = 0;
    for second in seconds {
        let now = second * 1_000;
        for id in [A, B] {
            let end = now / GRID_MS + 1;
            let samples: Vec<_> = (end - 50..end).map(|point| of(id, point)).collect();
            joint.put(id, &report(&samples), now);
        }
        highest = highest.max(joint.advance(now, all));
    }
    highest
}

#[test]
fn load_that_moves_is_counted_once() {
    // Three requests at one front end for 200 ms, then at the other one, whose clock is 20 ms ahead.
    let of = |id: FrontEndId, point: u64| {
        let first = ((point + u64::from(id == B)) / 10).is_multiple_of(2);
        if first == (id == A) { 3 } else { 0 }
    };
    let mut joint = Joint::default();
    assert_eq!(play(&mut joint, 10..40, of), 3);
    assert_eq!(joint.last(), 3);
}

#[test]
fn a_burst_that_lasts_is_seen_in_full_and_one_front_end_alone_exactly() {
    let mut joint = Joint::default();
    let burst = |_, point: u64| if (point % 250) < 8 { 4 } else { 0 };
    assert_eq!(play(&mut joint, 10..40, burst), 8);
    let mut joint = Joint::default();
    let short = |id, point: u64| u32::from(id == A && point.is_multiple_of(400)) * 9;
    assert_eq!(play(&mut joint, 10..40, short), 9);
}

#[test]
fn what_is_not_told_stays_as_it_was_and_the_dead_are_forgotten() {
    let mut joint = Joint::default();
    assert_eq!(play(&mut joint, 10..20, |_, _| 2), 4);
    for second in 20..40 {
        assert_eq!(joint.advance(second * 1_000, all), 4);
    }
    for second in 40..50 {
        joint.advance(second * 1_000, |id| id == A);
    }
    assert_eq!(joint.last(), 2);
    joint.put(A, &report(&[]), 50_000);
    for second in 50..60 {
        joint.advance(second * 1_000, all);
    }
    assert_eq!((joint.last(), joint.rows.len()), (0, 0));
}

#[test]
fn reports_may_overlap_come_late_and_say_anything() {
    let mut joint = Joint::default();
    joint.put(A, &report(&[u32::MAX; 1_000]), 10_000);
    joint.put(A, &report(&[1, 1]), 10_010);
    joint.put(B, &report(&[u32::MAX]), 10_000);
    for now in [10_000, 12_000, 12_000, 14_000, 1_000_000, u64::MAX] {
        joint.put(A, &report(&[7]), now);
        joint.advance(now, all);
        assert!(
            joint
                .rows
                .values()
                .all(|row| row.values.len() as u64 <= KEPT)
        );
    }
    assert_eq!(joint.last(), u32::MAX);
}
