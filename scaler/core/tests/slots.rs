//! The books of the data role, rule by rule.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

use std::net::{Ipv4Addr, SocketAddr};

use maniple_core::slots::{
    RemovalState,
    data_role::{DataRole, Deposed, Effect, Effects, InstanceSpec, Settings},
    message::{
        DataRoleSays, Epoch, FrontEndId, FrontEndPod, FrontEndSays, GroupDemand, GroupId, Handle,
        Header, HeldSlots, Hello, InstanceUid, MemberRecord, Rank, Seq, Session, Sync, Tier,
        ToDataRole,
    },
};

const EPOCH: Epoch = Epoch(7);

fn group() -> GroupId {
    GroupId::new("g")
}

fn member(fe: u128) -> MemberRecord {
    MemberRecord {
        id: FrontEndId(fe),
        pod: FrontEndPod {
            uid: fe,
            restarts: 0,
        },
    }
}

fn spec(uid: u128, cap: u16, claim: Option<Epoch>) -> InstanceSpec {
    InstanceSpec {
        uid: InstanceUid(uid),
        group: group(),
        address: SocketAddr::from((Ipv4Addr::LOCALHOST, 80)),
        cap,
        rank: Rank {
            tier: Tier::OnDemand,
            age: uid as u64,
        },
        claim,
        draining: false,
        function_timeout_ms: Some(1_000),
    }
}

fn role(members: &[u128], instances: &[InstanceSpec]) -> DataRole {
    let settings = Settings {
        ahead_percent: 0,
        ..Settings::default()
    };
    DataRole::takeover(
        EPOCH,
        members.iter().map(|fe| member(*fe)),
        instances.iter().cloned(),
        settings,
        0,
    )
    .0
}

fn demand(waiting: u32, busy: u32) -> GroupDemand {
    GroupDemand {
        group: group(),
        waiting,
        busy,
        peak: waiting + busy,
        oldest_wait_ms: 0,
    }
}

fn message(session: u64, seq: u64, ack: u64, body: FrontEndSays) -> ToDataRole {
    ToDataRole {
        header: Header {
            epoch: EPOCH,
            session: Session(session),
            seq: Seq(seq),
            ack: Seq(ack),
        },
        body,
    }
}

fn hello(
    role: &mut DataRole,
    fe: u128,
    session: u64,
    held: &[(u128, u16)],
    waiting: u32,
) -> Effects {
    let slots = held
        .iter()
        .map(|&(uid, held)| HeldSlots {
            uid: InstanceUid(uid),
            held,
            busy: held,
        })
        .collect();
    let busy = held.iter().map(|(_, held)| u32::from(*held)).sum();
    let said = Hello {
        member: member(fe),
        features: 0,
        slots,
        demand: vec![demand(waiting, busy)],
    };
    role.on_message(
        FrontEndId(fe),
        &message(session, 1, 0, FrontEndSays::Hello(said)),
        0,
    )
    .unwrap()
}

/// A Sync of session 1.
fn sync(
    role: &mut DataRole,
    fe: u128,
    (seq, ack): (u64, u64),
    released: &[(u32, u16)],
    want: Option<GroupDemand>,
) -> Effects {
    let released = released
        .iter()
        .map(|&(handle, n)| (Handle(handle), n))
        .collect();
    let said = Sync {
        released,
        demand: want.into_iter().collect(),
        shed: Vec::new(),
    };
    role.on_message(
        FrontEndId(fe),
        &message(1, seq, ack, FrontEndSays::Sync(said)),
        0,
    )
    .unwrap()
}

/// `(front end, instance by handle, slots)` of every grant.
fn grants(effects: &Effects) -> Vec<(u128, u32, u16)> {
    let mut all = Vec::new();
    for effect in effects {
        if let Effect::Send { to, message } = effect
            && let DataRoleSays::Grant(slots) = &message.body
        {
            all.extend(slots.iter().map(|(handle, n)| (to.0, handle.0, *n)));
        }
    }
    all
}

/// `(front end, want, must)` of every recall.
fn recalls(effects: &Effects) -> Vec<(u128, u32, u32)> {
    effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Send { to, message } => match &message.body {
                DataRoleSays::Recall { want, must, .. } => Some((to.0, *want, *must)),
                _ => None,
            },
            _ => None,
        })
        .collect()
}

fn writes(effects: &Effects) -> Vec<Effect> {
    effects
        .iter()
        .filter(|effect| !matches!(effect, Effect::Send { .. }))
        .cloned()
        .collect()
}

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
    sync(
        &mut role,
        1,
        (2, 2),
        &[],
        Some(GroupDemand {
            peak: 9,
            ..demand(0, 1)
        }),
    );
    let now = role.demand(&group(), 0);
    assert_eq!((now.current, now.peak), (2, 10));
    role.end_peak_window(&group());
    assert_eq!(role.demand(&group(), 0).peak, 2);
    // Cut off: at first its last word counts, then all that it holds (5: 3 reported and 2 granted to its waiters).
    role.on_disconnected(FrontEndId(1), Session(1), 0);
    let (early, late) = (
        role.demand(&group(), grace - 1),
        role.demand(&group(), grace),
    );
    assert_eq!((early.current, late.current, late.incomplete), (2, 6, true));
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
