//! One link to each replica of the scaler: addresses come and go, streams that are up stay.

use std::{
    collections::{HashMap, HashSet},
    io,
    net::SocketAddr,
    time::Duration,
};

use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::link::{Link, LinkState};

/// Pause between two looks at the name.
const LOOK: Duration = Duration::from_secs(1);

/// Keeps a link to every address that `name` (host:port) leads to, until `stop`; then waits until the links have ended.
///
/// While the name leads nowhere the known addresses stay: a broken name server is no reason to leave a scaler that answers.
pub(super) async fn follow(name: String, link: Link, stop: CancellationToken) {
    let look = || {
        let name = name.clone();
        async move { Ok(tokio::net::lookup_host(name).await?.collect()) }
    };
    follow_by(&name, look, link, stop).await;
}

/// The same with `look` for a look at the name.
pub(super) async fn follow_by<F>(
    name: &str,
    look: impl Fn() -> F,
    link: Link,
    stop: CancellationToken,
) where
    F: Future<Output = io::Result<HashSet<SocketAddr>>>,
{
    let tasks = TaskTracker::new();
    let mut known: HashMap<SocketAddr, LinkState> = HashMap::new();
    let mut told = String::new();
    loop {
        match look().await {
            Ok(found) => {
                told.clear();
                for &address in &found {
                    known.entry(address).or_insert_with(|| {
                        tracing::info!(%address, "replica of the scaler found");
                        let state = LinkState::new(stop.child_token());
                        tasks.spawn(link.clone().follow(address, state.clone()));
                        state
                    });
                }
                known.retain(|address, state| {
                    // A replica that leaves is out of the name before its stream ends.
                    let stays = found.contains(address) || state.is_up();
                    if !stays {
                        tracing::info!(%address, "replica of the scaler is gone");
                        state.stop();
                    }
                    stays
                });
            }
            Err(error) => {
                let text = error.to_string();
                if text != told {
                    tracing::warn!(name, %error, "replicas of the scaler cannot be looked up, the known ones stay");
                    told = text;
                }
            }
        }
        if stop
            .run_until_cancelled(tokio::time::sleep(LOOK))
            .await
            .is_none()
        {
            break;
        }
    }
    tasks.close();
    tasks.wait().await;
}
