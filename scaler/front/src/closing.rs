//! The end of all client connections, told to each without making any of them ask.
//!
//! A connection is polled at every event. A cancellation token takes a lock that all connections share whenever it is polled; here a connection reads a
//! number of its own.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    task::Context,
};

use futures::task::AtomicWaker;
use parking_lot::Mutex;

/// What connections are told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum End {
    /// Go on.
    #[default]
    None,
    /// Let running requests end, take no others.
    Graceful,
    /// Close at once.
    Cut,
}

/// All open connections. Clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Closing(Arc<Mutex<Open>>);

#[derive(Debug, Default)]
struct Open {
    told: End,
    next: u64,
    places: HashMap<u64, Arc<Signal>>,
}

#[derive(Debug)]
struct Signal {
    end: AtomicU8,
    waker: AtomicWaker,
}

impl Signal {
    fn set(&self, end: End) {
        self.end.store(end as u8, Ordering::Release);
        self.waker.wake();
    }
}

/// One connection's place among them, given up when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    closing: Closing,
    key: u64,
    signal: Arc<Signal>,
}

impl Closing {
    /// A connection opens.
    pub(crate) fn enter(&self) -> Place {
        let mut open = self.0.lock();
        let signal = Arc::new(Signal {
            end: AtomicU8::new(open.told as u8),
            waker: AtomicWaker::new(),
        });
        let key = open.next;
        open.next += 1;
        open.places.insert(key, signal.clone());
        Place {
            closing: self.clone(),
            key,
            signal,
        }
    }

    /// Tells all connections, those too that open later. What was told before is not taken back.
    pub(crate) fn tell(&self, end: End) {
        let mut open = self.0.lock();
        if end <= open.told {
            return;
        }
        open.told = end;
        for signal in open.places.values() {
            signal.set(end);
        }
    }
}

impl Place {
    /// What was told so far; the task is woken when that changes.
    pub(crate) fn poll(&self, cx: &mut Context<'_>) -> End {
        self.signal.waker.register(cx.waker());
        match self.signal.end.load(Ordering::Acquire) {
            0 => End::None,
            1 => End::Graceful,
            _ => End::Cut,
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.closing.0.lock().places.remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::poll_fn,
        task::{Poll, Waker},
    };

    use super::*;

    #[tokio::test]
    async fn open_and_later_connections_are_told_in_order() {
        let closing = Closing::default();
        let place = closing.enter();
        let mut cx = Context::from_waker(Waker::noop());
        assert_eq!(place.poll(&mut cx), End::None);
        let woken = tokio::spawn(poll_fn(move |cx| match place.poll(cx) {
            End::Cut => Poll::Ready(()),
            _ => Poll::Pending,
        }));
        tokio::task::yield_now().await;
        closing.tell(End::Graceful);
        let later = closing.enter();
        assert_eq!(later.poll(&mut cx), End::Graceful);
        closing.tell(End::Cut);
        woken.await.unwrap();
        closing.tell(End::Graceful);
        assert_eq!(later.poll(&mut cx), End::Cut);
        drop(later);
        assert!(closing.0.lock().places.is_empty());
    }
}
