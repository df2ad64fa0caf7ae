//! The state of one instance at one front end, in one word, so that one compare-and-swap decides.

use std::fmt;

/// Most slots that one front end can hold of one instance.
pub const MAX_HELD: u16 = u16::MAX;

/// Most returned slots that wait for the next Sync; more stay held until it left.
pub const MAX_RETURNED: u16 = (1 << 13) - 1;

const BUSY: u32 = 16;
const LINGER: u32 = 32;
const FLAGS: u32 = 48;
const RETURNED: u32 = 51;
const FIELD: u64 = 0xffff;

/// Why an instance takes no new request although slots are held. Held slots and running requests are not touched by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Bar {
    /// The data role drains the instance: final.
    Draining,
    /// The address has not answered yet, or refused a connection.
    Unready,
    /// The instance refused a request with a scale-out signal a moment ago.
    Shed,
}

impl Bar {
    const fn bit(self) -> u64 {
        1 << (FLAGS
            + match self {
                Self::Draining => 0,
                Self::Unready => 1,
                Self::Shed => 2,
            })
    }
}

/// `held | busy | linger | bars | returned`.
///
/// Always `busy + linger <= held`. A returned slot is no longer held and waits to be reported; it stands in the same word because
/// a snapshot has to see either both halves of a return or none: a return that is reported after a snapshot which already left it out would
/// make the data role's books too low.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SlotWord(u64);

impl SlotWord {
    /// No slot held, no bar.
    pub const EMPTY: Self = Self(0);

    /// The word as stored in an atomic.
    pub const fn to_bits(self) -> u64 {
        self.0
    }

    /// Reads back what [`SlotWord::to_bits`] gave.
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// Slots held: upper bound of requests that may run there at a time.
    pub const fn held(self) -> u16 {
        (self.0 & FIELD) as u16
    }

    /// Slots with a request of a connected client.
    pub const fn busy(self) -> u16 {
        ((self.0 >> BUSY) & FIELD) as u16
    }

    /// Slots whose request ended without a complete response: the instance may still work on it.
    pub const fn linger(self) -> u16 {
        ((self.0 >> LINGER) & FIELD) as u16
    }

    /// Slots given back and not yet reported.
    pub const fn returned(self) -> u16 {
        (self.0 >> RETURNED) as u16
    }

    /// Held slots without a request, whether a bar is set or not.
    pub const fn free(self) -> u16 {
        self.held() - self.busy() - self.linger()
    }

    /// Whether `bar` is set.
    pub const fn barred(self, bar: Bar) -> bool {
        self.0 & bar.bit() != 0
    }

    /// Whether no bar is set.
    pub const fn open(self) -> bool {
        self.0 & (Bar::Draining.bit() | Bar::Unready.bit() | Bar::Shed.bit()) == 0
    }

    /// Whether [`SlotWord::acquire`] would succeed.
    pub const fn usable(self) -> bool {
        self.open() && self.free() > 0
    }

    /// The word with `bar` set.
    #[must_use]
    pub const fn bar(self, bar: Bar) -> Self {
        Self(self.0 | bar.bit())
    }

    /// The word without `bar`. [`Bar::Draining`] is final and stays.
    #[must_use]
    pub const fn lift(self, bar: Bar) -> Self {
        match bar {
            Bar::Draining => self,
            Bar::Unready | Bar::Shed => Self(self.0 & !bar.bit()),
        }
    }

    /// A request takes a free slot; none when every slot is taken or a bar is set.
    pub const fn acquire(self) -> Option<Self> {
        if self.usable() {
            Some(Self(self.0 + (1 << BUSY)))
        } else {
            None
        }
    }

    /// The response is complete: the slot is free. `None` when no request was running, which is a defect of the caller.
    pub const fn complete(self) -> Option<Self> {
        if self.busy() == 0 {
            return None;
        }
        Some(Self(self.0 - (1 << BUSY)))
    }

