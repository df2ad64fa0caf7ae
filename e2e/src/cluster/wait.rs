//! Waiting for a condition.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// Time between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Tries until it works; after `limit` the last error is returned with what was waited for.
pub fn until<T>(what: &str, limit: Duration, mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
    let begin = Instant::now();
    loop {
        match attempt() {
            Ok(value) => return Ok(value),
            Err(error) if begin.elapsed() >= limit => {
                return Err(error)
                    .with_context(|| format!("waited {} s for {what}", limit.as_secs()));
            }
            Err(_) => thread::sleep(LOOK_EVERY),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_success_is_returned_and_the_last_error_is_kept() {
        let mut tries = 0;
        let value = until("three", Duration::from_secs(60), || {
            tries += 1;
            if tries == 3 {
                Ok(tries)
            } else {
                anyhow::bail!("only {tries}")
            }
        });
        assert_eq!(value.expect("reached"), 3);
        let error = until::<()>("never", Duration::ZERO, || anyhow::bail!("cause"))
            .expect_err("out of time");
        assert!(format!("{error:#}").contains("never") && format!("{error:#}").contains("cause"));
    }
}
