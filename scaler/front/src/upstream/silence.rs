//! A limit on silence.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::{Instant, Sleep};

/// Fails a body of which no part came for too long. What is never waited for costs nothing, and the timer is only moved when it fires, not by every part.
#[derive(Debug)]
pub(crate) struct Silence {
    limit: Duration,
    since: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Silence {
    pub(crate) fn new(limit: Duration) -> Self {
        Self {
            limit,
            since: None,
            timer: None,
        }
    }

    pub(crate) fn limit(&self) -> Duration {
        self.limit
    }

    /// A part came.
    pub(crate) fn broken(&mut self) {
        self.since = None;
    }

    /// No part is there. Ready when that has been so for too long: time in which nobody asked for a part does not count.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let due = *self.since.get_or_insert_with(Instant::now) + self.limit;
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due)));
        while timer.as_mut().poll(cx).is_ready() {
            if timer.deadline() >= due {
                return Poll::Ready(());
            }
            timer.as_mut().reset(due);
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_silence_counts() {
        let limit = Duration::from_secs(10);
        let mut silence = Silence::new(limit);
        for _ in 0..5 {
            let heard =
                tokio::time::timeout(Duration::from_secs(9), poll_fn(|cx| silence.poll(cx)));
            assert!(heard.await.is_err(), "silent for 9 s only");
            silence.broken();
            // Nobody asks for a while.
            tokio::time::sleep(Duration::from_secs(60)).await;
        }
        let asked = Instant::now();
        poll_fn(|cx| silence.poll(cx)).await;
        assert!(asked.elapsed() >= limit && asked.elapsed() < limit * 2);
    }
}
