//! Real streams between scripted front ends and the data role, over a cluster that is played.

mod bench;

use super::{Aim, RoleView, SlotsError, Wanted};
use crate::index::{AppKey, GroupKey};
use crate::slots::DemandEvent;
use crate::slots::wire::Heard;
use bench::{Fake, GROUP, Replica, Scripted, soon, uid};
use maniple_core::slots::message::DataRoleSays;
use serde_json::json;

fn is_grant(said: &DataRoleSays) -> bool {
    matches!(said, DataRoleSays::Grant(_))
}

#[tokio::test]
async fn a_waiting_request_is_told_at_once_and_served_by_the_first_instance() {
    let cluster = Fake::default();
    cluster.0.lock().conflicts = 2;
    let mut replica = Replica::start(&cluster).await;
    let mut front = Scripted::open(&replica, 1, 1).await;
    replica.lead();
    front.hello(&[], 1).await;
    let Some(Heard::Routes(routes)) = front.next().await else {
        panic!("routes follow the Lead");
    };
    assert_eq!(routes[0].host, "shop.ns.apps.test");
    assert_eq!(routes[0].group.as_str(), GROUP);
    // At once, long before enough was seen to take anything away.
    let view = replica.until("demand", |view| view.current == 1).await;
    assert!(view.incomplete);
    assert_eq!(cluster.0.lock().record.members.len(), 1);

    cluster.instance(1);
    let DataRoleSays::Grant(slots) = front.until(is_grant).await else {
        unreachable!()
    };
    assert_eq!(slots.len(), 1);
    assert_eq!(cluster.0.lock().claims["shop-http-1"], 1);
    assert_eq!(front.epoch.0, 1);
}

#[tokio::test]
async fn without_any_front_end_nothing_is_counted() {
    let cluster = Fake::default();
    let mut replica = Replica::start(&cluster).await;
    replica.lead();
    let mut roles = Vec::new();
    while roles.last() != Some(&RoleView::Uncounted) {
        if let Some(DemandEvent::Role(role)) = soon("a role", replica.demand.recv()).await {
            roles.push(role);
        }
    }
    assert_eq!(roles, [RoleView::Pending, RoleView::Uncounted]);
    assert!(!cluster.0.lock().record.served);
}

#[tokio::test]
async fn a_deposed_data_role_ends_and_the_next_one_knows_what_is_held() {
    let cluster = Fake::default();
    cluster.instance(1);
    let first = Replica::start(&cluster).await;
    first.lead();
    let mut front = Scripted::open(&first, 1, 1).await;
    front.hello(&[], 1).await;
    front.until(is_grant).await;

    // The first one does not notice that another one leads.
    cluster.instance(1);
    let mut second = Replica::start(&cluster).await;
    second.lead();
    let mut again = Scripted::open(&second, 1, 2).await;
    let mut other = Scripted::open(&second, 2, 1).await;
    let silent = second
        .until("a silent front end", |view| view.incomplete)
        .await;
    assert_eq!(silent.current, 0);
    again.hello(&[(uid(1), 1)], 0).await;
    let known = second.until("the held slot", |view| !view.incomplete).await;
    assert_eq!(known.current, 1);
    assert_eq!(again.epoch.0, 2);

    // One slot, and it is held: the other front end gets it when it comes back.
    other.hello(&[], 1).await;
    let handle = loop {
        match again.until(|_| true).await {
            DataRoleSays::Recall { want: 1, .. } => break None,
            DataRoleSays::Instance(info) => {
                again.sync(0, 1, Vec::new());
                if info.uid == uid(1) {
                    break Some(info.handle);
                }
            }
            _ => {}
        }
    };
    let handle = handle.expect("the instance is told before its recall");
    again
        .until(|said| matches!(said, DataRoleSays::Recall { want: 1, .. }))
        .await;
    again.sync(0, 0, vec![(handle, 1)]);
    other.until(is_grant).await;

    // The first one may not let a front end join any more.
    let mut late = Scripted::open(&first, 3, 1).await;
    late.hello(&[], 1).await;
    let ended = soon("the end of the first", first.run).await.unwrap();
    assert!(matches!(ended, Err(SlotsError::TermOver(_))), "{ended:?}");
    assert_eq!(cluster.0.lock().record.epoch, 2);
}

#[tokio::test]
async fn only_an_empty_instance_leaves_and_the_youngest_first() {
    let cluster = Fake::default();
    cluster.instance(1);
    cluster.instance(2);
    let mut replica = Replica::start(&cluster).await;
    replica.lead();
    let mut front = Scripted::open(&replica, 1, 1).await;
    front.hello(&[], 2).await;
    let mut held = 0;
    while held < 2 {
        if let DataRoleSays::Grant(slots) = front.until(is_grant).await {
            held += slots.len();
        }
    }
    front.sync(0, 2, Vec::new());
    replica
        .until("both at work", |view| view.current == 2)
        .await;
    let wanted = Wanted {
        group: GroupKey::from_text(AppKey::new("ns", "shop"), "http"),
        aim: Some(Aim {
            desired: 1,
            most: 2,
        }),
    };
    replica.wanted.send(wanted).unwrap();
    let DataRoleSays::Drain { handle } = front
        .until(|said| matches!(said, DataRoleSays::Drain { .. }))
        .await
    else {
        unreachable!()
    };
    let draining = replica
        .until("the drain", |view| view.pods.draining == 1)
        .await;
    assert_eq!((draining.pods.live, draining.pods.removable), (2, 0));
    assert!(cluster.0.lock().lowered.is_empty(), "a request runs there");

    front.sync(0, 1, vec![(handle, 1)]);
    let empty = replica
        .until("the empty one", |view| view.pods.removable == 1)
        .await;
    assert_eq!((empty.pods.live, empty.pods.draining), (2, 0));
    let played = cluster.0.lock();
    assert_eq!(played.marked.iter().collect::<Vec<_>>(), ["shop-http-2"]);
    assert_eq!(played.lowered, played.marked);
}

#[tokio::test]
async fn a_front_end_whose_container_ended_is_forgotten_when_it_holds_nothing() {
    let cluster = Fake::default();
    let mut replica = Replica::start(&cluster).await;
    let mut silent = Scripted::open(&replica, 7, 1).await;
    let mut other = Scripted::open(&replica, 8, 1).await;
    replica.lead();
    silent.hello(&[], 1).await;
    other.hello(&[], 1).await;
    replica.until("both", |view| view.current == 2).await;
    assert_eq!(cluster.0.lock().record.members.len(), 2);
    cluster.front_end(json!({"phase": "Running", "containerStatuses": [{
        "name": "front", "restartCount": 1, "image": "i", "imageID": "i", "ready": false,
        "state": {"waiting": {"reason": "CrashLoopBackOff"}},
        "lastState": {"terminated": {"exitCode": 137, "message": format!("{:032x}", 7)}},
    }]}));
    replica.until("its end", |view| view.current == 1).await;
    let alone = async {
        while cluster.0.lock().record.members.len() > 1 {
            tokio::task::yield_now().await;
        }
    };
    soon("the record", alone).await;
}
