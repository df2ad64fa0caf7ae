//! Slots of front ends that nobody hears, and instances that are replaced for them.

use crate::support::*;
use maniple_core::slots::{
    RemovalState,
    data_role::{DataRole, Effect, InstanceSpec, Settings},
    message::{Epoch, FrontEndId, InstanceUid, Session},
};

fn replaced(role: &mut DataRole, now_ms: u64) -> Vec<Effect> {
    writes(&role.tick(now_ms))
}

#[test]
fn instances_half_of_which_are_with_a_silent_front_end_are_replaced() {
    let after = Settings::default().cut_off_replace_ms;
    let mut role = role(&[1, 2], &[spec(1, 4, Some(EPOCH)), spec(2, 4, Some(EPOCH))]);
    hello(&mut role, 1, 1, &[(1, 2), (2, 1)], 0);
    hello(&mut role, 2, 1, &[], 0);
    role.on_disconnected(FrontEndId(1), Session(1), 100);
    assert_eq!(replaced(&mut role, 100 + after - 1), []);
    assert_eq!(
        replaced(&mut role, 100 + after),
        [Effect::MarkDrain(InstanceUid(1))]
    );
    assert_eq!(replaced(&mut role, 100 + after), [], "once");
    assert_eq!(role.available(InstanceUid(2), 100 + after), 3);
}

#[test]
fn who_hears_nobody_is_cut_off_itself_and_replaces_nothing() {
    let after = Settings::default().cut_off_replace_ms;
    let mut role = role(&[1, 2, 3], &[spec(1, 2, Some(EPOCH))]);
    for fe in 1..=3 {
        hello(&mut role, fe, 1, &[], 0);
    }
    hello(&mut role, 1, 2, &[(1, 2)], 0);
    role.on_disconnected(FrontEndId(1), Session(2), 0);
    role.on_disconnected(FrontEndId(2), Session(1), 0);
    assert_eq!(replaced(&mut role, after), [], "two of three are silent");
    role.on_disconnected(FrontEndId(3), Session(1), 0);
    assert_eq!(replaced(&mut role, after), []);
}

#[test]
fn where_nobody_would_make_another_one_an_instance_is_kept() {
    let after = Settings::default().cut_off_replace_ms;
    let mut role = role(&[1, 2], &[spec(1, 1, Some(EPOCH))]);
    hello(&mut role, 1, 1, &[(1, 1)], 0);
    hello(&mut role, 2, 1, &[], 0);
    role.on_disconnected(FrontEndId(1), Session(1), 0);
    role.set_replaced(&group(), false);
    assert_eq!(replaced(&mut role, after), []);
    role.set_replaced(&group(), true);
    assert_eq!(
        replaced(&mut role, after),
        [Effect::MarkDrain(InstanceUid(1))]
    );
}

#[test]
fn a_front_end_that_came_back_in_time_keeps_its_instances() {
    let after = Settings::default().cut_off_replace_ms;
    let mut role = role(&[1, 2], &[spec(1, 1, Some(EPOCH))]);
    hello(&mut role, 1, 1, &[(1, 1)], 0);
    hello(&mut role, 2, 1, &[], 0);
    role.on_disconnected(FrontEndId(1), Session(1), 0);
    hello(&mut role, 1, 2, &[(1, 1)], 0);
    assert_eq!(replaced(&mut role, after), []);
    assert_eq!(role.removal(InstanceUid(1)), Some(RemovalState::Serving));
}

#[test]
fn where_a_function_may_run_for_ever_the_instance_of_a_dead_front_end_is_replaced() {
    let settle = Settings::default().settle_ms;
    let endless = InstanceSpec {
        function_timeout_ms: None,
        ..spec(1, 2, Some(EPOCH))
    };
    let mut role = role(&[1], &[endless, spec(2, 2, Some(EPOCH))]);
    hello(&mut role, 1, 1, &[(1, 1), (2, 1)], 0);
    role.on_dead(FrontEndId(1), 0);
    assert_eq!(replaced(&mut role, settle - 1), []);
    assert_eq!(
        replaced(&mut role, settle),
        [Effect::MarkDrain(InstanceUid(1))]
    );
}

