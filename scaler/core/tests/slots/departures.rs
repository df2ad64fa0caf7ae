//! Front ends and instances that leave, and the demand that they leave behind.

use crate::support::*;
use maniple_core::slots::{
    RemovalState,
    data_role::{Effect, Settings},
    message::{
        DataRoleSays, Epoch, FrontEndId, FrontEndPod, FrontEndSays, Hello, InstanceUid,
        MemberRecord, Session,
    },
};

#[test]
fn a_bye_takes_back_what_was_granted_after_its_last_ack() {
    let mut role = role(&[1], &[spec(1, 2, Some(EPOCH))]);
    hello(&mut role, 1, 1, &[], 1);
    assert_eq!(role.leased(InstanceUid(1)), 1);
    let effects = role
        .on_message(FrontEndId(1), &message(1, 2, 0, FrontEndSays::Bye), 0)
        .unwrap();
    assert_eq!(writes(&effects), [Effect::RemoveMember(FrontEndId(1))]);
    assert_eq!(role.leased(InstanceUid(1)), 0);
    role.on_member_removed(FrontEndId(1), 0);
    assert_eq!(role.members().count(), 0);
}

#[test]
fn slots_of_the_dead_shrink_with_the_count_after_the_settle_time() {
    let settle = Settings::default().settle_ms;
    let mut role = role(&[1], &[spec(1, 4, Some(EPOCH))]);
    hello(&mut role, 1, 1, &[(1, 3)], 0);
    role.on_dead(FrontEndId(1), 100);
    assert_eq!(role.quarantined(100), []);
    role.on_outstanding(InstanceUid(1), 0, 100 + settle - 1, 100 + settle);
    assert_eq!(role.leased(InstanceUid(1)), 3, "asked too early");
    assert_eq!(role.quarantined(100 + settle), [InstanceUid(1)]);
    role.on_outstanding(InstanceUid(1), 2, 100 + settle, 100 + settle);
    role.on_outstanding(InstanceUid(1), 5, 100 + settle, 100 + settle);
    assert_eq!(role.leased(InstanceUid(1)), 2, "orphans only end");
    let effects = role.on_outstanding(InstanceUid(1), 0, 200 + settle, 200 + settle);
    assert_eq!(writes(&effects), [Effect::RemoveMember(FrontEndId(1))]);
    // It is not believed any more, whatever it says.
    hello(&mut role, 1, 9, &[(1, 4)], 0);
    assert_eq!(role.leased(InstanceUid(1)), 0);
}

#[test]
fn the_function_time_limit_ends_a_quarantine_without_counts() {
    let settle = Settings::default().settle_ms;
    let mut role = role(&[1], &[spec(1, 4, Some(EPOCH))]);
    hello(&mut role, 1, 1, &[(1, 3)], 0);
    role.on_dead(FrontEndId(1), 0);
    role.tick(1_000 + settle - 1);
    assert_eq!(role.leased(InstanceUid(1)), 3);
    role.tick(1_000 + settle);
    assert_eq!(role.leased(InstanceUid(1)), 0);
}

#[test]
fn a_member_that_died_unreported_blocks_old_instances_until_they_are_seen_idle() {
    let settle = Settings::default().settle_ms;
    let mut role = role(
        &[1, 2],
        &[spec(1, 2, Some(Epoch(3))), spec(2, 2, Some(EPOCH))],
    );
    hello(&mut role, 1, 1, &[], 0);
    role.on_dead(FrontEndId(2), 0);
    assert_eq!(
        (
            role.available(InstanceUid(1), 0),
            role.available(InstanceUid(2), 0)
        ),
        (0, 2)
    );
    role.on_outstanding(InstanceUid(1), 1, settle, settle);
    assert_eq!(role.available(InstanceUid(1), 0), 1);
    let effects = role.on_outstanding(InstanceUid(1), 0, settle, settle);
    assert_eq!(writes(&effects), [Effect::RemoveMember(FrontEndId(2))]);
    assert_eq!(role.available(InstanceUid(1), 0), 2);
}

#[test]
fn capacity_that_rests_until_a_dead_front_end_is_accounted_for_is_replaced() {
    let settle = Settings::default().settle_ms;
    let mut role = role(&[1, 2], &[spec(1, 2, Some(Epoch(3)))]);
    hello(&mut role, 1, 1, &[], 1);
    assert_eq!(
        role.demand(&group(), 0).current,
        1,
        "the second may still speak"
    );
    role.on_dead(FrontEndId(2), 0);
    let now = role.demand(&group(), 0);
    assert_eq!((now.current, now.certain, now.unheard), (3, 3, 2));
    assert!(
        !now.incomplete,
        "all that it may have held is counted: nothing else is held up"
    );
    role.on_outstanding(InstanceUid(1), 0, settle, settle);
    let now = role.demand(&group(), settle);
    assert_eq!((now.current, now.unheard), (1, 0));
}

#[test]
fn a_restarted_container_proves_the_death_of_the_process_before() {
    let mut role = role(&[1], &[spec(1, 2, Some(EPOCH))]);
    hello(&mut role, 1, 1, &[(1, 1)], 0);
    let newer = MemberRecord {
        id: FrontEndId(9),
        pod: FrontEndPod {
            uid: 1,
            restarts: 1,
        },
    };
    let said = Hello {
        member: newer,
        features: 0,
        slots: vec![],
        demand: vec![],
    };
    role.on_message(
        FrontEndId(9),
        &message(1, 1, 0, FrontEndSays::Hello(said)),
        0,
    )
    .unwrap();
    role.on_member_added(newer, 0);
    assert_eq!(
        role.quarantined(Settings::default().settle_ms),
        [InstanceUid(1)]
    );
}

