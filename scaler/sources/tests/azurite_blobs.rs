//! Timer status, concurrency snapshot, leases against a real Azurite.

mod support;

use std::time::Duration;

use maniple_core::concurrency::ConcurrencyOptions;
use maniple_core::timer::ScheduleStatus;
use maniple_sources::concurrency_snapshot::ConcurrencySnapshotSource;
use maniple_sources::gate::Gate;
use maniple_sources::metrics::SourceMetrics;
use maniple_sources::storage::{Account, BlobClient, MAX_BLOB_BYTES, PutCondition, Service};
use maniple_sources::timer_status::{
    HOST_CONTAINER, TimerStatus, TimerStatusSource, TimerStatusWatch,
};
use support::azurite::{ACCOUNT, Azurite, KEY};
use support::{http, patiently, settings};

const HOST_ID: &str = "myapp-00000001";
const STATUS: &str = r#"{"Last":"0001-01-01T00:54:00+00:54","Next":"2026-11-23T08:00:00+01:00","LastUpdated":"2026-11-22T17:41:26.1791017+01:00"}"#;
const LEASE: &str = "11111111-2222-3333-4444-555555555555";
const OTHER: &str = "99999999-2222-3333-4444-555555555555";

fn account(connection: &str) -> Account {
    Account::resolve(
        &settings(&[("AzureWebJobsStorage", connection)]),
        None,
        Service::Blob,
    )
    .expect("an account")
}

fn container(azurite: &Azurite) -> BlobClient {
    let account = account(&azurite.connection_string(ACCOUNT, KEY));
    BlobClient::new(&http(&SourceMetrics::default()), &account, HOST_CONTAINER).expect("a client")
}

fn timer(azurite: &Azurite, key: &str) -> TimerStatusSource {
    let account = account(&azurite.connection_string(ACCOUNT, key));
    let http = http(&SourceMetrics::default());
    TimerStatusSource::new(&http, &account, HOST_ID, "Nightly").expect("a source")
}

#[tokio::test]
async fn timer_status_of_every_kind() {
    let azurite = Azurite::start().await;
    let (container, source) = (container(&azurite), timer(&azurite, KEY));
    let path = ScheduleStatus::blob_path(HOST_ID, "Nightly");
    assert_eq!(source.path(), path);

    // No container, then no blob: never started.
    assert_eq!(source.read().await, Ok(TimerStatus::Missing));
    assert_eq!(container.create_container().await, Ok(true));
    assert_eq!(container.create_container().await, Ok(false));
    assert_eq!(source.read().await, Ok(TimerStatus::Missing));

    let put = async |content: &str| {
        container
            .put_blob(&path, content.to_owned(), PutCondition::Always)
            .await
            .expect("put");
    };
    for bytes in [STATUS, "", "not json"] {
        put(bytes).await;
        let read = source.read().await.expect("read");
        assert!(
            matches!(&read, TimerStatus::Present { content, .. } if content == bytes),
            "{bytes}: {read:?}"
        );
    }

    put(&" ".repeat(MAX_BLOB_BYTES + 1)).await;
    let long = source.read().await.expect_err("too long");
    assert_eq!(long.category(), "too_large", "{long}");

    let wrong_key = KEY.replace("Eby8", "Eby9");
    let refused = timer(&azurite, &wrong_key)
        .read()
        .await
        .expect_err("refused");
    assert_eq!(refused.category(), "unauthorized", "{refused}");

    azurite.stop().await;
    let gone = source.read().await.expect_err("unreachable");
    assert_eq!(gone.category(), "unreachable", "{gone}");
}

