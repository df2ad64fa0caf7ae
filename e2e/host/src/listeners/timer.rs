//! The timer listener: a singleton by blob lease, with the status blob and the past-due rule of the timers extension.

use std::time::Duration;

use jiff::Timestamp;
use maniple_core::names;
use maniple_core::timer::{Persistence, Schedule, ScheduleStatus, Zone, wait_until};
use maniple_sources::storage::{BlobClient, PutCondition};
use serde_json::{Value, json};

use super::lock::{self, Lock};
use super::{Listening, record};
use crate::function::Trigger;
use crate::invoke::InvokeError;
use crate::storage::persist;

/// How long to wait before a listener that could not start is started again.
const RESTART_PAUSE: Duration = Duration::from_secs(5);

/// Longest piece of a wait, so that a clock that was set is noticed.
const LONGEST_PIECE: Duration = Duration::from_secs(30);

struct Timer {
    listening: Listening,
    schedule: Schedule,
    zone: Zone,
    container: BlobClient,
    status_path: String,
    has_monitor: bool,
    run_on_startup: bool,
}

/// Why a listener that holds the lock ends.
enum End {
    /// It was told to.
    Stopped,
    /// Another instance has the lock.
    LockLost,
    /// It could not start.
    Failed(String),
}

pub(super) async fn listen(listening: Listening) {
    let environment = &listening.host.environment;
    let lease =
        Duration::from_secs(environment.number("STANDIN_LEASE_SECONDS", lock::LEASE.as_secs()));
    let recovery = Duration::from_millis(
        environment.number("STANDIN_LOCK_RETRY_MS", lock::RECOVERY.as_millis() as u64),
    );
    let restart_pause = Duration::from_millis(environment.number(
        "STANDIN_LISTENER_RETRY_MS",
        RESTART_PAUSE.as_millis() as u64,
    ));
    loop {
        let pause = match start(&listening, lease).await {
            Ok(Some((timer, lock))) => {
                let end = timer.run(&lock).await;
                lock.release().await;
                match end {
                    End::Stopped => break,
                    End::LockLost => {
                        listening.report(
                            "waiting-for-lock",
                            None,
                            Some("the lock was lost".to_owned()),
                        );
                        recovery
                    }
                    End::Failed(error) => {
                        listening.report("starting", None, Some(error));
                        restart_pause
                    }
                }
            }
            Ok(None) => {
                listening.report("waiting-for-lock", None, None);
                recovery
            }
            Err(error) => {
                listening.report("starting", None, Some(error));
                restart_pause
            }
        };
        if !listening.pause(pause).await {
            break;
        }
    }
    listening.report("stopped", None, None);
}

/// Takes the lock. `None`: another instance has it.
async fn start(listening: &Listening, lease: Duration) -> Result<Option<(Timer, Lock)>, String> {
    let host = &listening.host;
    if host.environment.is_kubernetes_managed() {
        return Err(
            "POD_NAMESPACE is set, so locks are kept by a leader service that does not exist; do not set it".to_owned(),
        );
    }
    let Trigger::Timer {
        schedule,
        use_monitor,
        run_on_startup,
    } = &listening.function.trigger
    else {
        return Err("this is not a timer function".to_owned());
    };
    let host_id = host.host_id.text().ok_or("there is no host id")?;
    let settings = names::Settings::from_environment(host.environment.iter());
    let zone = Zone::from_settings(&settings).map_err(|error| error.to_string())?;
    let container = host
        .storage
        .host_container()
        .map_err(|error| error.to_string())?;
    let path = lock::path(host_id, &listening.function.name);
    let taken = Lock::take(&container, &path, lease).await;
    let Some(lock) = taken.map_err(|error| error.to_string())? else {
        return Ok(None);
    };
    let timer = Timer {
        has_monitor: *use_monitor && is_persistent(schedule, &zone, Timestamp::now()),
        run_on_startup: *run_on_startup,
        status_path: ScheduleStatus::blob_path(host_id, &listening.function.name),
        schedule: schedule.clone(),
        listening: listening.clone(),
        zone,
        container,
    };
    Ok(Some((timer, lock)))
}

fn is_persistent(schedule: &Schedule, zone: &Zone, now: Timestamp) -> bool {
    match schedule {
        Schedule::Cron(cron) => !cron.persistence_off_at(zone.local(now)),
        Schedule::Interval { .. } => schedule.persistence() == Persistence::Kept,
    }
}

