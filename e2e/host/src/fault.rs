//! Failure modes, chosen by `STANDIN_FAULT`: a list with commas.

use std::time::Duration;

use crate::environment::Environment;

/// What shall go wrong.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Faults {
    /// `app-load`: the app does not load; the host is Running without functions.
    pub app_load: bool,
    /// `host-error`: state Error, every request 503.
    pub host_error: bool,
    /// `indexing=<function>`: this function has an indexing error.
    pub indexing: Vec<String>,
    /// `exit-after=<ms>`: the process ends by itself with code 0, as when the host gives up on its worker.
    pub exit_after: Option<Duration>,
    /// `no-health`: `/runtime/health` answers 404, as in hosts before September 2025.
    pub no_health: bool,
}

/// A failure mode that does not exist.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "STANDIN_FAULT has the entry {0:?}; use app-load, host-error, indexing=<function>, exit-after=<ms> or no-health"
)]
pub struct FaultError(String);

impl FaultError {
    /// A stable name of the kind of error.
    pub fn category(&self) -> &'static str {
        "unknown-fault"
    }
}

impl Faults {
    /// The failure modes of an environment.
    pub fn from_environment(environment: &Environment) -> Result<Self, FaultError> {
        let mut faults = Self::default();
        let text = environment.get("STANDIN_FAULT").unwrap_or_default();
        for entry in text
            .split(',')
            .map(str::trim)
            .filter(|entry| !entry.is_empty())
        {
            let unknown = || FaultError(entry.to_owned());
            match entry.split_once('=') {
                None if entry == "app-load" => faults.app_load = true,
                None if entry == "host-error" => faults.host_error = true,
                None if entry == "no-health" => faults.no_health = true,
                Some(("indexing", name)) => faults.indexing.push(name.to_owned()),
                Some(("exit-after", time)) => {
                    let milliseconds = time.parse().map_err(|_| unknown())?;
                    faults.exit_after = Some(Duration::from_millis(milliseconds));
                }
                _ => return Err(unknown()),
            }
        }
        Ok(faults)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_read_and_unknown_ones_named() {
        let read = |text: &str| {
            Faults::from_environment(&Environment::from_pairs([("STANDIN_FAULT", text)]))
        };
        let faults = read("app-load, indexing=a,indexing=b, exit-after=50").unwrap();
        assert!(faults.app_load && !faults.host_error);
        assert_eq!(faults.indexing, ["a", "b"]);
        assert_eq!(faults.exit_after, Some(Duration::from_millis(50)));
        assert!(read("explode").unwrap_err().to_string().contains("explode"));
        assert!(read("exit-after=soon").is_err());
    }
}
