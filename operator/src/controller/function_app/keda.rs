//! Whether KEDA is installed, asked again and again: it may come later and it may go.

use kube::Client;
use kube::api::GroupVersionKind;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Time between two questions.
const PERIOD: Duration = Duration::from_secs(20);

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
pub(super) async fn look(client: &Client) -> Result<Keda, kube::Error> {
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

/// Keeps `sender` up to date until `stop`.
pub(super) async fn follow(client: Client, sender: watch::Sender<Keda>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(PERIOD) => {}
        }
        match look(&client).await {
            Ok(keda) => {
                sender.send_if_modified(|old| {
                    let changed = *old != keda;
                    if changed {
                        tracing::info!(installed = keda.installed, "KEDA came or went");
                    }
                    *old = keda;
                    changed
                });
            }
            Err(error) => {
                tracing::warn!(%error, "could not find out whether KEDA is installed; keeping the last answer");
            }
        }
    }
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
    use super::keeps_tolerance;

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
}
