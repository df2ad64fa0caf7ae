//! What is lent, to whom, and what is asked back.

use crate::support::*;
use maniple_core::slots::{
    data_role::{Deposed, Effect, Effects},
    message::{
        DataRoleSays, Epoch, FrontEndId, FrontEndSays, Handle, Header, InstanceUid, Sync,
        ToDataRole,
    },
};

#[test]
fn a_waiter_gets_a_slot_and_the_grant_on_its_way_counts_for_it() {
    let mut role = role(&[1], &[spec(1, 2, Some(EPOCH))]);
    assert_eq!(grants(&hello(&mut role, 1, 1, &[], 1)), [(1, 1, 1)]);
    // The same number again, without the ack of the grant: nothing more is needed. With it (message 2 of the session), one more is.
    assert_eq!(
        grants(&sync(&mut role, 1, (2, 0), &[], Some(demand(1, 0)))),
        []
    );
    assert_eq!(
        grants(&sync(&mut role, 1, (3, 2), &[], Some(demand(1, 1)))),
        [(1, 1, 1)]
    );
    assert_eq!(
        (
            role.lease(FrontEndId(1), InstanceUid(1)),
            role.available(InstanceUid(1), 0)
        ),
        (2, 0)
    );
}

#[test]
fn older_sessions_and_repeated_messages_change_nothing() {
    let mut role = role(&[1], &[spec(1, 4, Some(EPOCH))]);
    hello(&mut role, 1, 2, &[(1, 3)], 0);
    hello(&mut role, 1, 1, &[], 9);
    sync(&mut role, 1, (5, 0), &[(1, 2)], None);
    assert_eq!(role.lease(FrontEndId(1), InstanceUid(1)), 3);
    let release = Sync {
        released: vec![(Handle(1), 1)],
        ..Sync::default()
    };
    let twice = message(2, 2, 0, FrontEndSays::Sync(release));
    for _ in 0..2 {
        role.on_message(FrontEndId(1), &twice, 0).unwrap();
    }
    assert_eq!(role.lease(FrontEndId(1), InstanceUid(1)), 2);
}

#[test]
fn a_front_end_that_follows_a_higher_epoch_deposes() {
    let mut role = role(&[1], &[]);
    let stale = message(0, 1, 0, FrontEndSays::Stale);
    assert_eq!(
        role.on_message(FrontEndId(1), &stale, 0),
        Err(Deposed { epoch: EPOCH })
    );
    let other = ToDataRole {
        header: Header {
            epoch: Epoch(6),
            ..stale.header
        },
        ..stale
    };
    assert_eq!(
        role.on_message(FrontEndId(1), &other, 0),
        Ok(Effects::new())
    );
}

#[test]
fn nothing_is_lent_to_a_front_end_before_the_record_names_it() {
    let mut role = role(&[], &[spec(1, 1, Some(EPOCH))]);
    let effects = hello(&mut role, 1, 1, &[], 1);
    assert_eq!(effects, [Effect::AddMember(member(1))]);
    // What it says meanwhile is kept.
    assert_eq!(sync(&mut role, 1, (2, 0), &[], Some(demand(2, 0))), []);
    let effects = role.on_member_added(member(1), 0);
    assert_eq!(grants(&effects), [(1, 1, 1)]);
    assert_eq!(role.demand(&group(), 0).waiting, 2);
}

