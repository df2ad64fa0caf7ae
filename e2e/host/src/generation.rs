//! One life of the app in the process, and how it ends.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// One life of the app in the process. Restart and resume begin a new one.
#[derive(Debug, Default)]
pub struct Generation {
    /// The worker process has gone: everything that runs is lost.
    pub worker: CancellationToken,
    /// Listeners take no further work.
    pub stop: CancellationToken,
    /// The listeners, each with the work that it has begun.
    pub listeners: TaskTracker,
    is_draining: AtomicBool,
}

impl Generation {
    /// Drain was asked for.
    pub fn is_draining(&self) -> bool {
        self.is_draining.load(Ordering::SeqCst)
    }

    /// No further work is taken, and `/admin/host/drain/status` says so.
    pub fn drain(&self) {
        self.is_draining.store(true, Ordering::SeqCst);
        self.stop();
    }

    /// No further work is taken.
    pub fn stop(&self) {
        self.stop.cancel();
        self.listeners.close();
    }

    /// Cuts all work and waits until the listeners have given back their locks, for at most five seconds.
    pub async fn cut(&self) {
        self.stop();
        self.worker.cancel();
        if tokio::time::timeout(Duration::from_secs(5), self.listeners.wait())
            .await
            .is_err()
        {
            tracing::warn!("listeners did not end in time");
        }
    }
}
