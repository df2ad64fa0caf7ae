//! Every interleaving of small groups of threads on the production slot cell and gate.

#![allow(dead_code, reason = "the included files serve the library too")]

#[path = "../src/pool/cell.rs"]
mod cell;
#[path = "../src/pool/gate.rs"]
mod gate;

/// The same names as the library's, over primitives whose order of execution is explored.
mod sync {
    pub(crate) use loom::sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering, fence},
    };

    #[derive(Debug)]
    pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(loom::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> loom::sync::MutexGuard<'_, T> {
            self.0
                .lock()
                .expect("nothing panics while it holds the lock")
        }
    }
}

use std::{future::poll_fn, task::Poll};

use gate::{Gate, Lane, Lanes, Ticket};
use loom::{
    future::block_on,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    thread,
};
use maniple_core::slots::word::{Bar, SlotWord};

struct Instance {
    cell: cell::Cell,
    running: AtomicU32,
}

impl Lane for Instance {
    fn cell(&self) -> &cell::Cell {
        &self.cell
    }
}

/// Taken in order: which one is taken is no question of interleaving.
struct InOrder(Vec<Arc<Instance>>);

impl Lanes for InOrder {
    type Lane = Instance;

    fn take(&self) -> Option<Arc<Instance>> {
        self.0
            .iter()
            .find(|lane| lane.cell().word().usable() && lane.cell().acquire())
            .cloned()
    }
}

struct Group {
    gate: Gate<Instance>,
    lanes: InOrder,
}

impl Group {
    fn new(slots: &[u16]) -> Arc<Self> {
        let lanes = slots
            .iter()
            .map(|held| {
                let cell = cell::Cell::new(SlotWord::EMPTY.grant(*held));
                Arc::new(Instance {
                    cell,
                    running: AtomicU32::new(0),
                })
            })
            .collect();
        Arc::new(Self {
            gate: Gate::new(),
            lanes: InOrder(lanes),
        })
    }

    fn wait(&self) -> Arc<Instance> {
        if let Some(lane) = self.gate.try_acquire(&self.lanes) {
            return lane;
        }
        let ticket = self.gate.enter(10, 0).expect("the room is large enough");
        self.gate.serve(&self.lanes);
        self.arrive(&ticket)
    }

    fn arrive(&self, ticket: &Ticket) -> Arc<Instance> {
        block_on(poll_fn(|cx| self.gate.poll(ticket, cx.waker())))
    }

    /// A whole request, which counts itself at the instance.
    fn request(&self, most: u32) {
        let lane = self.wait();
        let now = lane.running.fetch_add(1, Ordering::AcqRel) + 1;
        assert!(now <= most, "{now} requests at once");
        lane.running.fetch_sub(1, Ordering::AcqRel);
        self.end(&lane);
    }

    fn end(&self, lane: &Arc<Instance>) {
        self.gate.complete(lane, &self.lanes, || 0);
    }

    fn word(&self) -> SlotWord {
        self.lanes.0[0].cell.word()
    }
}

fn explore(test: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(test);
}

#[test]
fn two_requests_share_one_slot_and_both_are_served() {
    explore(|| {
        let group = Group::new(&[1]);
        let other = {
            let group = group.clone();
            thread::spawn(move || group.request(1))
        };
        group.request(1);
        other.join().unwrap();
        assert_eq!(
            (
                group.word().held(),
                group.word().busy(),
                group.gate.waiting()
            ),
            (1, 0, 0)
        );
    });
}

#[test]
fn a_waiter_gets_the_slot_that_is_granted_or_freed() {
    explore(|| {
        let group = Group::new(&[0]);
        let control = {
            let group = group.clone();
            thread::spawn(move || {
                group.lanes.0[0].cell.grant(1);
                group.gate.serve(&group.lanes);
            })
        };
        group.request(1);
        control.join().unwrap();
        assert_eq!((group.word().busy(), group.word().free()), (0, 1));
    });
}

