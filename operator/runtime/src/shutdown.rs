//! One way to stop: a signal (or a task that must not end and did) asks, then the stages stop one after the other.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{Error, error::chain};

/// The stages of a process in the order in which they stop.
#[derive(Debug, Default)]
pub struct Shutdown {
    shared: Arc<Shared>,
    stages: Vec<Stage>,
    last: Vec<Stage>,
}

#[derive(Debug, Default)]
struct Shared {
    requested: CancellationToken,
    /// A second signal: nobody waits any longer.
    forced: CancellationToken,
    failure: Mutex<Option<Error>>,
}

impl Shutdown {
    /// Nothing listens to signals yet, see [`Shutdown::listen_for_signals`].
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts the one task that waits for SIGTERM and SIGINT. A second signal cuts all waiting short.
    ///
    /// # Errors
    /// When the handlers cannot be installed.
    pub fn listen_for_signals(&self) -> Result<(), Error> {
        let mut terminate = signal(SignalKind::terminate()).map_err(Error::Signal)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(Error::Signal)?;
        let shared = Arc::clone(&self.shared);
        tokio::spawn(async move {
            for token in [&shared.requested, &shared.forced] {
                let name = tokio::select! {
                    _ = terminate.recv() => "SIGTERM",
                    _ = interrupt.recv() => "SIGINT",
                };
                tracing::info!(signal = name, again = token.is_cancelled(), "asked to stop");
                token.cancel();
            }
        });
        Ok(())
    }

    /// Cancelled as soon as the process is asked to stop, before the first stage stops. Cancelling it asks.
    pub fn requested(&self) -> CancellationToken {
        self.shared.requested.clone()
    }

    /// Adds a stage that stops after the ones added before it. `limit` is how long its tasks may take.
    pub fn stage(&mut self, name: &'static str, limit: Duration) -> Stage {
        let stage = self.new_stage(name, limit);
        self.stages.push(stage.clone());
        stage
    }

    /// As [`Shutdown::stage`], but it stops after all stages of that kind, also later ones.
    pub(crate) fn last_stage(&mut self, name: &'static str, limit: Duration) -> Stage {
        let stage = self.new_stage(name, limit);
        self.last.push(stage.clone());
        stage
    }

    fn new_stage(&self, name: &'static str, limit: Duration) -> Stage {
        Stage {
            name,
            limit,
            token: CancellationToken::new(),
            tasks: TaskTracker::new(),
            shared: Arc::clone(&self.shared),
        }
    }

    /// Waits until the process is asked to stop, then stops the stages in order.
    ///
    /// # Errors
    /// The first task that ended with an error, or that ended although nobody asked.
    pub async fn run(self) -> Result<(), Error> {
        self.shared.requested.cancelled().await;
        for stage in self.stages.iter().chain(&self.last) {
            stage.stop().await;
        }
        self.shared.failure.lock().take().map_or(Ok(()), Err)
    }
}

/// Tasks that stop together.
#[derive(Debug, Clone)]
pub struct Stage {
    name: &'static str,
    limit: Duration,
    token: CancellationToken,
    tasks: TaskTracker,
    shared: Arc<Shared>,
}

impl Stage {
    /// Cancelled when it is this stage's turn to stop.
    pub fn token(&self) -> CancellationToken {
        self.token.clone()
    }

    /// For tasks that end by themselves; the stage waits for those that run when it stops.
    pub fn tracker(&self) -> &TaskTracker {
        &self.tasks
    }

