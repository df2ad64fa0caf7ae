//! Waiting for conditions: every wait names what it waits for and what it saw last.

use anyhow::{Result, bail};
use std::fmt::Debug;
use std::future::Future;
use std::time::{Duration, Instant};

/// Time between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Looks until `done` holds and returns what was seen then.
///
/// # Errors
/// After `limit`, with what was seen last. An error of `look` is tried again: an API server may be away for a moment.
pub async fn until<T, F>(
    what: &str,
    limit: Duration,
    mut look: impl FnMut() -> F,
    done: impl Fn(&T) -> bool,
) -> Result<T>
where
    T: Debug,
    F: Future<Output = Result<T>>,
{
    let started = Instant::now();
    let mut seen = String::from("nothing");
    while started.elapsed() < limit {
        match look().await {
            Ok(value) if done(&value) => return Ok(value),
            Ok(value) => seen = format!("{value:?}"),
            Err(error) => seen = format!("error: {error:#}"),
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    bail!("waited {} s for {what}; last seen: {seen}", limit.as_secs())
}

/// Watches for `period` and fails as soon as `holds` does not.
///
/// # Errors
/// With the first sight that broke the rule. An error of `look` breaks nothing.
pub async fn always<T, F>(
    what: &str,
    period: Duration,
    mut look: impl FnMut() -> F,
    holds: impl Fn(&T) -> bool,
) -> Result<()>
where
    T: Debug,
    F: Future<Output = Result<T>>,
{
    let started = Instant::now();
    let mut looks = 0_u32;
    while started.elapsed() < period {
        if let Ok(value) = look().await {
            looks += 1;
            if !holds(&value) {
                bail!(
                    "{what} did not hold after {:.1} s: {value:?}",
                    started.elapsed().as_secs_f64()
                );
            }
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    if looks == 0 {
        bail!("{what}: nothing could be seen for {} s", period.as_secs());
    }
    Ok(())
}
