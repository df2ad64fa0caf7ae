//! Shared polling against a real Azurite: one poller for many, outages, waking.

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use maniple_core::queue::BacklogNote;
use maniple_sources::cadence::CadenceOptions;
use maniple_sources::gate::Gate;
use maniple_sources::metrics::SourceMetrics;
use maniple_sources::registry::{QueueObservation, QueueRegistry, QueueSubscription};
use maniple_sources::storage::{QueueClient, StorageHttp};
use maniple_sources::storage_queue::{QueueReading, QueueTarget};
use support::azurite::{ACCOUNT, Azurite, KEY};
use support::{account_sas, http, patiently, settings};

const KIND: &str = "storage_queue";

fn target(connection: &str, queue: &str) -> QueueTarget {
    let settings = settings(&[("AzureWebJobsStorage", connection)]);
    QueueTarget::resolve(&settings, None, queue).expect("resolves")
}

struct World {
    metrics: SourceMetrics,
    http: StorageHttp,
    registry: QueueRegistry,
}

fn world(cadence: CadenceOptions) -> World {
    let metrics = SourceMetrics::default();
    let http = http(&metrics);
    let registry = QueueRegistry::new(http.clone(), Gate::default(), cadence, metrics.clone());
    World {
        metrics,
        http,
        registry,
    }
}

/// Waits for an observation that fits.
async fn observed(
    subscription: &mut QueueSubscription,
    what: &str,
    fits: impl Fn(&QueueObservation) -> bool,
) -> Arc<QueueObservation> {
    patiently(what, async {
        let mut latest = subscription.latest();
        while !fits(&latest) {
            latest = subscription.changed().await.expect("polling goes on");
        }
        latest
    })
    .await
}

fn messages(n: u64) -> impl Fn(&QueueObservation) -> bool {
    move |observation| {
        observation
            .reading()
            .is_some_and(|reading| reading.backlog == n)
    }
}

