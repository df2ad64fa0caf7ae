//! Where the requests of one group take slots, wait for them, and hand them on.

use std::{
    collections::BTreeMap,
    task::{Poll, Waker},
};

use super::{
    cell::{Cell, Ended},
    sync::{Arc, AtomicU32, AtomicU64, Mutex, Ordering, fence},
};

/// Something with a slot word.
pub(crate) trait Lane {
    fn cell(&self) -> &Cell;
}

/// The lanes of a group.
pub(crate) trait Lanes {
    /// What they are.
    type Lane;

    /// Takes a free slot of one of them; none only when none is free.
    fn take(&self) -> Option<Arc<Self::Lane>>;
}

/// The waiting room is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Full;

/// Place in the waiting room.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ticket(u64);

/// What became of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum After {
    Free,
    /// Free, and others ask for it.
    Wanted,
    Returned,
    HandedOver,
}

#[derive(Debug)]
struct Waiting {
    since_ms: u64,
    waker: Option<Waker>,
}

#[derive(Debug)]
struct Room<L> {
    next: u64,
    queue: BTreeMap<u64, Waiting>,
    handed: BTreeMap<u64, Arc<L>>,
}

#[derive(Debug)]
pub(crate) struct Gate<L> {
    room: Mutex<Room<L>>,
    waiting: AtomicU32,
    /// Slots that others ask for as soon as they are free.
    want: AtomicU32,
    /// Slots that have to go back when their request ends, once the turn is over.
    must: AtomicU32,
    turn_ends_ms: AtomicU64,
}

impl<L: Lane> Gate<L> {
    pub(crate) fn new() -> Self {
        Self {
            room: Mutex::new(Room {
                next: 0,
                queue: BTreeMap::new(),
                handed: BTreeMap::new(),
            }),
            waiting: AtomicU32::new(0),
            want: AtomicU32::new(0),
            must: AtomicU32::new(0),
            turn_ends_ms: AtomicU64::new(0),
        }
    }

    pub(crate) fn waiting(&self) -> u32 {
        self.waiting.load(Ordering::Acquire)
    }

    pub(crate) fn oldest_since_ms(&self) -> Option<u64> {
        if self.waiting() == 0 {
            return None;
        }
        self.room
            .lock()
            .queue
            .values()
            .next()
            .map(|waiting| waiting.since_ms)
    }

    /// A slot without waiting. None while others wait: they were first.
    pub(crate) fn try_acquire(&self, lanes: &impl Lanes<Lane = L>) -> Option<Arc<L>> {
        if self.waiting.load(Ordering::Relaxed) > 0 {
            return None;
        }
        lanes.take()
    }

    /// Takes a place in line. The caller has to call [`Gate::serve`] next: a slot may have become free before the place was visible.
    pub(crate) fn enter(&self, limit: u32, now_ms: u64) -> Result<Ticket, Full> {
        let mut room = self.room.lock();
        let count = u32::try_from(room.queue.len()).unwrap_or(u32::MAX);
        if count >= limit {
            return Err(Full);
        }
        let ticket = room.next;
        room.next += 1;
        room.queue.insert(
            ticket,
            Waiting {
                since_ms: now_ms,
                waker: None,
            },
        );
        self.note_waiting(count + 1);
        Ok(Ticket(ticket))
    }

    fn note_waiting(&self, count: u32) {
        self.waiting.store(count, Ordering::Release);
    }

    /// Gives free slots to those who wait, the oldest first.
    pub(crate) fn serve(&self, lanes: &impl Lanes<Lane = L>) {
        // Pairs with the fence in `end`: of a place that becomes visible and a slot that becomes free, one side sees both.
        fence(Ordering::SeqCst);
        loop {
            if self.waiting.load(Ordering::Acquire) == 0 {
                return;
            }
            let mut room = self.room.lock();
            if room.queue.is_empty() {
                return;
            }
            let Some(lane) = lanes.take() else {
                return;
            };
            let woken = self.hand(&mut room, lane);
            drop(room);
            if let Some(waker) = woken {
                waker.wake();
            }
        }
    }

    /// The oldest one gets `lane`, which is taken for it.
    fn hand(&self, room: &mut Room<L>, lane: Arc<L>) -> Option<Waker> {
        let (ticket, waiting) = room
            .queue
            .pop_first()
            .expect("the caller saw somebody waiting");
        room.handed.insert(ticket, lane);
        self.note_waiting(u32::try_from(room.queue.len()).unwrap_or(u32::MAX));
        // Whoever compares the new number with what was seen of it does so after the number is visible.
        fence(Ordering::SeqCst);
        waiting.waker
    }

