//! Listeners: what takes work from event sources.

mod lock;
mod queue;
mod record;
mod timer;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde::Serialize;

use crate::function::{Function, Trigger};
use crate::generation::Generation;
use crate::host::Host;

/// What a listener needs.
#[derive(Clone)]
struct Listening {
    host: Arc<Host>,
    function: Arc<Function>,
    generation: Arc<Generation>,
}

/// What a listener says of itself, for `/standin/stats`.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// "queue" or "timer".
    pub kind: &'static str,
    /// What it does now.
    pub state: &'static str,
    /// When a timer runs next, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// What went wrong last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// What all listeners say of themselves, by function.
#[derive(Debug, Default)]
pub struct Reports(Mutex<BTreeMap<String, Report>>);

impl Reports {
    /// All reports.
    pub fn all(&self) -> BTreeMap<String, Report> {
        self.0.lock().clone()
    }
}

impl Listening {
    fn report(&self, state: &'static str, next: Option<String>, error: Option<String>) {
        let kind = match self.function.trigger {
            Trigger::Queue { .. } => "queue",
            _ => "timer",
        };
        if let Some(error) = &error {
            tracing::warn!(function = self.function.name, state, "{error}");
        } else {
            tracing::debug!(function = self.function.name, state, "listener");
        }
        let report = Report {
            kind,
            state,
            next,
            error,
        };
        self.host
            .reports
            .0
            .lock()
            .insert(self.function.name.clone(), report);
    }

    /// Waits, but not beyond the end of listening. True: listening goes on.
    async fn pause(&self, time: Duration) -> bool {
        tokio::select! {
            biased;
            () = self.generation.stop.cancelled() => false,
            () = tokio::time::sleep(time) => true,
        }
    }
}

/// Starts the listener of every function that listens on this instance.
pub fn start_all(host: &Arc<Host>, generation: &Arc<Generation>) {
    let listening = host
        .functions
        .iter()
        .filter(|function| function.is_listening);
    for function in listening {
        let listening = Listening {
            host: Arc::clone(host),
            function: Arc::clone(function),
            generation: Arc::clone(generation),
        };
        match &function.trigger {
            Trigger::Queue { .. } => {
                generation.listeners.spawn(queue::listen(listening));
            }
            Trigger::Timer { .. } => {
                generation.listeners.spawn(timer::listen(listening));
            }
            Trigger::Http(_) => {}
            Trigger::Other => {
                tracing::warn!(
                    function = function.name,
                    "the stand-in does not listen to triggers of this type"
                );
            }
        }
    }
}
