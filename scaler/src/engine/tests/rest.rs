//! What many groups cost when nothing happens.

use super::bench::Bench;
use serde_json::json;
use std::time::Duration;

#[tokio::test(start_paused = true)]
async fn ten_thousand_groups_at_rest_are_not_looked_at() {
    const GROUPS: usize = 10_000;
    let mut bench = Bench::new().await;
    // Half of them wait for a queue that they share in tens, half for a timer at night that has run.
    for n in 0..GROUPS {
        let name = format!("a{n}");
        if n % 2 == 0 {
            let binding = json!({"type": "queueTrigger", "queueName": format!("q{}", n / 20)});
            bench.send_app(&name, binding, json!({})).await;
        } else {
            let binding = json!({"type": "timerTrigger", "schedule": "0 0 3 * * *"});
            bench.send_app(&name, binding, json!({})).await;
        }
        bench.send_deployment(&name, 0, 0, "keda").await;
    }
    bench.settle().await;
    for n in 0..GROUPS / 20 {
        bench.messages(&format!("q{n}"), 0).await;
    }
    let night = json!({
        "Last": "2026-06-01T03:00:00+00:00", "Next": "2026-06-02T03:00:00+00:00", "LastUpdated": "2026-06-01T03:00:00+00:00"
    });
    bench.status(Some(night)).await;
    assert_eq!(bench.desired("a0"), Some(0));
    assert_eq!(bench.desired("a1"), Some(0));

    let before = bench.computations();
    assert!(before >= GROUPS as u64, "{before}");
    // The same readings again and again, as pollers make them.
    for _ in 0..60 {
        for n in 0..GROUPS / 20 {
            bench.messages(&format!("q{n}"), 0).await;
        }
        bench.pass(Duration::from_secs(1)).await;
    }
    assert_eq!(bench.computations(), before, "computations at rest");

    // One message wakes the ten groups of its queue and nobody else.
    bench.messages("q7", 1).await;
    assert_eq!(bench.computations(), before + 10);
    assert_eq!(bench.desired("a140"), Some(1));
}
