//! The name of the scaler, as its replicas come and go.

use std::{collections::HashSet, net::SocketAddr, sync::Arc};

use parking_lot::Mutex;

use super::*;

#[tokio::test]
async fn replicas_are_joined_and_left_as_the_name_says_and_a_broken_name_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    certificates(&authority(), folder.path());
    let (first, mut first_streams) = replica(folder.path()).await;
    let (second, mut second_streams) = replica(folder.path()).await;
    let answer = Arc::new(Mutex::new(Some(HashSet::from([first]))));
    let asked = Arc::clone(&answer);
    let front = FrontEnd::with_names(folder.path(), move || {
        let answer: Option<HashSet<SocketAddr>> = asked.lock().clone();
        answer.ok_or_else(|| std::io::Error::other("no name server"))
    })
    .await;
    let mut one = soon("the first replica", first_streams.recv())
        .await
        .unwrap();
    one.lead(1).await;

    // A second one comes, and leads.
    *answer.lock() = Some(HashSet::from([first, second]));
    let mut two = soon("the second replica", second_streams.recv())
        .await
        .unwrap();
    two.lead(2).await;

    // The name server is away: streams that break are opened again at the known addresses.
    *answer.lock() = None;
    drop(two);
    let mut two = soon("the second replica again", second_streams.recv())
        .await
        .unwrap();
    two.lead(2).await;

    // The first one is out of the name. Its stream may go on, but a new one is not opened.
    *answer.lock() = Some(HashSet::from([second]));
    drop(one);
    let left = async {
        // A stream may have been on its way when the name changed.
        while first_streams.try_recv().is_ok()
            || !front.metrics.encode().contains("maniple_front_streams 1\n")
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    soon("the first replica to be left", left).await;
    two.say(2, 1, 1, DataRoleSays::Handover).await;
    front.close.cancel();
    drop(two);
    soon("the streams", front.closed).await.unwrap();
    assert!(first_streams.try_recv().is_err(), "it was left");
}
