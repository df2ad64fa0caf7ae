//! The end of all client connections, told to each without making any of them ask.
//!
//! A connection is polled at every event. A cancellation token takes a lock that all connections share whenever it is polled; here a connection reads a
//! number of its own.

use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering},
    },
    task::{Context, Poll},
};

use futures::task::AtomicWaker;
use hyper::body::{Body, Frame, SizeHint};
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
    places: BTreeMap<u64, Arc<Signal>>,
    /// Where the search for idle connections goes on.
    hand: u64,
}

#[derive(Debug)]
struct Signal {
    end: AtomicU8,
    /// Requests under way.
    busy: AtomicU32,
    /// Whether a request came since the search for idle connections passed here.
    used: AtomicBool,
    /// Whether it has to make room if it is idle.
    leave: AtomicBool,
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
            busy: AtomicU32::new(0),
            used: AtomicBool::new(true),
            leave: AtomicBool::new(false),
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

impl Closing {
    /// Asks up to `count` connections without a request under way to leave: those that were used last go last, as far as one look tells (a clock with second
    /// chances). A connection that never sends a whole head is one of them.
    pub(crate) fn make_room(&self, count: usize) {
        let mut open = self.0.lock();
        let hand = open.hand;
        let mut left = count;
        for _ in 0..2 {
            let around = open.places.range(hand..).chain(open.places.range(..hand));
            let mut next = hand;
            for (key, signal) in around {
                if left == 0 {
                    break;
                }
                next = key + 1;
                let idle = signal.busy.load(Ordering::Relaxed) == 0;
                if idle && !signal.used.swap(false, Ordering::Relaxed) {
                    signal.leave.store(true, Ordering::Release);
                    signal.waker.wake();
                    left -= 1;
                }
            }
            open.hand = next;
            if left == 0 {
                return;
            }
        }
    }
}

/// A request under way on a connection, until dropped.
#[derive(Debug)]
pub(crate) struct Busy(Arc<Signal>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.busy.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Makes the connection of a request busy.
#[derive(Clone, Debug)]
pub(crate) struct Use(Arc<Signal>);

impl Use {
    pub(crate) fn begin(&self) -> Busy {
        let signal = &self.0;
        signal.busy.fetch_add(1, Ordering::Relaxed);
        if !signal.used.load(Ordering::Relaxed) {
            signal.used.store(true, Ordering::Relaxed);
        }
        Busy(Arc::clone(signal))
    }
}

/// A response body, to whose end its connection is busy.
#[derive(Debug)]
pub(crate) struct BusyBody<B> {
    inner: B,
    _busy: Busy,
}

impl<B> BusyBody<B> {
    pub(crate) fn new(inner: B, busy: Busy) -> Self {
        Self { inner, _busy: busy }
    }
}

impl<B: Body + Unpin> Body for BusyBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.get_mut().inner).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Place {
    /// To be told of requests.
    pub(crate) fn usage(&self) -> Use {
        Use(self.signal.clone())
    }

    /// Whether it was asked to make room and still can.
    pub(crate) fn leaves(&self) -> bool {
        if !self.signal.leave.load(Ordering::Acquire) {
            return false;
        }
        let idle = self.signal.busy.load(Ordering::Relaxed) == 0;
        self.signal.leave.store(idle, Ordering::Relaxed);
        idle
    }

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
    use std::{future::poll_fn, task::Waker};

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

    #[test]
    fn the_connections_used_last_make_room_last() {
        let closing = Closing::default();
        let places: Vec<_> = (0..5).map(|_| closing.enter()).collect();
        let leaving = || places.iter().map(Place::leaves).collect::<Vec<_>>();
        let _under_way = places[0].usage().begin();
        closing.make_room(1);
        assert_eq!(leaving(), [false, true, false, false, false]);
        drop(places[2].usage().begin());
        closing.make_room(2);
        assert_eq!(leaving(), [false, true, false, true, true]);
        // Used again before it left.
        let _again = places[3].usage().begin();
        assert_eq!(leaving(), [false, true, false, false, true]);
        closing.make_room(5);
        assert_eq!(leaving(), [false, true, true, false, true]);
    }
}