#[tokio::test]
async fn a_watch_sees_the_run_recorded() {
    let azurite = Azurite::start().await;
    let container = container(&azurite);
    container.create_container().await.expect("created");
    let metrics = SourceMetrics::default();
    let gate = Gate::default();
    let asleep = Duration::from_hours(1);
    let mut watch = TimerStatusWatch::spawn(timer(&azurite, KEY), asleep, &gate, metrics.clone());
    let first = patiently("the first reading", watch.changed())
        .await
        .expect("watching");
    assert_eq!(first.reading(), Some(&TimerStatus::Missing));

    // Asleep, a read is asked for.
    let path = ScheduleStatus::blob_path(HOST_ID, "Nightly");
    let lease_free = PutCondition::Always;
    container
        .put_blob(&path, STATUS, lease_free)
        .await
        .expect("put");
    watch.kick();
    let second = patiently("the first status", watch.changed())
        .await
        .expect("watching");
    let TimerStatus::Present { etag: before, .. } = second.reading().expect("a reading") else {
        panic!("{second:?}");
    };

    // Awake, it is seen without asking, also when the text is the same (a new version was written).
    watch.set_interval(Duration::from_millis(50));
    container
        .put_blob(&path, STATUS, lease_free)
        .await
        .expect("put");
    let third = patiently("the next status", watch.changed())
        .await
        .expect("watching");
    let TimerStatus::Present { etag: after, .. } = third.reading().expect("a reading") else {
        panic!("{third:?}");
    };
    assert_ne!(before, after);

    assert_eq!(metrics.pollers("timer_status"), 1);
    drop(watch);
    patiently("the end of the watch", async {
        while metrics.pollers("timer_status") != 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn concurrency_snapshot() {
    let azurite = Azurite::start().await;
    let container = container(&azurite);
    let account = account(&azurite.connection_string(ACCOUNT, KEY));
    let http = http(&SourceMetrics::default());
    let source = ConcurrencySnapshotSource::new(&http, &account, HOST_ID).expect("a source");
    assert_eq!(source.read().await, Ok(None));
    container.create_container().await.expect("created");
    assert_eq!(source.read().await, Ok(None));
    let text = r#"{"Timestamp":"2026-01-01T00:00:00Z","NumberOfCores":4,"FunctionSnapshots":{}}"#;
    container
        .put_blob(
            &ConcurrencyOptions::blob_path(HOST_ID),
            text,
            PutCondition::Always,
        )
        .await
        .expect("put");
    assert_eq!(
        source.read().await.expect("read").as_deref(),
        Some(text.as_bytes())
    );
}

#[tokio::test]
async fn leases_and_conditions() {
    let azurite = Azurite::start().await;
    let container = container(&azurite);
    container.create_container().await.expect("created");
    let path = "locks/my app/Host.Functions.A+B%/x.Listener";
    let minute = Duration::from_mins(1);
    let put =
        async |content: &'static str, condition| container.put_blob(path, content, condition).await;
    let conflict = |result: Result<(), maniple_sources::storage::StorageError>| {
        let error = result.expect_err("a conflict");
        assert_eq!(error.category(), "conflict", "{error}");
    };

    let missing = container
        .acquire_lease(path, LEASE, minute)
        .await
        .expect_err("no blob");
    assert!(missing.is_missing_blob(), "{missing}");
    put("1", PutCondition::IfMissing).await.expect("put");
    conflict(put("2", PutCondition::IfMissing).await);

    container
        .acquire_lease(path, LEASE, minute)
        .await
        .expect("leased");
    conflict(container.acquire_lease(path, OTHER, minute).await);
    conflict(put("3", PutCondition::Always).await);
    conflict(put("3", PutCondition::Lease(OTHER)).await);
    put("4", PutCondition::Lease(LEASE))
        .await
        .expect("put by the holder");
    container.renew_lease(path, LEASE).await.expect("renewed");
    conflict(container.renew_lease(path, OTHER).await);
    container
        .release_lease(path, LEASE)
        .await
        .expect("released");
    container
        .acquire_lease(path, OTHER, minute)
        .await
        .expect("leased by another");
    container
        .release_lease(path, OTHER)
        .await
        .expect("released");

    assert_eq!(container.get(path).await.expect("read").content, "4");
    container.delete_blob(path).await.expect("deleted");
    assert!(
        container
            .get(path)
            .await
            .expect_err("gone")
            .is_missing_blob()
    );
}