    /// The request ended without a complete response.
    pub const fn abandon(self) -> Option<Self> {
        if self.busy() == 0 {
            return None;
        }
        Some(Self(self.0 - (1 << BUSY) + (1 << LINGER)))
    }

    /// The instance is known to have ended an abandoned request.
    pub const fn settle(self) -> Option<Self> {
        if self.linger() == 0 {
            return None;
        }
        Some(Self(self.0 - (1 << LINGER)))
    }

    /// `count` more slots are held, at most up to [`MAX_HELD`].
    #[must_use]
    pub const fn grant(self, count: u16) -> Self {
        let held = self.held();
        let more = if count > MAX_HELD - held {
            MAX_HELD - held
        } else {
            count
        };
        Self(self.0 + more as u64)
    }

    /// Gives back up to `count` free slots; returns the new word and how many.
    pub const fn release(self, count: u16) -> (Self, u16) {
        let mut n = count;
        if n > self.free() {
            n = self.free();
        }
        if n > MAX_RETURNED - self.returned() {
            n = MAX_RETURNED - self.returned();
        }
        (Self(self.0 - n as u64 + ((n as u64) << RETURNED)), n)
    }

    /// Takes the returned slots out, to be reported.
    pub const fn take_returned(self) -> (Self, u16) {
        (Self(self.0 & ((1 << RETURNED) - 1)), self.returned())
    }
}

impl fmt::Debug for SlotWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}+{}", self.busy(), self.held(), self.linger())?;
        for (bar, sign) in [(Bar::Draining, "d"), (Bar::Unready, "u"), (Bar::Shed, "s")] {
            if self.barred(bar) {
                f.write_str(sign)?;
            }
        }
        if self.returned() > 0 {
            write!(f, "-{}", self.returned())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_slot_goes_round() {
        let word = SlotWord::EMPTY.grant(2);
        let word = word.acquire().unwrap().acquire().unwrap();
        assert_eq!(word.acquire(), None);
        let word = word.complete().unwrap().abandon().unwrap();
        assert_eq!((word.busy(), word.linger(), word.free()), (0, 1, 1));
        let (word, n) = word.release(9);
        assert_eq!((n, word.held(), word.returned()), (1, 1, 1));
        let word = word.settle().unwrap();
        assert_eq!(word.take_returned(), (SlotWord::EMPTY.grant(1), 1));
    }

    #[test]
    fn bars_stop_requests_and_draining_is_final() {
        for bar in [Bar::Draining, Bar::Unready, Bar::Shed] {
            let word = SlotWord::EMPTY.grant(1).bar(bar);
            assert_eq!(word.acquire(), None, "{bar:?}");
            assert_eq!(word.lift(bar).open(), bar != Bar::Draining);
        }
    }

    #[test]
    fn nothing_ends_that_did_not_start() {
        let word = SlotWord::EMPTY.grant(1);
        assert_eq!(
            (word.complete(), word.abandon(), word.settle()),
            (None, None, None)
        );
    }

    proptest! {
        #[test]
        fn no_sequence_breaks_the_bound(ops in proptest::collection::vec((0u8..9, 0u16..40_000), 0..60)) {
            let mut word = SlotWord::EMPTY;
            let mut reported = 0u32;
            let mut granted = 0u32;
            for (op, n) in ops {
                let before = word;
                word = match op {
                    0 => { let next = word.grant(n); granted += u32::from(next.held() - word.held()); next }
                    1 => word.acquire().unwrap_or(word),
                    2 => word.complete().unwrap_or(word),
                    3 => word.abandon().unwrap_or(word),
                    4 => word.settle().unwrap_or(word),
                    5 => word.release(n).0,
                    6 => { let (next, n) = word.take_returned(); reported += u32::from(n); next }
                    7 => word.bar(Bar::Shed),
                    _ => word.lift(Bar::Shed),
                };
                prop_assert!(u32::from(word.busy()) + u32::from(word.linger()) <= u32::from(word.held()), "{before:?} -> {word:?}");
                prop_assert_eq!(u32::from(word.held()) + u32::from(word.returned()) + reported, granted);
            }
        }
    }
}
