//! Answers that a healthy service never gives. A loopback server plays them, because Azurite cannot be made to.

mod support;

use std::time::Duration;

use maniple_core::queue::BacklogNote;
use maniple_sources::cadence::CadenceOptions;
use maniple_sources::gate::Gate;
use maniple_sources::metrics::SourceMetrics;
use maniple_sources::registry::QueueRegistry;
use maniple_sources::storage::{HttpOptions, Operation, StorageHttp};
use maniple_sources::storage_queue::{QueueTarget, StorageQueueSource};
use support::answers::{Answers, http_answer};
use support::{http, patiently, settings};

const BUSY: &str = "x-ms-error-code: ServerBusy\r\nRetry-After: 3\r\n";

fn target(port: u16, queue: &str) -> QueueTarget {
    let endpoint = format!("http://127.0.0.1:{port}/acct");
    let connection = format!("QueueEndpoint={endpoint};SharedAccessSignature=sv=1&sig=hunter2");
    QueueTarget::resolve(
        &settings(&[("AzureWebJobsStorage", &connection)]),
        None,
        queue,
    )
    .expect("resolves")
}

#[tokio::test]
async fn categories_and_no_secret_in_any_message() {
    let count = "x-ms-approximate-messages-count: many\r\n";
    let cases: [(Vec<u8>, &str, bool); 9] = [
        (http_answer("503 Busy", BUSY, ""), "throttled", true),
        (http_answer("429 Slow", "", ""), "throttled", true),
        (
            http_answer("500 Oops", "x-ms-error-code: InternalError\r\n", ""),
            "server_error",
            true,
        ),
        (
            http_answer("302 Found", "Location: http://127.0.0.1:1/\r\n", ""),
            "rejected",
            false,
        ),
        (
            http_answer("404 Not Found", "", "<html>hunter2</html>"),
            "not_found",
            false,
        ),
        (http_answer("200 OK", "", "hello"), "malformed", false),
        (http_answer("200 OK", count, ""), "malformed", false),
        (
            http_answer("200 OK", "", &"x".repeat(100_000)),
            "too_large",
            false,
        ),
        (b"SSH-2.0-OpenSSH\r\n".to_vec(), "unreachable", true),
    ];
    let server = Answers::start(b"").await;
    let target = target(server.port, "orders");
    let source =
        StorageQueueSource::new(&http(&SourceMetrics::default()), &target).expect("a source");
    for (answer, category, transient) in cases {
        server.answer_from_now(&answer);
        let error = source.poll().await.expect_err(category);
        assert_eq!(
            (error.category(), error.is_transient()),
            (category, transient),
            "{error}"
        );
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains("hunter2"), "{shown}");
    }
    server.answer_from_now(&http_answer("503 Busy", BUSY, ""));
    let error = source.poll().await.expect_err("throttled");
    assert_eq!(error.retry_after(), Some(Duration::from_secs(3)));
}

#[tokio::test]
async fn silence_ends_with_a_timeout() {
    let server = Answers::start(b"").await;
    let options = HttpOptions {
        total_timeout: Duration::from_millis(200),
        ..HttpOptions::default()
    };
    let metrics = SourceMetrics::default();
    let http = StorageHttp::new(options, metrics.clone());
    let source = StorageQueueSource::new(&http, &target(server.port, "orders")).expect("a source");
    let error = patiently("the timeout", source.poll())
        .await
        .expect_err("silence");
    assert_eq!(
        (error.category(), error.is_transient()),
        ("timeout", true),
        "{error}"
    );
    assert_eq!(metrics.requests(Operation::QueueProperties, "timeout"), 1);
}

#[tokio::test]
async fn a_failed_peek_leaves_the_count() {
    // The same answer to count and peek: as an answer to a peek it is not a message list.
    let server = Answers::start(&http_answer(
        "200 OK",
        "x-ms-approximate-messages-count: 7\r\n",
        "?",
    ))
    .await;
    let source = StorageQueueSource::new(
        &http(&SourceMetrics::default()),
        &target(server.port, "orders"),
    )
    .expect("a source");
    let backlog = source.poll().await.expect("a backlog");
    assert_eq!((backlog.backlog, backlog.approximate), (7, 7));
    assert!(
        matches!(&backlog.note, Some(BacklogNote::PeekFailed { error }) if error.contains("message list"))
    );
}

#[tokio::test]
async fn throttling_pauses_all_queues_of_the_account() {
    let server = Answers::start(&http_answer("503 Busy", "Retry-After: 3\r\n", "")).await;
    let metrics = SourceMetrics::default();
    let registry = QueueRegistry::new(
        http(&metrics),
        Gate::new(1),
        CadenceOptions::default(),
        metrics.clone(),
    );
    let mut subscriptions: Vec<_> = ["one", "two", "three"]
        .map(|queue| {
            registry
                .subscribe(&target(server.port, queue))
                .expect("subscribes")
        })
        .into();
    // The first poll is answered with 503; with one place in the gate the others find the account paused.
    let first = async {
        while subscriptions.iter().all(|s| s.latest().error().is_none()) {
            tokio::task::yield_now().await;
        }
    };
    patiently("the first answer", first).await;
    assert_eq!(server.requests(), 1);
    let errors = subscriptions
        .iter()
        .filter(|s| s.latest().error().is_some())
        .count();
    assert_eq!(errors, 1);

    let ok = http_answer("200 OK", "x-ms-approximate-messages-count: 0\r\n", "");
    server.answer_from_now(&ok);
    for subscription in &mut subscriptions {
        patiently("the recovery", async {
            while subscription.latest().reading().is_none() {
                subscription.changed().await.expect("polling goes on");
            }
        })
        .await;
    }
}
