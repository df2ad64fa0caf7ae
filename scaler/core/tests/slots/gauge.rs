//! The demand of a group as the decision hears it.

use crate::support::*;
use maniple_core::slots::{
    data_role::Settings,
    gauge::Gauge,
    joint::SEEN_AFTER_MS,
    message::{FrontEndId, Session},
};

#[test]
fn the_first_request_counts_at_once_where_there_is_no_instance() {
    let mut role = role(&[1, 2], &[]);
    let mut gauge = Gauge::default();
    hello(&mut role, 1, 1, &[], 1);
    assert_eq!(gauge.read(&role, &group(), 0).current, 1);
    hello(&mut role, 2, 1, &[], 3);
    assert_eq!(gauge.read(&role, &group(), 0).current, 4);
    assert_eq!(gauge.due_ms(0), None);
}

#[test]
fn a_request_too_many_is_believed_when_it_lasts() {
    let mut role = role(&[1, 2], &[spec(1, 4, Some(EPOCH))]);
    let mut gauge = Gauge::default();
    hello(&mut role, 1, 1, &[(1, 4)], 0);
    hello(&mut role, 2, 1, &[], 1);
    // It may be one of the four, which the first has not told yet.
    assert_eq!(gauge.read(&role, &group(), 0).current, 4);
    let due = gauge.due_ms(0).expect("it has to be looked at again");
    assert_eq!(gauge.read(&role, &group(), due - 1).current, 4);
    assert_eq!(gauge.read(&role, &group(), due).current, 5);
    assert_eq!(gauge.due_ms(due), None);
    // Whatever one front end has by itself is certain.
    sync(&mut role, 2, (2, 0), &[], Some(demand(9, 0)));
    assert_eq!(gauge.read(&role, &group(), due).current, 9);
}

#[test]
fn nothing_is_taken_away_before_everybody_was_heard_for_a_while() {
    let grace = Settings::default().cut_off_grace_ms;
    let mut role = role(&[1, 2], &[spec(1, 4, Some(EPOCH))]);
    let mut gauge = Gauge::default();
    hello(&mut role, 1, 1, &[(1, 2)], 0);
    for now in [0, 60_000] {
        assert!(gauge.read(&role, &group(), now).incomplete, "one is silent");
    }
    hello(&mut role, 2, 1, &[], 0);
    let mut incomplete = |role: &_, now| gauge.read(role, &group(), now).incomplete;
    assert!(incomplete(&role, 60_001));
    assert!(incomplete(&role, 60_000 + SEEN_AFTER_MS));
    assert!(!incomplete(&role, 60_001 + SEEN_AFTER_MS));
    role.on_disconnected(FrontEndId(1), Session(1), 70_000);
    assert!(incomplete(&role, 70_000));
    let cut_off = gauge.read(&role, &group(), 70_000 + grace);
    assert_eq!((cut_off.current, cut_off.incomplete), (2, true));
}
