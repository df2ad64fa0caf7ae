use super::bench::{Bench, following, group, leading, workload};
use crate::book::Entry;
use crate::grpc::Answer;
use crate::mirror::{MirrorMessage, Mirrored};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

/// A standby with one app `a` whose Deployment has `replicas`.
async fn standby(replicas: u32) -> Bench {
    let mut bench = Bench::unlisted(following());
    bench.list().await;
    bench.queue_app("a", json!({})).await;
    bench.driven("a", replicas, replicas, "native").await;
    bench
}

/// What a leader says that wants 7.
async fn seven() -> Mirrored {
    let mut leader = Bench::new().await;
    leader.queue_app("a", json!({})).await;
    leader.deployment("a", 7, 7).await;
    leader.messages("a", 168).await;
    match leader.book.entry(&group("a")).unwrap() {
        Entry::Decided { decision, .. } => Mirrored::Decided(decision),
        Entry::Unknown(reason) => panic!("{reason}"),
    }
}

async fn hear(bench: &Bench, full: bool, mirrored: Option<Mirrored>) {
    let groups = mirrored
        .map(|mirrored| (group("a"), Some(mirrored)))
        .into_iter()
        .collect();
    bench
        .mirror
        .send(MirrorMessage { full, groups })
        .await
        .unwrap();
    bench.settle().await;
}

#[tokio::test(start_paused = true)]
async fn a_standby_repeats_the_leader_and_touches_nothing() {
    let seven = seven().await;
    let bench = standby(3).await;
    assert!(matches!(bench.answer("a"), Answer::Unknown { .. }));
    assert!(!bench.played.is_followed("a"));
    hear(&bench, true, Some(seven)).await;
    let known = Answer::Known {
        desired: 7,
        observed: Some(3),
    };
    assert_eq!(bench.answer("a"), known);
    assert_eq!(bench.report("a").sources[0].backlog, Some(168));
    assert_eq!(bench.computations(), 0);
    assert!(bench.wishes.is_empty());

    hear(
        &bench,
        false,
        Some(Mirrored::Unknown(Arc::from("no reading"))),
    )
    .await;
    let unknown = Answer::Unknown {
        reason: "no reading".into(),
    };
    assert_eq!(bench.answer("a"), unknown);
}

#[tokio::test(start_paused = true)]
async fn the_last_word_of_a_silent_leader_is_repeated_for_a_short_time_only() {
    let seven = seven().await;
    let bench = standby(3).await;
    hear(&bench, true, Some(seven)).await;
    bench.pass(8 * SECOND).await;
    hear(&bench, false, None).await;
    bench.pass(8 * SECOND).await;
    assert_eq!(
        bench.desired("a"),
        Some(7),
        "a message without groups is a word too"
    );
    bench.pass(4 * SECOND).await;
    assert!(matches!(bench.answer("a"), Answer::Unknown { .. }));
    hear(&bench, false, None).await;
    assert_eq!(bench.desired("a"), Some(7));
}

#[tokio::test(start_paused = true)]
async fn a_new_leader_never_takes_away_because_it_has_not_read_yet() {
    let seven = seven().await;
    let bench = standby(7).await;
    hear(&bench, true, Some(seven)).await;
    bench.leadership.send_replace(leading());
    bench.settle().await;
    assert!(bench.played.is_followed("a"));
    assert_eq!(bench.desired("a"), Some(7), "held: nothing was read yet");
    bench.queue_fails("a", "timeout").await;
    bench.pass(100 * SECOND).await;
    assert_eq!(bench.desired("a"), Some(7));
    bench.messages("a", 0).await;
    assert_eq!(bench.desired("a"), Some(1));
    bench.pass(55 * SECOND).await;
    assert_eq!(bench.desired("a"), Some(1), "the idle window began anew");
    bench.pass(7 * SECOND).await;
    assert_eq!(bench.desired("a"), Some(0));
}

#[tokio::test(start_paused = true)]
async fn a_restart_without_history_holds_too() {
    let mut bench = Bench::unlisted(leading());
    bench.queue_app("a", json!({})).await;
    bench.driven("a", 6, 6, "native").await;
    bench.list().await;
    assert!(matches!(bench.answer("a"), Answer::Unknown { .. }));
    assert!(bench.wishes.is_empty());
    bench.messages("a", 0).await;
    assert_eq!(bench.desired("a"), Some(1));
    bench.pass(62 * SECOND).await;
    assert_eq!(bench.desired("a"), Some(0));
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_loses_the_lease_stops_reading_and_writing() {
    let mut bench = Bench::new().await;
    bench.queue_app("a", json!({})).await;
    bench.driven("a", 0, 0, "native").await;
    bench.messages("a", 100).await;
    assert_eq!(bench.wishes.wanted(&workload("a")), Some(5));
    bench.leadership.send_replace(following());
    bench.settle().await;
    assert!(bench.wishes.is_empty());
    assert!(!bench.played.is_followed("a"));
    assert!(
        matches!(bench.answer("a"), Answer::Unknown { .. }),
        "until the new leader is heard"
    );
    bench.leadership.send_replace(leading());
    bench.settle().await;
    assert!(bench.played.is_followed("a"));
}
