//! Whether KEDA is installed, asked again and again: it may come later and it may go.

use super::memory::jitter;
use super::owned::Owned;
use kube::Client;
use kube::api::GroupVersionKind;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Time between two questions.
const PERIOD: Duration = Duration::from_secs(20);
/// Time between two questions before the first answer.
const FIRST: Duration = Duration::from_secs(2);
/// Times in a row that KEDA must be missing before it counts as gone. One may come from an API server that has just started.
const MISSES: u32 = 2;

/// What the cluster offers for the driver KEDA.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Keda {
    /// ScaledObjects exist.
    pub installed: bool,
    /// The API server keeps a tolerance in an HPA's behaviour: beta and on by default since 1.35 (KEP-4951). Older servers
    /// drop the field, and steps below 10 % are then swallowed by the HPA.
    pub hpa_tolerance: bool,
}

/// Asks once.
///
/// # Errors
/// When the API server does not answer: unknown is not absent.
async fn look(client: &Client) -> Result<Keda, kube::Error> {
    let gvk = GroupVersionKind::gvk("keda.sh", "v1alpha1", "ScaledObject");
    let installed = match kube::discovery::pinned_kind(client, &gvk).await {
        Ok(_) => true,
        Err(kube::Error::Api(status)) if status.code == 404 => false,
        Err(kube::Error::Discovery(_)) => false,
        Err(error) => return Err(error),
    };
    let version = client.apiserver_version().await?;
    Ok(Keda {
        installed,
        hpa_tolerance: keeps_tolerance(&version.major, &version.minor),
    })
}

/// The first answer; `None` when `stop` came before it.
pub(super) async fn first(client: &Client, stop: &CancellationToken) -> Option<Keda> {
    loop {
        let answer = tokio::select! {
            () = stop.cancelled() => return None,
            answer = look(client) => answer,
        };
        match answer {
            Ok(keda) => return Some(keda),
            Err(error) => {
                tracing::warn!(
                    "could not find out whether KEDA is installed: {error}; asking again"
                );
            }
        }
        tokio::select! {
            () = stop.cancelled() => return None,
            () = tokio::time::sleep(jitter(FIRST)) => {}
        }
    }
}

/// Keeps `sender` up to date until `stop`.
pub(super) async fn follow(client: Client, sender: watch::Sender<Keda>, stop: CancellationToken) {
    let mut misses = 0;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(PERIOD) => {}
        }
        match look(&client).await {
            Ok(mut keda) => {
                keda.installed =
                    still_installed(sender.borrow().installed, keda.installed, &mut misses);
                sender.send_if_modified(|old| {
                    if old.installed != keda.installed {
                        let what = if keda.installed { "came" } else { "went" };
                        tracing::info!("KEDA {what}");
                    } else if *old != keda {
                        tracing::info!(
                            hpa_tolerance = keda.hpa_tolerance,
                            "the API server has another version"
                        );
                    }
                    std::mem::replace(old, keda.clone()) != keda
                });
            }
            Err(error) => {
                tracing::warn!(
                    "could not find out whether KEDA is installed: {error}; keeping the last answer"
                );
            }
        }
    }
}

/// What to believe after another look.
fn still_installed(before: bool, now: bool, misses: &mut u32) -> bool {
    if now || !before {
        *misses = 0;
        return now;
    }
    *misses += 1;
    if *misses < MISSES {
        return true;
    }
    *misses = 0;
    false
}

/// Fires when KEDA comes or goes, after the watch of ScaledObjects was switched and has seen what there is.
pub(super) fn changes(
    keda: watch::Receiver<Keda>,
    owned: Owned,
) -> impl futures::Stream<Item = ()> + Send + 'static {
    futures::stream::unfold((keda, owned), |(mut keda, owned)| async move {
        keda.changed().await.ok()?;
        let installed = keda.borrow_and_update().installed;
        owned.follow_keda(installed);
        owned.scaled_objects_ready().await;
        Some(((), (keda, owned)))
    })
}

/// Minor versions may carry a suffix, such as `35+`.
fn keeps_tolerance(major: &str, minor: &str) -> bool {
    let number = |text: &str| {
        text.trim_end_matches(|c: char| !c.is_ascii_digit())
            .parse::<u32>()
            .unwrap_or(0)
    };
    (number(major), number(minor)) >= (1, 35)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tolerance_is_kept_since_1_35() {
        for (major, minor, kept) in [
            ("1", "34", false),
            ("1", "35", true),
            ("1", "36+", true),
            ("2", "0", true),
            ("", "", false),
        ] {
            assert_eq!(keeps_tolerance(major, minor), kept, "{major}.{minor}");
        }
    }

    #[test]
    fn keda_is_gone_when_it_is_missing_twice_in_a_row() {
        let mut misses = 0;
        let mut believed = true;
        let seen: Vec<bool> = [false, true, false, false, false, true]
            .into_iter()
            .map(|now| {
                believed = still_installed(believed, now, &mut misses);
                believed
            })
            .collect();
        assert_eq!(seen, [true, true, true, false, false, true]);
    }
}