#[test]
fn old_instances_of_a_member_that_died_unheard_are_replaced_where_nothing_bounds_it() {
    let settle = Settings::default().settle_ms;
    let endless = |uid, claim| InstanceSpec {
        function_timeout_ms: None,
        ..spec(uid, 2, Some(claim))
    };
    let mut role = role(&[1, 2], &[endless(1, Epoch(3)), endless(2, EPOCH)]);
    hello(&mut role, 1, 1, &[], 0);
    role.on_dead(FrontEndId(2), 0);
    assert_eq!(
        replaced(&mut role, settle),
        [Effect::MarkDrain(InstanceUid(1))],
        "the other one is of this term"
    );
}

#[test]
fn the_limit_of_a_drain_is_the_last_fence() {
    let mut role = role(&[1], &[spec(1, 1, Some(EPOCH))]);
    role.set_drain_limit(&group(), 5_000);
    hello(&mut role, 1, 1, &[(1, 1)], 0);
    role.remove(InstanceUid(1), 0);
    role.on_drain_marked(InstanceUid(1), 1_000);
    assert_eq!(replaced(&mut role, 5_999), []);
    assert_eq!(
        replaced(&mut role, 6_000),
        [Effect::ConfirmRecord(InstanceUid(1))]
    );
    assert_eq!(
        role.on_record_confirmed(InstanceUid(1)),
        [Effect::Delete(InstanceUid(1))]
    );
}

#[test]
fn a_pod_that_was_forced_away_proves_nothing_until_nothing_is_left_to_hold() {
    let grace = Settings::default().cut_off_grace_ms;
    let mut role = role(&[1, 2], &[spec(1, 4, Some(EPOCH))]);
    hello(&mut role, 1, 1, &[(1, 1)], 0);
    hello(&mut role, 2, 1, &[], 0);
    assert_eq!(
        writes(&role.on_lost(FrontEndId(1), 0)),
        [],
        "it still speaks"
    );
    role.on_disconnected(FrontEndId(1), Session(1), 0);
    let demand = role.demand(&group(), grace);
    assert_eq!((demand.current, demand.incomplete), (1, false));
    assert_eq!(replaced(&mut role, grace), [], "it may still run a request");
    let effects = role.on_instance_gone(InstanceUid(1), grace);
    assert_eq!(writes(&effects), [Effect::RemoveMember(FrontEndId(1))]);
    // It lives after all: it joins anew, behind its removal.
    let effects = hello(&mut role, 1, 2, &[], 1);
    assert_eq!(writes(&effects), [Effect::AddMember(member(1))]);
    role.on_member_removed(FrontEndId(1), grace);
    role.on_instance(spec(2, 1, Some(EPOCH)), grace);
    let effects = role.on_member_added(member(1), grace);
    assert_eq!(grants(&effects).len(), 1);
}

#[test]
fn a_pod_that_was_forced_away_is_given_up_when_it_stays_silent() {
    let settings = Settings::default();
    let after = settings.cut_off_replace_ms;
    let mut role = role(&[1, 2], &[spec(1, 4, Some(EPOCH))]);
    hello(&mut role, 1, 1, &[(1, 3)], 0);
    role.on_lost(FrontEndId(1), 0);
    role.on_disconnected(FrontEndId(1), Session(1), 50);
    role.tick(50 + after + settings.settle_ms + 1_000);
    assert_eq!(
        role.leased(InstanceUid(1)),
        3,
        "who hears nobody gives up nobody"
    );
    hello(&mut role, 2, 1, &[], 0);
    let late = 100 + after + settings.settle_ms + 1_000;
    assert_eq!(replaced(&mut role, late), [], "it is dead now");
    let over = late + settings.settle_ms + 1_000;
    assert_eq!(
        replaced(&mut role, over),
        [Effect::RemoveMember(FrontEndId(1))]
    );
    assert_eq!(role.leased(InstanceUid(1)), 0);
}

#[test]
fn an_address_is_lent_when_nobody_uses_it_for_an_older_pod() {
    let young = InstanceSpec {
        address: spec(1, 1, None).address,
        ..spec(2, 1, Some(EPOCH))
    };
    let mut role = role(&[1], &[spec(1, 1, Some(EPOCH))]);
    hello(&mut role, 1, 1, &[(1, 1)], 0);
    role.on_instance(young, 0);
    assert_eq!(role.available(InstanceUid(2), 0), 0);
    assert_eq!(role.available(InstanceUid(1), 0), 0, "lent");
    let effects = sync(&mut role, 1, (2, 0), &[], Some(demand(1, 1)));
    assert_eq!(grants(&effects), []);
    let effects = role.on_instance_gone(InstanceUid(1), 0);
    assert_eq!(grants(&effects), [(1, 2, 1)], "at once");
}
