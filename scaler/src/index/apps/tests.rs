use super::super::references::{Kind, ReadError, Values};
use super::*;
use maniple_sources::secret::Secret;
use parking_lot::Mutex;
use serde_json::json;

/// One Secret for all, as a plain value.
#[derive(Clone, Default)]
struct OneSecret {
    value: Arc<Mutex<&'static str>>,
    reads: Arc<Mutex<u32>>,
}

impl Reader for OneSecret {
    async fn read(&self, _: &str, _: Kind, _: &str) -> Result<Values, ReadError> {
        *self.reads.lock() += 1;
        Ok([("k".to_owned(), Secret::new(*self.value.lock()))].into())
    }
}

struct Bench {
    secret: OneSecret,
    seen: mpsc::Sender<Seen<FunctionApp>>,
    refused: mpsc::Sender<AppKey>,
    events: mpsc::Receiver<AppEvent>,
}

fn bench() -> Bench {
    let secret = OneSecret::default();
    *secret.value.lock() = "queue-1";
    let (seen, seen_receiver) = mpsc::channel(16);
    let (refused, refused_receiver) = mpsc::channel(16);
    let (sender, events) = mpsc::channel(16);
    tokio::spawn(run(
        References::new(secret.clone()),
        seen_receiver,
        refused_receiver,
        sender,
        CancellationToken::new(),
    ));
    Bench {
        secret,
        seen,
        refused,
        events,
    }
}

fn app(name: &str, generation: i64, max: i32) -> Seen<FunctionApp> {
    let app = json!({
        "apiVersion": "maniple.dev/v1alpha1", "kind": "FunctionApp",
        "metadata": {"namespace": "ns", "name": name, "generation": generation},
        "spec": {
            "image": "i",
            "appSettings": [
                {"name": "AzureWebJobsStorage", "value": "AccountName=a;AccountKey=a2V5"},
                {"name": "Q", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
            ],
            "functionAppConfig": {"scaleAndConcurrency": {"maximumInstanceCount": max}},
            "functions": [{"name": "f", "bindings": [{"type": "queueTrigger", "queueName": "%Q%"}]}],
        },
    });
    Seen::Object(Box::new(serde_json::from_value(app).unwrap()))
}

fn queue(event: AppEvent) -> (AppKey, i64, String) {
    let AppEvent::Planned(key, plan) = event else {
        panic!("{event:?}")
    };
    let super::super::InputPlan::Queue(queue) = &plan.groups[0].inputs[0] else {
        panic!("{plan:?}")
    };
    (key, plan.generation, queue.target.queue.clone())
}

#[tokio::test(start_paused = true)]
async fn apps_are_planned_before_the_list_counts_as_complete() {
    let mut bench = bench();
    for event in [app("a", 1, 5), app("b", 1, 5), Seen::Listed] {
        bench.seen.send(event).await.unwrap();
    }
    let mut planned = [
        bench.events.recv().await.unwrap(),
        bench.events.recv().await.unwrap(),
    ]
    .map(|e| queue(e).0.to_string());
    planned.sort();
    assert_eq!(planned, ["ns/a", "ns/b"]);
    assert_eq!(bench.events.recv().await, Some(AppEvent::Listed));
}

#[tokio::test(start_paused = true)]
async fn only_a_change_makes_a_new_plan() {
    let mut bench = bench();
    bench.seen.send(app("a", 1, 5)).await.unwrap();
    assert_eq!(queue(bench.events.recv().await.unwrap()).1, 1);
    bench.seen.send(app("a", 1, 5)).await.unwrap();
    bench.seen.send(app("a", 2, 6)).await.unwrap();
    assert_eq!(queue(bench.events.recv().await.unwrap()).1, 2);
    let gone = Seen::Gone {
        namespace: "ns".into(),
        name: "a".into(),
    };
    bench.seen.send(gone).await.unwrap();
    assert_eq!(
        bench.events.recv().await,
        Some(AppEvent::Gone(AppKey::new("ns", "a")))
    );
}

#[tokio::test(start_paused = true)]
async fn a_changed_secret_is_noticed_without_any_event() {
    let mut bench = bench();
    bench.seen.send(app("a", 1, 5)).await.unwrap();
    assert_eq!(queue(bench.events.recv().await.unwrap()).2, "queue-1");
    *bench.secret.value.lock() = "queue-2";
    let begin = Instant::now();
    assert_eq!(queue(bench.events.recv().await.unwrap()).2, "queue-2");
    assert!(begin.elapsed() <= REFRESH * 2, "{:?}", begin.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_refused_credential_reads_the_secret_again_but_not_all_the_time() {
    let mut bench = bench();
    bench.seen.send(app("a", 1, 5)).await.unwrap();
    bench.events.recv().await.unwrap();
    *bench.secret.value.lock() = "queue-2";
    tokio::time::sleep(REFUSED_AGE * 2).await;
    for _ in 0..5 {
        bench.refused.send(AppKey::new("ns", "a")).await.unwrap();
    }
    assert_eq!(queue(bench.events.recv().await.unwrap()).2, "queue-2");
    assert_eq!(*bench.secret.reads.lock(), 2);
}
