use super::bench::{Bench, workload};
use crate::native::{WriteError, Written, WrittenScale};
use serde_json::json;
use std::time::Duration;

#[tokio::test(start_paused = true)]
async fn only_native_groups_are_written_and_only_when_the_number_differs() {
    let mut bench = Bench::new().await;
    bench.queue_app("native", json!({})).await;
    bench.queue_app("keda", json!({})).await;
    bench.driven("native", 0, 0, "native").await;
    bench.driven("keda", 0, 0, "keda").await;
    bench.messages("native", 100).await;
    bench.messages("keda", 100).await;
    assert_eq!(bench.desired("keda"), Some(5));
    assert_eq!(bench.wishes.wanted(&workload("keda")), None);
    assert_eq!(bench.wishes.wanted(&workload("native")), Some(5));
    bench.driven("native", 5, 0, "native").await;
    assert_eq!(bench.wishes.wanted(&workload("native")), None);
    bench.driven("native", 3, 3, "native").await;
    assert_eq!(
        bench.wishes.wanted(&workload("native")),
        Some(5),
        "somebody else wrote"
    );
    bench.driven("native", 3, 3, "unsaid").await;
    assert_eq!(bench.wishes.wanted(&workload("native")), None);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_taken_away_for_unknown_and_nothing_is_touched_while_paused() {
    let mut bench = Bench::new().await;
    bench.queue_app("a", json!({})).await;
    bench.driven("a", 8, 8, "native").await;
    bench.queue_fails("a", "timeout").await;
    assert_eq!(
        bench.wishes.wanted(&workload("a")),
        None,
        "nothing was ever decided"
    );
    bench.messages("a", 100).await;
    assert_eq!(bench.wishes.wanted(&workload("a")), Some(5));
    bench.queue_fails("a", "timeout").await;
    assert_eq!(
        bench.wishes.wanted(&workload("a")),
        None,
        "8 are there, 8 are kept"
    );
    bench.messages("a", 0).await;
    assert_eq!(bench.wishes.wanted(&workload("a")), Some(1));
    bench
        .queue_app("a", json!({"scaling": {"mode": "Paused"}}))
        .await;
    assert_eq!(bench.wishes.wanted(&workload("a")), None);
}

#[tokio::test(start_paused = true)]
async fn what_was_written_counts_before_the_watch_tells_it() {
    let mut bench = Bench::new().await;
    bench.queue_app("a", json!({})).await;
    bench.driven("a", 0, 0, "native").await;
    bench.messages("a", 100).await;
    let written = |result| Written {
        workload: workload("a"),
        wanted: 5,
        result,
    };
    let failed = WriteError::Failed {
        category: "server",
        message: "busy".into(),
    };
    bench.written.send(written(Err(failed))).unwrap();
    bench.settle().await;
    assert_eq!(bench.wishes.wanted(&workload("a")), Some(5));
    let scale = WrittenScale {
        replicas: 5,
        version: Some(900),
    };
    bench.written.send(written(Ok(scale))).unwrap();
    bench.settle().await;
    assert_eq!(bench.wishes.wanted(&workload("a")), None);
    // An event from before the write comes late.
    bench.driven("a", 0, 0, "native").await;
    assert_eq!(bench.wishes.wanted(&workload("a")), None);
    bench.pass(Duration::from_secs(5)).await;
    assert_eq!(bench.wishes.wanted(&workload("a")), None);
}