    /// Runs a task that must live until the stage's token is cancelled. When it ends earlier, or with an error,
    /// the process stops and [`Shutdown::run`] returns the reason.
    pub fn spawn<F, E>(&self, task: &'static str, future: F)
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<Box<dyn std::error::Error + Send + Sync>> + Send + 'static,
    {
        let stage = self.clone();
        self.tasks.spawn(async move {
            let failure = match tokio::spawn(future).await {
                Ok(Ok(())) if stage.token.is_cancelled() => return,
                Ok(Ok(())) => Error::TaskEnded { task },
                Ok(Err(error)) => Error::TaskFailed {
                    task,
                    message: chain(&*error.into()),
                },
                Err(source) => Error::TaskBroken { task, source },
            };
            tracing::error!(task, category = failure.category(), "{failure}");
            stage.shared.failure.lock().get_or_insert(failure);
            stage.shared.requested.cancel();
        });
    }

    async fn stop(&self) {
        self.token.cancel();
        self.tasks.close();
        tokio::select! {
            () = self.tasks.wait() => tracing::debug!(stage = self.name, "stopped"),
            () = self.shared.forced.cancelled() => {
                tracing::warn!(stage = self.name, tasks = self.tasks.len(), "second signal, not waiting");
            }
            () = tokio::time::sleep(self.limit) => {
                tracing::warn!(
                    stage = self.name,
                    tasks = self.tasks.len(),
                    limit_seconds = self.limit.as_secs(),
                    "did not stop in time"
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    type Log = Arc<Mutex<Vec<&'static str>>>;

    fn note(stage: &Stage, log: &Log, name: &'static str) {
        let (token, log) = (stage.token(), Arc::clone(log));
        stage.spawn(name, async move {
            token.cancelled().await;
            tokio::time::sleep(Duration::from_secs(1)).await;
            log.lock().push(name);
            Ok::<(), Infallible>(())
        });
    }

    #[tokio::test(start_paused = true)]
    async fn stages_stop_in_order_and_wait_for_their_tasks() {
        let log = Log::default();
        let mut shutdown = Shutdown::new();
        let last = shutdown.last_stage("admin", Duration::from_secs(5));
        let first = shutdown.stage("first", Duration::from_secs(5));
        let second = shutdown.stage("second", Duration::from_secs(5));
        note(&second, &log, "second");
        note(&last, &log, "admin");
        note(&first, &log, "first");
        shutdown.requested().cancel();
        shutdown.run().await.unwrap();
        assert_eq!(*log.lock(), ["first", "second", "admin"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stage_that_hangs_is_left_at_its_limit() {
        let log = Log::default();
        let mut shutdown = Shutdown::new();
        let hangs = shutdown.stage("hangs", Duration::from_secs(5));
        hangs.spawn("hangs", std::future::pending::<Result<(), Infallible>>());
        note(
            &shutdown.stage("next", Duration::from_secs(5)),
            &log,
            "next",
        );
        shutdown.requested().cancel();
        shutdown.run().await.unwrap();
        assert_eq!(*log.lock(), ["next"]);
    }

    #[tokio::test]
    async fn a_task_that_fails_stops_the_process_with_its_reason() {
        let mut shutdown = Shutdown::new();
        let stage = shutdown.stage("work", Duration::from_secs(5));
        stage.spawn("index", async {
            Err(std::io::Error::other("disk on fire"))
        });
        let error = shutdown.run().await.unwrap_err();
        assert_eq!(error.to_string(), "index failed: disk on fire");
        assert_eq!(error.category(), "task");
    }

    #[tokio::test]
    async fn a_task_that_ends_too_early_stops_the_process() {
        let mut shutdown = Shutdown::new();
        let stage = shutdown.stage("work", Duration::from_secs(5));
        stage.spawn("index", async { Ok::<(), Infallible>(()) });
        let error = shutdown.run().await.unwrap_err();
        assert!(
            matches!(error, Error::TaskEnded { task: "index" }),
            "{error}"
        );
    }

    #[tokio::test]
    async fn a_task_that_panics_stops_the_process() {
        let mut shutdown = Shutdown::new();
        let stage = shutdown.stage("work", Duration::from_secs(5));
        stage.spawn("index", async {
            assert!(std::env::args().count() > 1_000_000, "boom");
            Ok::<(), Infallible>(())
        });
        let error = shutdown.run().await.unwrap_err();
        assert!(
            matches!(error, Error::TaskBroken { task: "index", .. }),
            "{error}"
        );
    }
}
