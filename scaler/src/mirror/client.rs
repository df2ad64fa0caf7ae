//! The standby's side.

use super::MirrorMessage;
use super::message::decode;
use super::server::HEARTBEAT;
use maniple_proto::mirror::WatchRequest;
use maniple_proto::mirror::mirror_client::MirrorClient;
use maniple_runtime::LeaderState;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};

/// Limit for opening a connection to the leader.
const CONNECT: Duration = Duration::from_secs(2);
/// Silence after which the connection is given up: two heartbeats and a bit.
const SILENCE: Duration = Duration::from_secs(2 * HEARTBEAT.as_secs() + 1);
/// Shortest and longest wait before the leader is asked again.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(2));
/// Largest message that is read, far above what a leader sends.
const MESSAGE_BYTES: usize = 16 << 20;

/// Why the leader is followed no longer.
#[derive(Debug, thiserror::Error)]
enum FollowError {
    #[error("no connection: {0}")]
    Connect(#[from] tonic::transport::Error),
    #[error("{}: {}", .0.code(), .0.message())]
    Refused(#[from] tonic::Status),
    #[error("nothing heard for {} s", SILENCE.as_secs())]
    Silent,
    #[error("a message was lost")]
    Gap,
    #[error("the leader ended the stream")]
    Ended,
}

/// The address in the identity of a leader, which is written `pod/ip:port`.
pub fn address(identity: &str) -> Option<SocketAddr> {
    identity.rsplit_once('/')?.1.parse().ok()
}

/// Follows whoever leads until `stop` is cancelled or nobody listens to `messages` any more.
pub async fn follow(
    identity: String,
    mut leadership: watch::Receiver<LeaderState>,
    messages: mpsc::Sender<MirrorMessage>,
    stop: CancellationToken,
) {
    let mut wait = RETRY.0;
    while !messages.is_closed() {
        let leader = match &*leadership.borrow_and_update() {
            LeaderState::Following { holder } => holder
                .as_ref()
                .filter(|holder| **holder != identity)
                .and_then(|holder| address(holder)),
            LeaderState::Leading { .. } => None,
        };
        let follow = async {
            let Some(leader) = leader else {
                return std::future::pending().await;
            };
            let mut heard = false;
            let error = session(leader, &identity, &messages, &mut heard).await;
            tracing::info!(%leader, "leader not followed any longer: {error}");
            heard
        };
        let heard = tokio::select! {
            () = stop.cancelled() => return,
            changed = leadership.changed() => {
                if changed.is_err() {
                    return;
                }
                wait = RETRY.0;
                continue;
            }
            heard = follow => heard,
        };
        wait = if heard {
            RETRY.0
        } else {
            (wait * 2).min(RETRY.1)
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = sleep(wait) => {}
        }
    }
}

async fn session(
    leader: SocketAddr,
    identity: &str,
    messages: &mpsc::Sender<MirrorMessage>,
    heard: &mut bool,
) -> FollowError {
    match listen(leader, identity, messages, heard).await {
        Ok(()) => FollowError::Ended,
        Err(error) => error,
    }
}

async fn listen(
    leader: SocketAddr,
    identity: &str,
    messages: &mpsc::Sender<MirrorMessage>,
    heard: &mut bool,
) -> Result<(), FollowError> {
    let channel: Channel = Endpoint::from_shared(format!("http://{leader}"))?
        .connect_timeout(CONNECT)
        .connect()
        .await?;
    let mut client = MirrorClient::new(channel).max_decoding_message_size(MESSAGE_BYTES);
    let request = WatchRequest {
        follower: identity.to_owned(),
    };
    let opened = timeout(SILENCE, client.watch(request)).await;
    let mut stream = opened.map_err(|_| FollowError::Silent)??.into_inner();
    let mut sequence = 0;
    loop {
        let message = timeout(SILENCE, stream.message()).await;
        let Some(snapshot) = message.map_err(|_| FollowError::Silent)?? else {
            return Ok(());
        };
        sequence += 1;
        if snapshot.sequence != sequence {
            return Err(FollowError::Gap);
        }
        *heard = true;
        if messages.send(decode(snapshot)).await.is_err() {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests;
