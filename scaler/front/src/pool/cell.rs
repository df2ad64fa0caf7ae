//! The slot word of one instance as an atomic.

use maniple_core::slots::word::{Bar, SlotWord};

use super::sync::{AtomicU32, AtomicU64, Ordering};

/// What became of a slot when its request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// It is free.
    Free,
    /// It went back to the data role's account.
    Returned,
}

/// One slot word, alone on its cache line as far as allocation allows: every core that serves the instance writes it.
#[derive(Debug)]
#[repr(align(64))]
pub(crate) struct Cell {
    word: AtomicU64,
    /// Slots to be returned as they become free, after the cap was lowered.
    trim: AtomicU32,
    /// Highest number in use since [`Cell::take_idle_peak`].
    idle_peak: AtomicU32,
}

impl Cell {
    pub(crate) fn new(word: SlotWord) -> Self {
        Self {
            word: AtomicU64::new(word.to_bits()),
            trim: AtomicU32::new(0),
            idle_peak: AtomicU32::new(0),
        }
    }

    pub(crate) fn word(&self) -> SlotWord {
        SlotWord::from_bits(self.word.load(Ordering::Acquire))
    }

    /// Replaces the word by what `change` makes of it, until nobody came between. `None` leaves it.
    fn update<T>(&self, change: impl Fn(SlotWord) -> Option<(SlotWord, T)>) -> Option<T> {
        let mut bits = self.word.load(Ordering::Acquire);
        loop {
            let (next, answer) = change(SlotWord::from_bits(bits))?;
            match self.word.compare_exchange_weak(
                bits,
                next.to_bits(),
                Ordering::AcqRel,
                Ordering::Acquire,
            ) {
                Ok(_) => return Some(answer),
                Err(seen) => bits = seen,
            }
        }
    }

    /// A request takes a slot.
    pub(crate) fn acquire(&self) -> bool {
        let Some(used) = self.update(|word| {
            let next = word.acquire()?;
            Some((next, u32::from(next.busy()) + u32::from(next.linger())))
        }) else {
            return false;
        };
        // The plain read first: the value rarely rises, and a write would take the cache line from everybody.
        if self.idle_peak.load(Ordering::Relaxed) < used {
            self.idle_peak.fetch_max(used, Ordering::Relaxed);
        }
        true
    }

    /// A request ended with a complete response. `give_back` says that the slot has to leave; so do the word and the trim.
    pub(crate) fn complete(&self, give_back: bool) -> Ended {
        self.end(give_back, SlotWord::complete)
    }

    /// An abandoned request is known to be over.
    pub(crate) fn settle(&self, give_back: bool) -> Ended {
        self.end(give_back, SlotWord::settle)
    }

    fn end(&self, give_back: bool, over: impl Fn(SlotWord) -> Option<SlotWord>) -> Ended {
        let trimmed = !give_back && self.take_trim();
        let ended = self.update(|word| {
            let freed = over(word).expect("a slot is ended once, by the request that took it");
            let leave = give_back || trimmed || freed.barred(Bar::Draining);
            let (next, count) = if leave { freed.release(1) } else { (freed, 0) };
            Some((
                next,
                if count > 0 {
                    Ended::Returned
                } else {
                    Ended::Free
                },
            ))
        });
        ended.expect("ending always applies")
    }

    /// Whether the next slot that becomes free has to leave.
    pub(crate) fn trimming(&self) -> bool {
        self.trim.load(Ordering::Relaxed) > 0
    }

    fn take_trim(&self) -> bool {
        self.trimming()
            && self
                .trim
                .fetch_update(Ordering::AcqRel, Ordering::Acquire, |n| n.checked_sub(1))
                .is_ok()
    }

    /// A request ended in doubt.
    pub(crate) fn abandon(&self) {
        let done = self.update(|word| word.abandon().map(|next| (next, ())));
        done.expect("a slot is ended once, by the request that took it");
    }

    pub(crate) fn grant(&self, count: u16) {
        self.update(|word| {
            let granted = word.grant(count);
            // What is granted to a draining instance crossed the drain on its way.
            let next = if granted.barred(Bar::Draining) {
                granted.release(count).0
            } else {
                granted
            };
            Some((next, ()))
        });
    }

    pub(crate) fn release(&self, count: u16) -> u16 {
        self.update(|word| Some(word.release(count))).unwrap_or(0)
    }

    pub(crate) fn take_returned(&self) -> u16 {
        if self.word().returned() == 0 {
            return 0;
        }
        self.update(|word| Some(word.take_returned())).unwrap_or(0)
    }

    pub(crate) fn bar(&self, bar: Bar) {
        self.update(|word| Some((word.bar(bar), ())));
    }

    pub(crate) fn lift(&self, bar: Bar) {
        self.update(|word| Some((word.lift(bar), ())));
    }

    /// Nothing starts any more and every free slot goes back.
    pub(crate) fn drain(&self) {
        self.update(|word| Some((word.bar(Bar::Draining).release(u16::MAX).0, ())));
    }

    /// `excess` slots have to go: free ones now, the rest as they become free.
    pub(crate) fn trim(&self, excess: u16) {
        let now = self.release(excess);
        self.trim.store(u32::from(excess - now), Ordering::Release);
    }

    pub(crate) fn take_idle_peak(&self) -> u32 {
        let word = self.word();
        self.idle_peak.swap(
            u32::from(word.busy()) + u32::from(word.linger()),
            Ordering::Relaxed,
        )
    }
}