impl Timer {
    async fn run(&self, lock: &Lock) -> End {
        let now = Timestamp::now();
        let stored = match self.read().await {
            Ok(stored) => stored,
            Err(error) => return End::Failed(error),
        };
        let start = ScheduleStatus::at_listener_start(stored, &self.schedule, &self.zone, now);
        let mut status = start.status;
        if start.written
            && let Err(error) = self.write(&status).await
        {
            return End::Failed(error);
        }
        let at_once = if start.past_due.is_some() && self.has_monitor {
            Some(true)
        } else {
            self.run_on_startup.then_some(false)
        };
        if let Some(is_past_due) = at_once {
            match self.fire(status, is_past_due, false).await {
                Some(next) => status = next,
                None => return End::Stopped,
            }
        }
        loop {
            self.report("armed", &status);
            tokio::select! {
                biased;
                () = self.listening.generation.stop.cancelled() => return End::Stopped,
                () = lock.lost.cancelled() => return End::LockLost,
                () = wait(status.next) => {}
            }
            match self.fire(status, false, true).await {
                Some(next) => status = next,
                None => return End::Stopped,
            }
        }
    }

    /// Runs the function once and writes the status. `None`: the run was cut, the status stays old.
    async fn fire(
        &self,
        status: ScheduleStatus,
        is_past_due: bool,
        regular: bool,
    ) -> Option<ScheduleStatus> {
        self.report("running", &status);
        let started = Timestamp::now();
        let input = json!({
            "Schedule": { "AdjustForDST": true },
            "ScheduleStatus": self.has_monitor.then(|| status_value(&status, &self.zone)),
            "IsPastDue": is_past_due,
        });
        let function = &self.listening.function;
        let invoked = self
            .listening
            .host
            .invoke(function, crate::work::Input::Timer(input))
            .await;
        let (outcome, running) = match invoked {
            Ok((_, running)) => ("succeeded", Some(running)),
            Err(InvokeError::Lost) => return None,
            // A failed run counts as a run.
            Err(error) => {
                tracing::warn!(function = function.name, "{error}");
                ("failed", None)
            }
        };
        let next = status.after_run(&self.schedule, &self.zone, started, regular);
        if let Err(error) = self.write(&next).await {
            tracing::error!(
                function = function.name,
                "the status was not written, the run may be repeated: {error}"
            );
        }
        let record = json!({
            "kind": "timer",
            "due": status.next.map(|due| due.to_string()),
            "started": started.to_string(),
            "isPastDue": is_past_due,
            "outcome": outcome,
        });
        if let Err(error) = record::write(&self.listening, record).await {
            tracing::error!(function = function.name, "no record of the run: {error}");
        }
        drop(running);
        Some(next)
    }

    async fn read(&self) -> Result<Option<ScheduleStatus>, String> {
        if !self.has_monitor {
            return Ok(None);
        }
        match persist(|| self.container.get(&self.status_path)).await {
            Ok(blob) => ScheduleStatus::parse(&blob.content, &self.zone)
                .map(Some)
                .map_err(|error| error.to_string()),
            Err(error) if error.is_missing_blob() => Ok(None),
            Err(error) => Err(error.to_string()),
        }
    }

    async fn write(&self, status: &ScheduleStatus) -> Result<(), String> {
        if !self.has_monitor {
            return Ok(());
        }
        let text = status.to_json(&self.zone);
        let put = || {
            self.container
                .put_blob(&self.status_path, text.clone(), PutCondition::Always)
        };
        persist(put).await.map_err(|error| error.to_string())
    }

    fn report(&self, state: &'static str, status: &ScheduleStatus) {
        let next = status.next.map(|next| next.to_string());
        self.listening.report(state, next, None);
    }
}

fn status_value(status: &ScheduleStatus, zone: &Zone) -> Value {
    serde_json::from_str(&status.to_json(zone)).unwrap_or_default()
}

/// Waits until a time, in pieces; `None` is never.
async fn wait(next: Option<Timestamp>) {
    let Some(next) = next else {
        return std::future::pending().await;
    };
    loop {
        let left = wait_until(next, Timestamp::now());
        tokio::time::sleep(left.min(LONGEST_PIECE)).await;
        if left <= LONGEST_PIECE {
            return;
        }
    }
}
