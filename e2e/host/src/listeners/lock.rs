//! The lock of a singleton listener: a lease of an empty blob. One instance at a time holds it.

use std::time::Duration;

use maniple_sources::storage::{BlobClient, PutCondition, StorageError};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Length of a lease. The real host uses this value for listener locks.
pub(super) const LEASE: Duration = Duration::from_mins(1);

/// How long to wait before the next try when somebody else holds the lock.
pub(super) const RECOVERY: Duration = Duration::from_mins(1);

/// A held lock. Dropping it without [`Lock::release`] leaves the lease to run out.
pub(super) struct Lock {
    container: BlobClient,
    path: String,
    id: String,
    /// Cancelled when the lease is known to be somebody else's.
    pub(super) lost: CancellationToken,
    renewal: JoinHandle<()>,
}

/// The name of the lock blob of a function's listener.
pub(super) fn path(host_id: &str, function: &str) -> String {
    format!("locks/{host_id}/Host.Functions.{function}.Listener")
}

impl Lock {
    /// Takes the lock. `None`: another instance holds it.
    pub(super) async fn take(
        container: &BlobClient,
        path: &str,
        lease: Duration,
    ) -> Result<Option<Self>, StorageError> {
        let id = uuid();
        let taken = match container.acquire_lease(path, &id, lease).await {
            Err(error) if error.is_missing_blob() => {
                container.create_container().await?;
                match container.put_blob(path, "", PutCondition::IfMissing).await {
                    // Another instance has made it, and perhaps leased it already.
                    Err(error) if is_held(&error) => {}
                    made => made?,
                }
                container.acquire_lease(path, &id, lease).await
            }
            taken => taken,
        };
        match taken {
            Ok(()) => {}
            Err(error) if is_held(&error) => return Ok(None),
            Err(error) => return Err(error),
        }
        let lost = CancellationToken::new();
        let renewal = tokio::spawn(renew(
            container.clone(),
            path.to_owned(),
            id.clone(),
            lease / 2,
            lost.clone(),
        ));
        Ok(Some(Self {
            container: container.clone(),
            path: path.to_owned(),
            id,
            lost,
            renewal,
        }))
    }

    /// Gives the lock back, so that another instance need not wait for the end of the lease.
    pub(super) async fn release(self) {
        self.renewal.abort();
        let released = self.container.release_lease(&self.path, &self.id);
        match tokio::time::timeout(Duration::from_secs(3), released).await {
            Ok(Ok(())) => tracing::debug!(lock = self.path, "released"),
            Ok(Err(error)) => tracing::warn!(lock = self.path, "not released: {error}"),
            Err(_) => tracing::warn!(lock = self.path, "not released in time"),
        }
    }
}

async fn renew(
    container: BlobClient,
    path: String,
    id: String,
    period: Duration,
    lost: CancellationToken,
) {
    let mut pause = period;
    loop {
        tokio::time::sleep(pause).await;
        match container.renew_lease(&path, &id).await {
            Ok(()) => pause = period,
            Err(error) if error.is_transient() => {
                tracing::warn!(lock = path, "not renewed: {error}");
                pause = (period / 10).max(Duration::from_millis(200));
            }
            Err(error) => {
                tracing::error!(lock = path, "lost: {error}");
                lost.cancel();
                return;
            }
        }
    }
}

/// Whether the answer means that somebody else has the blob.
fn is_held(error: &StorageError) -> bool {
    matches!(
        error.code(),
        Some(
            "LeaseAlreadyPresent"
                | "LeaseIdMissing"
                | "LeaseIsBreakingAndCannotBeAcquired"
                | "BlobAlreadyExists"
        )
    )
}

/// A random UUID, version 4.
fn uuid() -> String {
    let bits = (fastrand::u128(..) & !(0xf << 76) & !(0x3 << 62)) | (0x4 << 76) | (0x2 << 62);
    let digits = format!("{bits:032x}");
    format!(
        "{}-{}-{}-{}-{}",
        &digits[..8],
        &digits[8..12],
        &digits[12..16],
        &digits[16..20],
        &digits[20..]
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lease_ids_are_random_uuids() {
        let id = uuid();
        assert_eq!(id.len(), 36);
        assert_eq!(&id[14..15], "4");
        assert!(matches!(&id[19..20], "8" | "9" | "a" | "b"), "{id}");
        assert_ne!(id, uuid());
    }

    #[test]
    fn lock_paths() {
        assert_eq!(
            path("labapp", "minutely"),
            "locks/labapp/Host.Functions.minutely.Listener"
        );
    }
}