#[test]
fn an_instance_is_deleted_when_nothing_is_lent_and_the_record_is_ours() {
    let mut role = role(&[1], &[spec(1, 1, Some(EPOCH))]);
    hello(&mut role, 1, 1, &[(1, 1)], 0);
    assert_eq!(
        role.remove(InstanceUid(1), 0),
        [Effect::MarkDrain(InstanceUid(1))]
    );
    let effects = role.on_drain_marked(InstanceUid(1), 0);
    assert!(
        matches!(&effects[..], [Effect::Send { message, .. }] if matches!(message.body, DataRoleSays::Drain { .. }))
    );
    assert_eq!(role.removal(InstanceUid(1)), Some(RemovalState::Draining));
    let effects = sync(&mut role, 1, (2, 0), &[(1, 1)], Some(demand(1, 0)));
    assert_eq!(
        (grants(&effects), writes(&effects)),
        (vec![], vec![Effect::ConfirmRecord(InstanceUid(1))])
    );
    assert_eq!(
        role.on_record_confirmed(InstanceUid(1)),
        [Effect::Delete(InstanceUid(1))]
    );
    assert_eq!(role.on_record_confirmed(InstanceUid(1)), []);
}

#[test]
fn demand_counts_what_is_lost_to_others_and_says_what_it_does_not_know() {
    let grace = Settings::default().cut_off_grace_ms;
    let mut role = role(&[1, 2], &[spec(1, 8, Some(EPOCH))]);
    hello(&mut role, 1, 1, &[(1, 3)], 2);
    let now = role.demand(&group(), 0);
    assert_eq!(
        (now.current, now.waiting, now.incomplete),
        (5, 2, true),
        "the second is silent"
    );
    hello(&mut role, 2, 1, &[(1, 1)], 0);
    assert!(!role.demand(&group(), 0).incomplete);
    sync(&mut role, 1, (2, 2), &[], Some(demand(0, 1)));
    let now = role.demand(&group(), 0);
    assert_eq!((now.current, now.certain, now.unheard), (2, 1, 0));
    // Cut off: at first its last word counts, then all that it holds (5: 3 reported and 2 granted to its waiters).
    role.on_disconnected(FrontEndId(1), Session(1), 0);
    let (early, late) = (
        role.demand(&group(), grace - 1),
        role.demand(&group(), grace),
    );
    assert_eq!((early.current, late.current, late.incomplete), (2, 6, true));
    assert_eq!((early.unheard, late.unheard, late.certain), (0, 5, 6));
    let counts = |fe, now| role.counts(FrontEndId(fe), now);
    assert!(counts(1, grace - 1) && !counts(1, grace) && counts(2, grace) && !counts(3, 0));
}

#[test]
fn a_list_of_the_pods_ends_what_it_does_not_name() {
    let mut role = role(&[1], &[spec(1, 2, Some(EPOCH))]);
    hello(&mut role, 1, 1, &[(1, 1), (5, 1)], 0);
    assert_eq!(
        (role.leased(InstanceUid(1)), role.leased(InstanceUid(5))),
        (1, 1)
    );
    let effects = role.on_listed(&[InstanceUid(1)].into(), 0);
    let gone: Vec<_> = effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Send { message, .. } => match message.body {
                DataRoleSays::Gone { uid } => Some(uid),
                _ => None,
            },
            _ => None,
        })
        .collect();
    assert_eq!(
        (
            gone,
            role.leased(InstanceUid(5)),
            role.leased(InstanceUid(1))
        ),
        (vec![InstanceUid(5)], 0, 1)
    );
}

#[test]
fn no_more_runs_at_a_front_end_than_it_holds() {
    let mut role = role(&[1, 2], &[spec(1, 4, Some(EPOCH))]);
    hello(&mut role, 1, 1, &[(1, 3)], 0);
    hello(&mut role, 2, 1, &[], 0);
    // The requests of the first one have ended and went on at the second: two slots are back, the next report is not.
    sync(&mut role, 1, (2, 0), &[(1, 2)], None);
    sync(&mut role, 2, (2, 0), &[], Some(demand(2, 0)));
    assert_eq!(role.demand(&group(), 0).current, 3);
    // What runs where nothing new is started needs no other instance.
    role.remove(InstanceUid(1), 0);
    role.on_drain_marked(InstanceUid(1), 0);
    assert_eq!(role.demand(&group(), 0).current, 2);
}

#[test]
fn the_last_word_of_a_dead_front_end_does_not_bring_it_back() {
    let mut role = role(&[1, 2], &[spec(1, 1, Some(Epoch(3)))]);
    let settle = Settings::default().settle_ms;
    role.on_dead(FrontEndId(1), 0);
    let effects = role.on_outstanding(InstanceUid(1), 0, settle, settle);
    assert_eq!(writes(&effects), [Effect::RemoveMember(FrontEndId(1))]);
    role.on_member_removed(FrontEndId(1), settle);
    // Said before it died, and late.
    assert_eq!(hello(&mut role, 1, 1, &[(1, 1)], 0), []);
    let effects = hello(&mut role, 2, 1, &[], 1);
    assert_eq!(grants(&effects), [(2, 1, 1)]);
}