async fn pollers_reach(metrics: &SourceMetrics, n: i64) {
    patiently("the number of pollers", async {
        while metrics.pollers(KIND) != n {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn many_subscribers_share_one_poller() {
    let azurite = Azurite::start().await;
    let world = world(CadenceOptions::default());
    let target = target(&azurite.connection_string(ACCOUNT, KEY), "orders");
    let queue = QueueClient::new(&world.http, &target.account, "orders").expect("a client");
    queue.create_queue().await.expect("created");

    let mut subscriptions: Vec<_> = (0..50)
        .map(|_| world.registry.subscribe(&target).expect("subscribes"))
        .collect();
    assert_eq!(world.registry.len(), 1);
    for subscription in &mut subscriptions {
        observed(subscription, "the first reading", messages(0)).await;
    }
    assert_eq!(world.metrics.pollers(KIND), 1);

    let put = Instant::now();
    queue
        .put_message("YQ==", Duration::ZERO)
        .await
        .expect("put");
    for subscription in &mut subscriptions {
        observed(subscription, "the message", messages(1)).await;
    }
    // What Azurite itself counted. 50 separate pollers would have needed at least 50 requests per state; one poller needs a handful,
    // and at most five per second while it is busy.
    let allowed = 10 + 5 * usize::try_from(put.elapsed().as_secs()).expect("a few seconds");
    let polls = azurite.requests("comp=metadata");
    assert!(
        (2..=allowed).contains(&polls),
        "{polls} polls, {allowed} allowed"
    );

    // Another credential for the same queue has its own poller.
    let sas = account_sas(ACCOUNT, KEY, "rp", "2099-01-01T00:00:00Z");
    let by_sas = self::target(
        &format!("{}?{sas}", azurite.queue_endpoint(ACCOUNT)),
        "orders",
    );
    let mut other = world.registry.subscribe(&by_sas).expect("subscribes");
    observed(&mut other, "the reading by SAS", messages(1)).await;
    assert_eq!(world.metrics.pollers(KIND), 2);
    drop(other);
    pollers_reach(&world.metrics, 1).await;

    // The poller ends with its last subscriber, and starts again with the next one.
    let last = subscriptions.pop();
    drop(subscriptions);
    assert_eq!(world.metrics.pollers(KIND), 1);
    drop(last);
    pollers_reach(&world.metrics, 0).await;
    assert!(world.registry.is_empty());
    let mut again = world.registry.subscribe(&target).expect("subscribes");
    observed(&mut again, "a reading after all had left", messages(1)).await;
}

#[tokio::test]
async fn an_outage_is_an_error_that_keeps_the_last_reading() {
    let azurite = Azurite::start().await;
    let world = world(CadenceOptions {
        error_min: Duration::from_millis(50),
        error_max: Duration::from_millis(200),
        ..CadenceOptions::default()
    });
    let target = target(&azurite.connection_string(ACCOUNT, KEY), "orders");
    let queue = QueueClient::new(&world.http, &target.account, "orders").expect("a client");
    queue.create_queue().await.expect("created");
    queue
        .put_message("YQ==", Duration::ZERO)
        .await
        .expect("put");
    let mut subscription = world.registry.subscribe(&target).expect("subscribes");
    let before = observed(&mut subscription, "the message", messages(1)).await;
    assert_eq!(before.last_ok.as_ref().map(|last| last.at), Some(before.at));

    let (queue_port, blob_port) = (azurite.queue_port, azurite.blob_port);
    azurite.stop().await;
    let during = observed(&mut subscription, "the failure", |o| o.error().is_some()).await;
    let error = during.error().expect("an error");
    assert_eq!((error.category, error.transient), ("unreachable", true));
    assert!(error.message.contains("'orders'"), "{}", error.message);
    assert_eq!(during.reading(), None);
    let expected = QueueReading {
        backlog: 1,
        approximate: 1,
        note: None,
    };
    assert_eq!(
        during.last_ok.as_ref().map(|last| &last.reading),
        Some(&expected)
    );

    // Azurite forgets everything, so the queue is missing afterwards: read again, and zero this time.
    let _azurite = Azurite::start_on(queue_port, blob_port).await;
    let after = observed(&mut subscription, "the recovery", messages(0)).await;
    let note = after.reading().and_then(|reading| reading.note.clone());
    assert_eq!(note, Some(BacklogNote::QueueMissing));
    queue.create_queue().await.expect("created");
    queue
        .put_message("YQ==", Duration::ZERO)
        .await
        .expect("put");
    observed(
        &mut subscription,
        "the message in the new queue",
        messages(1),
    )
    .await;
}

#[tokio::test]
async fn a_kick_polls_at_once() {
    let azurite = Azurite::start().await;
    let long = Duration::from_hours(1);
    let world = world(CadenceOptions {
        idle_min: long,
        idle_max: long,
        ..CadenceOptions::default()
    });
    let target = target(&azurite.connection_string(ACCOUNT, KEY), "orders");
    let queue = QueueClient::new(&world.http, &target.account, "orders").expect("a client");
    queue.create_queue().await.expect("created");
    let mut subscription = world.registry.subscribe(&target).expect("subscribes");
    observed(&mut subscription, "the first reading", messages(0)).await;

    queue
        .put_message("YQ==", Duration::ZERO)
        .await
        .expect("put");
    subscription.kick();
    observed(&mut subscription, "the message", messages(1)).await;
}

#[tokio::test]
async fn dropping_the_registry_ends_all_polling() {
    let azurite = Azurite::start().await;
    let World {
        metrics, registry, ..
    } = world(CadenceOptions::default());
    let target = target(&azurite.connection_string(ACCOUNT, KEY), "orders");
    let mut subscription = registry.subscribe(&target).expect("subscribes");
    observed(&mut subscription, "the first reading", messages(0)).await;
    drop(registry);
    let end = patiently("the end of polling", async {
        while subscription.changed().await.is_some() {}
    });
    end.await;
    assert_eq!(metrics.pollers(KIND), 0);
    // What was known stays readable.
    assert!(messages(0)(&subscription.latest()));
}

#[tokio::test]
async fn targets_that_can_never_work_are_refused_at_once() {
    let world = world(CadenceOptions::default());
    let target = target("UseDevelopmentStorage=true", "not a queue name");
    let error = world.registry.subscribe(&target).err().expect("refused");
    assert_eq!(error.category(), "name_invalid");
    assert!(world.registry.is_empty());
}