#[test]
fn before_all_members_reported_only_what_was_reported_circulates() {
    // Claims: none yet, ours, an older one, a newer one.
    let cases: [(Option<Epoch>, u32); 4] = [
        (None, 0),
        (Some(EPOCH), 4),
        (Some(Epoch(3)), 0),
        (Some(Epoch(8)), 0),
    ];
    for (claim, available) in cases {
        let role = role(&[1, 2], &[spec(1, 4, claim)]);
        assert_eq!(role.available(InstanceUid(1), 0), available, "{claim:?}");
    }
    let mut role = role(&[1, 2], &[spec(1, 4, Some(Epoch(3)))]);
    hello(&mut role, 1, 1, &[(1, 2)], 0);
    assert_eq!(role.available(InstanceUid(1), 0), 0);
    sync(&mut role, 1, (2, 0), &[(1, 1)], None);
    assert_eq!(
        (role.available(InstanceUid(1), 0), role.recovered()),
        (1, false)
    );
    hello(&mut role, 2, 1, &[(1, 1)], 0);
    assert_eq!(
        (role.available(InstanceUid(1), 0), role.recovered()),
        (2, true)
    );
}

#[test]
fn the_claim_is_asked_for_once_and_the_first_one_stands() {
    let mut role = role(&[1], &[]);
    hello(&mut role, 1, 1, &[], 1);
    let effects = role.on_instance(spec(1, 1, None), 0);
    assert_eq!(writes(&effects), [Effect::Claim(InstanceUid(1))]);
    assert!(
        matches!(effects[0], Effect::Send { .. }),
        "announced before anything can be granted"
    );
    assert_eq!(writes(&role.on_instance(spec(1, 1, None), 0)), []);
    assert_eq!(
        grants(&role.on_claim(InstanceUid(1), Epoch(9), 0)),
        [],
        "a newer data role has it"
    );
    assert_eq!(role.claim(InstanceUid(1)), Some(Epoch(9)));
}

#[test]
fn who_holds_least_for_its_demand_is_next_and_others_are_asked() {
    let mut role = role(&[1, 2], &[spec(1, 3, Some(EPOCH))]);
    assert_eq!(grants(&hello(&mut role, 1, 1, &[], 3)), [(1, 1, 3)]);
    // Two wait elsewhere; everything is out: asked by level, one turn for who holds nothing, share 1 of 3.
    let effects = hello(&mut role, 2, 1, &[], 2);
    assert_eq!(
        (grants(&effects), recalls(&effects)),
        (vec![], vec![(1, 2, 1)])
    );
    // The same level is not said again; what is returned is lent on and lowers it.
    assert_eq!(
        recalls(&sync(&mut role, 2, (2, 0), &[], Some(demand(2, 0)))),
        []
    );
    let effects = sync(&mut role, 1, (2, 2), &[(1, 1)], Some(demand(0, 2)));
    assert_eq!(
        (grants(&effects), recalls(&effects)),
        (vec![(2, 1, 1)], vec![])
    );
    // Nobody waits any more: the rest is called off.
    assert_eq!(
        recalls(&sync(&mut role, 2, (3, 3), &[], Some(demand(0, 1)))),
        [(1, 0, 0)]
    );
}

#[test]
fn a_lowered_cap_is_asked_back_from_every_holder_of_that_instance() {
    let mut role = role(&[1, 2], &[spec(1, 4, Some(EPOCH)), spec(2, 4, Some(EPOCH))]);
    hello(&mut role, 1, 1, &[(1, 3), (2, 1)], 0);
    hello(&mut role, 2, 1, &[(1, 1)], 0);
    let trims = |effects: &Effects| -> Vec<(u128, u32, u16)> {
        effects
            .iter()
            .filter_map(|effect| match effect {
                Effect::Send { to, message } => match message.body {
                    DataRoleSays::Trim { handle, excess } => Some((to.0, handle.0, excess)),
                    _ => None,
                },
                _ => None,
            })
            .collect()
    };
    assert_eq!(
        trims(&role.on_instance(spec(1, 2, Some(EPOCH)), 0)),
        [(1, 1, 2), (2, 1, 1)]
    );
    assert_eq!(
        trims(&sync(&mut role, 1, (2, 0), &[(1, 2)], None)),
        [(2, 1, 0)],
        "enough is back"
    );
    assert_eq!(
        (
            role.leased(InstanceUid(1)),
            role.available(InstanceUid(1), 0)
        ),
        (2, 0)
    );
}
