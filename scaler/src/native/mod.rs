//! Native driver: writes the replica counts of groups that no other controller scales.
//!
//! One write for one change, and the newest wish wins: a wish that changes while a write is under way replaces the one behind it.
//! Failed writes are tried again with growing waits until the wish is fulfilled, changed or withdrawn.

mod queue;
mod writer;

pub use queue::{Wishes, Written};
pub use writer::{ClusterWriter, ScaleWriter, WriteError, WrittenScale};