    /// Whether the slot of `ticket` is there.
    pub(crate) fn poll(&self, ticket: &Ticket, waker: &Waker) -> Poll<Arc<L>> {
        let mut room = self.room.lock();
        if let Some(lane) = room.handed.remove(&ticket.0) {
            return Poll::Ready(lane);
        }
        if let Some(waiting) = room.queue.get_mut(&ticket.0)
            && !waiting
                .waker
                .as_ref()
                .is_some_and(|known| known.will_wake(waker))
        {
            waiting.waker = Some(waker.clone());
        }
        Poll::Pending
    }

    /// Gives the place up. A slot that was handed to it meanwhile is returned to the caller, unused.
    pub(crate) fn leave(&self, ticket: &Ticket) -> Option<Arc<L>> {
        let mut room = self.room.lock();
        if room.queue.remove(&ticket.0).is_some() {
            self.note_waiting(u32::try_from(room.queue.len()).unwrap_or(u32::MAX));
        }
        room.handed.remove(&ticket.0)
    }

    /// A request on `lane` ended with a complete response, or nothing was ever sent.
    pub(crate) fn complete(
        &self,
        lane: &Arc<L>,
        lanes: &impl Lanes<Lane = L>,
        now_ms: impl Fn() -> u64,
    ) -> After {
        self.end(lane, lanes, now_ms, true)
    }

    /// An abandoned request on `lane` is known to be over.
    pub(crate) fn settle(
        &self,
        lane: &Arc<L>,
        lanes: &impl Lanes<Lane = L>,
        now_ms: impl Fn() -> u64,
    ) -> After {
        self.end(lane, lanes, now_ms, false)
    }

    fn end(
        &self,
        lane: &Arc<L>,
        lanes: &impl Lanes<Lane = L>,
        now_ms: impl Fn() -> u64,
        busy: bool,
    ) -> After {
        let give_back = self.take_must(now_ms);
        if busy && !give_back && !lane.cell().trimming() && self.hand_over(lane) {
            return After::HandedOver;
        }
        let ended = if busy {
            lane.cell().complete(give_back)
        } else {
            lane.cell().settle(give_back)
        };
        match ended {
            Ended::Returned => After::Returned,
            Ended::Free => {
                fence(Ordering::SeqCst);
                if self.waiting.load(Ordering::Acquire) > 0 {
                    self.serve(lanes);
                }
                if self.want.load(Ordering::Acquire) > 0 {
                    return After::Wanted;
                }
                After::Free
            }
        }
    }

    /// The slot goes on to the oldest one who waits and is never free in between.
    fn hand_over(&self, lane: &Arc<L>) -> bool {
        if self.waiting.load(Ordering::Acquire) == 0 || !lane.cell().word().open() {
            return false;
        }
        let mut room = self.room.lock();
        if room.queue.is_empty() {
            return false;
        }
        let woken = self.hand(&mut room, lane.clone());
        drop(room);
        if let Some(waker) = woken {
            waker.wake();
        }
        true
    }

    fn take_must(&self, now_ms: impl Fn() -> u64) -> bool {
        self.must.load(Ordering::Relaxed) > 0
            && now_ms() >= self.turn_ends_ms.load(Ordering::Relaxed)
            && self
                .must
                .fetch_update(Ordering::AcqRel, Ordering::Acquire, |n| n.checked_sub(1))
                .is_ok()
    }

    /// Others ask for `want` slots, and `must` have to go back, each when a request on it ends after `turn_ends_ms`.
    pub(crate) fn set_recall(&self, want: u32, must: u32, turn_ends_ms: u64) {
        self.want.store(want, Ordering::Release);
        if self.must.swap(must, Ordering::AcqRel) == 0 {
            self.turn_ends_ms.store(turn_ends_ms, Ordering::Release);
        }
    }

    pub(crate) fn cap_recall(&self, want: u32, must: u32) {
        self.want.fetch_min(want, Ordering::AcqRel);
        self.must.fetch_min(must, Ordering::AcqRel);
    }

    /// Slots that have just come get a turn of their own.
    pub(crate) fn new_turn(&self, turn_ends_ms: u64) {
        if self.must.load(Ordering::Relaxed) > 0 {
            self.turn_ends_ms.store(turn_ends_ms, Ordering::Release);
        }
    }
}
