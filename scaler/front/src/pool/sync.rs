//! The primitives that the lock-free parts are built on, in one place: the exploring test compiles the same files over its own.

pub(crate) use std::sync::{
    Arc,
    atomic::{AtomicU32, AtomicU64, Ordering, fence},
};

pub(crate) use parking_lot::Mutex;
