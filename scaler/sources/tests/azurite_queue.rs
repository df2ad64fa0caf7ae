//! Queue backlog and queue operations against a real Azurite.

mod support;

use std::time::Duration;

use maniple_core::queue::BacklogNote;
use maniple_sources::metrics::SourceMetrics;
use maniple_sources::storage::{Account, Operation, QueueClient, Service, StorageError};
use maniple_sources::storage_queue::{QueueReading, QueueTarget, StorageQueueSource};
use support::azurite::{ACCOUNT, Azurite, KEY};
use support::{account_sas, http, settings};

const NOW: Duration = Duration::ZERO;
const HIDDEN: Duration = Duration::from_mins(10);

struct Queue {
    client: QueueClient,
    source: StorageQueueSource,
}

/// The queue as an app with this connection value sees it.
fn queue(connection: &str, name: &str) -> Queue {
    let http = http(&SourceMetrics::default());
    let settings = settings(&[("AzureWebJobsOrders", connection)]);
    let target = QueueTarget::resolve(&settings, Some("Orders"), name).expect("resolves");
    Queue {
        client: QueueClient::new(&http, &target.account, name).expect("a client"),
        source: StorageQueueSource::new(&http, &target).expect("a source"),
    }
}

async fn filled(azurite: &Azurite, name: &str, texts: &[&str]) -> Queue {
    let queue = queue(&azurite.connection_string(ACCOUNT, KEY), name);
    assert!(queue.client.create_queue().await.expect("created"));
    for text in texts {
        queue.client.put_message(text, NOW).await.expect("put");
    }
    queue
}

fn seen(backlog: u64, approximate: u64, note: Option<BacklogNote>) -> QueueReading {
    QueueReading {
        backlog,
        approximate,
        note,
    }
}

#[tokio::test]
async fn backlog_of_every_kind_of_queue() {
    let azurite = Azurite::start().await;
    let poll = async |queue: &Queue| queue.source.poll().await.expect("a backlog");

    let empty = filled(&azurite, "empty", &[]).await;
    assert_eq!(poll(&empty).await, seen(0, 0, None));
    assert!(!empty.client.create_queue().await.expect("was there"));

    let some = filled(&azurite, "some", &["YQ==", "Yg==", "Yw=="]).await;
    assert_eq!(poll(&some).await, seen(3, 3, None));

    // All in work: nothing for a new instance to take.
    let received = some
        .client
        .get_messages(HIDDEN, 32)
        .await
        .expect("received");
    assert_eq!(received.len(), 3);
    assert_eq!(
        poll(&some).await,
        seen(0, 3, Some(BacklogNote::NothingVisible { hidden: 3 }))
    );

    // One more that waits counts together with those in work, as in the original.
    some.client.put_message("ZA==", NOW).await.expect("put");
    assert_eq!(poll(&some).await, seen(4, 4, None));

    let delayed = filled(&azurite, "delayed", &[]).await;
    delayed
        .client
        .put_message("YQ==", HIDDEN)
        .await
        .expect("put");
    assert_eq!(
        poll(&delayed).await,
        seen(0, 1, Some(BacklogNote::NothingVisible { hidden: 1 }))
    );

    let missing = queue(&azurite.connection_string(ACCOUNT, KEY), "missing");
    assert_eq!(
        poll(&missing).await,
        seen(0, 0, Some(BacklogNote::QueueMissing))
    );

    // Names are put in lower case, as the host does.
    let upper = queue(&azurite.connection_string(ACCOUNT, KEY), "SOME");
    assert_eq!(poll(&upper).await, seen(4, 4, None));
}

#[tokio::test]
async fn messages_need_not_be_decodable() {
    let azurite = Azurite::start().await;
    let big = "x".repeat(60 * 1024);
    let texts = ["not base64!", "<a>&amp;\"'</a> \u{1F4A9}", "  ", &big];
    let queue = filled(&azurite, "odd", &texts).await;
    for text in texts {
        let backlog = queue.source.poll().await.expect("a backlog");
        assert!(backlog.backlog > 0 && backlog.note.is_none(), "{backlog:?}");
        let message = queue
            .client
            .get_messages(HIDDEN, 1)
            .await
            .expect("received")
            .remove(0);
        if !text.trim().is_empty() {
            assert_eq!(message.message_text, text);
        }
        queue
            .client
            .delete_message(&message.receipt())
            .await
            .expect("deleted");
    }
    assert_eq!(queue.source.poll().await.expect("a backlog").backlog, 0);
}