#[test]
fn a_waiter_that_leaves_takes_no_slot_with_it() {
    explore(|| {
        let group = Group::new(&[1]);
        let first = group.wait();
        let ticket = group.gate.enter(10, 0).unwrap();
        let ender = {
            let group = group.clone();
            thread::spawn(move || group.end(&first))
        };
        if let Some(unused) = group.gate.leave(&ticket) {
            group.end(&unused);
        }
        ender.join().unwrap();
        assert_eq!((group.word().busy(), group.gate.waiting()), (0, 0));
        assert!(group.gate.try_acquire(&group.lanes).is_some());
    });
}

#[test]
fn a_drain_lets_nothing_start_and_everything_return() {
    explore(|| {
        let group = Group::new(&[1]);
        let control = {
            let group = group.clone();
            thread::spawn(move || group.lanes.0[0].cell.drain())
        };
        if let Some(lane) = group.gate.try_acquire(&group.lanes) {
            group.end(&lane);
        }
        control.join().unwrap();
        let word = group.word();
        assert_eq!(
            (
                word.held(),
                word.busy(),
                word.returned(),
                word.barred(Bar::Draining)
            ),
            (0, 0, 1, true)
        );
        assert!(group.gate.try_acquire(&group.lanes).is_none());
    });
}

#[test]
fn a_release_never_takes_a_slot_in_use() {
    explore(|| {
        let group = Group::new(&[1]);
        let control = {
            let group = group.clone();
            thread::spawn(move || group.lanes.0[0].cell.release(1))
        };
        let lane = group.gate.try_acquire(&group.lanes);
        let released = control.join().unwrap();
        assert_eq!(
            u16::from(lane.is_some()) + released,
            1,
            "the slot was taken or released"
        );
        assert_eq!(group.word().held() + group.word().returned(), 1);
    });
}

#[test]
fn returns_are_counted_once_while_they_are_reported() {
    explore(|| {
        let group = Group::new(&[2]);
        group.gate.set_recall(2, 2, 0);
        let (first, second) = (group.wait(), group.wait());
        let ender = {
            let group = group.clone();
            thread::spawn(move || group.end(&first))
        };
        let early = group.lanes.0[0].cell.take_returned();
        group.end(&second);
        ender.join().unwrap();
        let late = group.lanes.0[0].cell.take_returned();
        assert_eq!((early + late, group.word()), (2, SlotWord::EMPTY));
    });
}

#[test]
fn a_must_return_goes_back_although_somebody_waits_and_the_next_grant_serves_it() {
    explore(|| {
        let group = Group::new(&[1]);
        group.gate.set_recall(1, 1, 0);
        let lane = group.wait();
        let ticket = group.gate.enter(10, 0).unwrap();
        group.gate.serve(&group.lanes);
        let ender = {
            let group = group.clone();
            thread::spawn(move || group.end(&lane))
        };
        ender.join().unwrap();
        assert_eq!((group.word().held(), group.word().returned()), (0, 1));
        let control = {
            let group = group.clone();
            thread::spawn(move || {
                group.lanes.0[0].cell.grant(1);
                group.gate.serve(&group.lanes);
            })
        };
        let lane = group.arrive(&ticket);
        group.end(&lane);
        control.join().unwrap();
        assert_eq!(group.word().free(), 1);
    });
}

#[test]
fn a_poll_without_a_slot_is_woken_later() {
    explore(|| {
        let group = Group::new(&[1]);
        let lane = group.wait();
        let ticket = group.gate.enter(10, 0).unwrap();
        let waker = futures::task::noop_waker();
        assert!(matches!(group.gate.poll(&ticket, &waker), Poll::Pending));
        let ender = {
            let group = group.clone();
            thread::spawn(move || group.end(&lane))
        };
        let lane = group.arrive(&ticket);
        group.end(&lane);
        ender.join().unwrap();
    });
}
