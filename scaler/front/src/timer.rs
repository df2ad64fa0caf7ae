//! Limits that nearly never run out, without a timer operation for each request.
//!
//! A timer of tokio takes a lock that all cores share, when it is set and when it is dropped. A limit of a minute that is set thousands of times a second is
//! therefore kept: moved to a later time, its timer still rings at the earlier one, finds that it is not due, and is set again.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, Instant as StdInstant},
};

use parking_lot::Mutex;
use tokio::time::{Instant, Sleep, sleep_until};

/// A time at which something is over. Moving it to a later time is free.
#[derive(Debug)]
pub(crate) struct Limit {
    timer: Pin<Box<Sleep>>,
    due: Instant,
}

impl Limit {
    /// A limit at `due`.
    pub(crate) fn new(due: Instant) -> Self {
        Self {
            timer: Box::pin(sleep_until(due)),
            due,
        }
    }

    /// Moves it.
    pub(crate) fn set(&mut self, due: Instant) {
        self.due = due;
        if due < self.timer.deadline() {
            self.timer.as_mut().reset(due);
        }
    }

    /// Whether it is over; wakes the task when it is.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            ready!(self.timer.as_mut().poll(cx));
            if self.timer.deadline() >= self.due {
                return Poll::Ready(());
            }
            self.timer.as_mut().reset(self.due);
        }
    }
}

/// Limits for one instance's requests, used again and again: as many as there were requests at a time.
#[derive(Debug, Default)]
pub(crate) struct Limits(Mutex<Vec<Limit>>);

impl Limits {
    /// What `work` results in; none when that takes longer than `time`.
    pub(crate) async fn within<F: Future>(&self, time: Duration, work: F) -> Option<F::Output> {
        let mut work = pin!(work);
        let mut lent = Lent {
            home: self,
            limit: None,
        };
        let due = Instant::now() + time;
        poll_fn(|cx| {
            if let Poll::Ready(done) = work.as_mut().poll(cx) {
                return Poll::Ready(Some(done));
            }
            lent.at(due).poll(cx).map(|()| None)
        })
        .await
    }
}

/// A limit in use.
struct Lent<'a> {
    home: &'a Limits,
    limit: Option<Limit>,
}

impl Lent<'_> {
    fn at(&mut self, due: Instant) -> &mut Limit {
        self.limit.get_or_insert_with(|| {
            let kept = self.home.0.lock().pop();
            match kept {
                Some(mut kept) => {
                    kept.set(due);
                    kept
                }
                None => Limit::new(due),
            }
        })
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        if let Some(limit) = self.limit.take() {
            self.home.0.lock().push(limit);
        }
    }
}

/// The timer of one HTTP/1.1 connection of a client, on which hyper limits the time for each head: one limit at a time, used again and again.
#[derive(Clone, Debug, Default)]
pub(crate) struct HeadTimer(Arc<Mutex<Option<Limit>>>);

impl hyper::rt::Timer for HeadTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn hyper::rt::Sleep>> {
        self.at(Instant::now() + duration)
    }

    fn sleep_until(&self, deadline: StdInstant) -> Pin<Box<dyn hyper::rt::Sleep>> {
        self.at(deadline.into())
    }

    fn now(&self) -> StdInstant {
        Instant::now().into()
    }
}

impl HeadTimer {
    fn at(&self, due: Instant) -> Pin<Box<dyn hyper::rt::Sleep>> {
        let limit = match self.0.lock().take() {
            Some(mut kept) => {
                kept.set(due);
                kept
            }
            None => Limit::new(due),
        };
        Box::pin(HeadLimit {
            limit: Some(limit),
            home: self.clone(),
        })
    }
}

struct HeadLimit {
    /// Present until dropped.
    limit: Option<Limit>,
    home: HeadTimer,
}

impl hyper::rt::Sleep for HeadLimit {}

impl Future for HeadLimit {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.limit {
            Some(limit) => limit.poll(cx),
            None => Poll::Ready(()),
        }
    }
}

impl Drop for HeadLimit {
    fn drop(&mut self) {
        *self.home.0.lock() = self.limit.take();
    }
}

#[cfg(test)]
mod tests {
    use hyper::rt::Timer;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn a_limit_is_over_at_the_last_time_that_it_was_set_to() {
        for (first, moved) in [(1, 5), (5, 1), (3, 3)] {
            let start = Instant::now();
            let mut limit = Limit::new(start + SECOND * first);
            limit.set(start + SECOND * moved);
            poll_fn(|cx| limit.poll(cx)).await;
            assert_eq!(start.elapsed().as_secs(), u64::from(moved));
            // Over, it can be used again.
            limit.set(start + SECOND * (moved + 2));
            poll_fn(|cx| limit.poll(cx)).await;
            assert_eq!(start.elapsed().as_secs(), u64::from(moved + 2));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_keeps_its_timer() {
        let timer = HeadTimer::default();
        let start = Instant::now();
        drop(timer.sleep(SECOND));
        assert!(timer.0.lock().is_some());
        let second = timer.sleep_until((start + SECOND * 3).into());
        assert!(timer.0.lock().is_none());
        second.await;
        assert_eq!(start.elapsed().as_secs(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn limits_are_used_again_and_cut_in_time() {
        let limits = Limits::default();
        let sleep = |seconds| tokio::time::sleep(SECOND * seconds);
        assert_eq!(limits.within(SECOND, async { 1 }).await, Some(1));
        assert_eq!(limits.0.lock().len(), 0, "nothing was waited for");
        for (limit, work, done) in [(5, 2, true), (3, 9, false), (9, 8, true), (1, 2, false)] {
            let start = Instant::now();
            let ended = limits.within(SECOND * limit, sleep(work)).await;
            assert_eq!(ended.is_some(), done);
            assert_eq!(start.elapsed(), SECOND * limit.min(work));
            assert_eq!(limits.0.lock().len(), 1);
        }
    }
}