#[tokio::test]
async fn credentials() {
    let azurite = Azurite::start().await;
    filled(&azurite, "orders", &["YQ==", "Yg=="]).await;
    let endpoint = azurite.queue_endpoint(ACCOUNT);
    let sas = |rights, expiry| account_sas(ACCOUNT, KEY, rights, expiry);
    let good = sas("rp", "2099-01-01T00:00:00Z");

    for connection in [
        format!("{endpoint}?{good}"),
        format!("QueueEndpoint={endpoint};SharedAccessSignature={good}"),
        azurite.connection_string(ACCOUNT, KEY),
    ] {
        let backlog = queue(&connection, "orders")
            .source
            .poll()
            .await
            .expect("a backlog");
        assert_eq!(backlog, seen(2, 2, None));
    }

    let wrong_key = KEY.replace("Eby8", "Eby9");
    for (connection, secret) in [
        (
            azurite.connection_string(ACCOUNT, &wrong_key),
            wrong_key.as_str(),
        ),
        (
            format!("{endpoint}?{}", good.replace("sig=", "sig=AAAA")),
            "sig=",
        ),
        (
            format!("{endpoint}?{}", sas("rp", "2001-01-01T00:00:00Z")),
            "sig=",
        ),
    ] {
        let error = queue(&connection, "orders")
            .source
            .poll()
            .await
            .expect_err("refused");
        assert_eq!(error.category(), "unauthorized", "{error}");
        assert!(!error.is_transient());
        let shown = format!("{error} {error:?}");
        assert!(
            shown.contains(ACCOUNT) && shown.contains("'orders'"),
            "{shown}"
        );
        assert!(!shown.contains(secret), "{shown}");
    }

    let unknown = azurite.connection_string("otheraccount", KEY);
    let error = queue(&unknown, "orders")
        .source
        .poll()
        .await
        .expect_err("no such account");
    assert!(error.category() != "unreachable", "{error}");
}

#[tokio::test]
async fn a_stopped_service_is_unreachable_and_not_empty() {
    let azurite = Azurite::start().await;
    let queue = filled(&azurite, "orders", &["YQ=="]).await;
    assert_eq!(queue.source.poll().await.expect("a backlog").backlog, 1);
    azurite.stop().await;
    let error = queue.source.poll().await.expect_err("unreachable");
    assert_eq!(error.category(), "unreachable", "{error}");
    assert!(error.is_transient());
    assert!(
        matches!(&error, StorageError::Unreachable { reason, .. } if reason.contains("refused")),
        "{error}"
    );
}

#[tokio::test]
async fn requests_per_poll() {
    let azurite = Azurite::start().await;
    filled(&azurite, "orders", &[]).await;
    let metrics = SourceMetrics::default();
    let http = http(&metrics);
    let account = Account::from_value(
        "X",
        &azurite.connection_string(ACCOUNT, KEY),
        Service::Queue,
    )
    .expect("an account");
    let target = QueueTarget {
        account: account.clone(),
        queue: "orders".to_owned(),
    };
    let source = StorageQueueSource::new(&http, &target).expect("a source");
    let counts =
        || [Operation::QueueProperties, Operation::QueuePeek].map(|o| metrics.requests(o, "ok"));
    source.poll().await.expect("a backlog");
    assert_eq!(counts(), [1, 0]);
    let client = QueueClient::new(&http, &account, "orders").expect("a client");
    client.put_message("YQ==", NOW).await.expect("put");
    source.poll().await.expect("a backlog");
    assert_eq!(counts(), [2, 1]);
}

#[tokio::test]
async fn receiving_updating_and_deleting() {
    let azurite = Azurite::start().await;
    let queue = filled(&azurite, "work", &["one", "two"]).await.client;
    let first = queue
        .get_messages(HIDDEN, 1)
        .await
        .expect("received")
        .remove(0);
    assert_eq!(
        (first.message_text.as_str(), first.dequeue_count),
        ("one", 1)
    );

    // Visible again at once, with another text and a new receipt; the old receipt is void.
    let renewed = queue
        .update_message(&first.receipt(), Some("one & more"), HIDDEN)
        .await
        .expect("updated");
    let void = queue
        .delete_message(&first.receipt())
        .await
        .expect_err("old receipt");
    assert!(
        ["not_found", "rejected"].contains(&void.category()),
        "{void}"
    );
    let visible = queue
        .update_message(&renewed, None, NOW)
        .await
        .expect("updated");
    assert_ne!(visible, renewed);

    let mut texts: Vec<_> = queue
        .get_messages(HIDDEN, 32)
        .await
        .expect("received")
        .into_iter()
        .map(|message| (message.message_text, message.dequeue_count))
        .collect();
    texts.sort();
    assert_eq!(texts, [("one & more".to_owned(), 2), ("two".to_owned(), 1)]);

    queue.clear_messages().await.expect("cleared");
    assert_eq!(queue.approximate_count().await, Ok(0));
    queue.delete_queue().await.expect("deleted");
    let gone = queue.approximate_count().await.expect_err("gone");
    assert_eq!(
        (gone.category(), gone.is_missing_queue()),
        ("not_found", true)
    );
}
