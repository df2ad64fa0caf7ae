//! What still has to happen before this process may be sent work.

use std::{collections::BTreeMap, sync::Arc};

use tokio::sync::watch;

/// A set of named pending tasks; the process is ready when the set is empty. Clones share the set.
///
/// A new set is ready, so take the first guard before the admin server starts.
#[derive(Debug, Clone)]
pub struct Readiness {
    pending: Arc<watch::Sender<Tasks>>,
}

#[derive(Debug, Default)]
struct Tasks {
    next: u64,
    names: BTreeMap<u64, String>,
}

impl Default for Readiness {
    fn default() -> Self {
        Self {
            pending: Arc::new(watch::Sender::new(Tasks::default())),
        }
    }
}

impl Readiness {
    /// Makes the process not ready until the guard is dropped. `task` is shown by /ready.
    #[must_use = "dropping the guard ends the task"]
    pub fn pending(&self, task: impl Into<String>) -> Pending {
        let mut key = 0;
        self.pending.send_modify(|tasks| {
            key = tasks.next;
            tasks.next += 1;
            tasks.names.insert(key, task.into());
        });
        Pending {
            readiness: self.clone(),
            key,
        }
    }

    /// Whether nothing is pending.
    pub fn is_ready(&self) -> bool {
        self.pending.borrow().names.is_empty()
    }

    /// The names of the pending tasks, oldest first.
    pub fn waiting_for(&self) -> Vec<String> {
        self.pending.borrow().names.values().cloned().collect()
    }

    /// Waits until the process is ready (`true`) or no longer ready (`false`); returns at once if it is so already.
    pub async fn until(&self, ready: bool) {
        self.pending
            .subscribe()
            .wait_for(|tasks| tasks.names.is_empty() == ready)
            .await
            .map(drop)
            .expect("the sender lives in self");
    }
}

/// One pending task; dropping it marks the task as done.
#[derive(Debug)]
pub struct Pending {
    readiness: Readiness,
    key: u64,
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.readiness.pending.send_modify(|tasks| {
            tasks.names.remove(&self.key);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_when_every_guard_is_dropped() {
        let readiness = Readiness::default();
        assert!(readiness.is_ready());
        let apps = readiness.pending("apps");
        let again = readiness.pending("apps");
        let pods = readiness.clone().pending("pods");
        drop(apps);
        assert_eq!(readiness.waiting_for(), ["apps", "pods"]);
        drop(pods);
        assert!(!readiness.is_ready());
        drop(again);
        assert!(readiness.is_ready());
    }

    #[tokio::test]
    async fn changes_can_be_awaited() {
        let readiness = Readiness::default();
        readiness.until(true).await;
        let guard = readiness.pending("drain");
        readiness.until(false).await;
        let waiter = tokio::spawn({
            let readiness = readiness.clone();
            async move { readiness.until(true).await }
        });
        drop(guard);
        waiter.await.unwrap();
    }
}
