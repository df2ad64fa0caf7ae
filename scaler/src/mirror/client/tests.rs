//! A standby and a leader over a real connection on this machine.

use super::*;
use crate::book::{Book, Entry};
use crate::index::{AppKey, GroupKey};
use crate::mirror::{MirrorService, Mirrored};
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;

struct Leader {
    book: Arc<Book>,
    leadership: watch::Sender<LeaderState>,
    identity: String,
    stop: CancellationToken,
}

async fn leader() -> Leader {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let identity = format!("pod-0/{}", listener.local_addr().unwrap());
    let book = Arc::new(Book::new("starting"));
    book.open();
    book.speak(true);
    let leading = LeaderState::Leading {
        since: Instant::now(),
    };
    let leadership = watch::Sender::new(leading);
    let stop = CancellationToken::new();
    let service = MirrorService::new(Arc::clone(&book), leadership.subscribe(), stop.clone());
    let serving = Server::builder()
        .add_service(service.into_server())
        .serve_with_incoming_shutdown(
            TcpListenerStream::new(listener),
            stop.clone().cancelled_owned(),
        );
    tokio::spawn(serving);
    Leader {
        book,
        leadership,
        identity,
        stop,
    }
}

fn standby(leader: &Leader) -> (mpsc::Receiver<MirrorMessage>, watch::Sender<LeaderState>) {
    let (sender, receiver) = mpsc::channel(16);
    let holder = Some(leader.identity.clone());
    let leadership = watch::Sender::new(LeaderState::Following { holder });
    let follow = follow(
        "pod-1/127.0.0.1:1".into(),
        leadership.subscribe(),
        sender,
        CancellationToken::new(),
    );
    tokio::spawn(follow);
    (receiver, leadership)
}

fn key(n: usize) -> GroupKey {
    GroupKey::from_text(AppKey::new("ns", format!("a{n}")), "http")
}

fn unknown(reason: &str) -> Mirrored {
    Mirrored::Unknown(reason.into())
}

#[test]
fn the_address_stands_behind_the_name() {
    assert_eq!(address("pod-0/10.0.0.7:9090"), "10.0.0.7:9090".parse().ok());
    assert_eq!(
        address("pod-0/[fd00::7]:9090"),
        "[fd00::7]:9090".parse().ok()
    );
    assert_eq!(address("pod-0"), None);
    assert_eq!(address("pod-0/somewhere"), None);
}

#[tokio::test]
async fn a_standby_gets_everything_and_then_what_changes() {
    let leader = leader().await;
    for n in 0..1200 {
        leader.book.write(&key(n), Entry::Unknown("begin".into()));
    }
    let (mut messages, _leadership) = standby(&leader);
    let mut groups = Vec::new();
    while groups.len() < 1200 {
        let message = messages.recv().await.unwrap();
        assert_eq!(message.full, groups.is_empty());
        groups.extend(message.groups);
    }
    leader.book.write(&key(7), Entry::Unknown("news".into()));
    leader.book.remove(&key(8));
    let mut news = Vec::new();
    while news.len() < 2 {
        let message = messages.recv().await.unwrap();
        assert!(!message.full);
        news.extend(message.groups);
    }
    assert_eq!(news, [(key(7), Some(unknown("news"))), (key(8), None)]);
    leader.stop.cancel();
}

#[tokio::test]
async fn a_leader_that_says_nothing_new_is_still_heard() {
    let leader = leader().await;
    let (mut messages, _leadership) = standby(&leader);
    assert!(messages.recv().await.unwrap().full);
    let heartbeat = messages.recv().await.unwrap();
    assert_eq!((heartbeat.full, heartbeat.groups.len()), (false, 0));
    leader.stop.cancel();
}

#[tokio::test]
async fn who_does_not_lead_is_not_followed_and_asked_again() {
    let leader = leader().await;
    leader
        .leadership
        .send_replace(LeaderState::Following { holder: None });
    let (mut messages, _leadership) = standby(&leader);
    let early = timeout(Duration::from_millis(300), messages.recv()).await;
    assert!(early.is_err(), "{early:?}");
    leader.leadership.send_replace(LeaderState::Leading {
        since: Instant::now(),
    });
    assert!(messages.recv().await.unwrap().full);

    // It stops leading: the stream ends, and a new one begins with everything when it leads again.
    leader
        .leadership
        .send_replace(LeaderState::Following { holder: None });
    leader
        .book
        .write(&key(1), Entry::Unknown("meanwhile".into()));
    leader.leadership.send_replace(LeaderState::Leading {
        since: Instant::now(),
    });
    loop {
        let message = messages.recv().await.unwrap();
        if message.groups.iter().any(|(key_, _)| *key_ == key(1)) {
            break;
        }
    }
    leader.stop.cancel();
}
