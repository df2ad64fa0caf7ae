//! Request slots: how any number of front ends share the concurrency of each instance exactly.
//!
//! The data role lends *slots*; a front end runs a request only in a slot that it holds and that no other of its requests uses. Safety uses no clock, except that
//! bytes of a dead front end need time to arrive. The rules, the faults and what was explored: docs/adr/0011-request-slots.md.
//!
//! * [`word`]: one instance at one front end, in one word.
//! * [`message`]: what the two say to each other.
//! * [`front_end`]: the control state of a front end, beside the hot path.
//! * [`data_role`]: the books; lending, departures and demand are further parts of it.
//! * [`gauge`]: the demand as the decision hears it.
//! * [`joint`]: the demand over all front ends at one moment; [`peaks`]: the highest of it; [`surge`]: whether it is more than there is.
//! * [`placement`]: which instance lends the next slot; [`choice`]: which gets the next request.

mod books;
pub mod choice;
pub mod data_role;
mod demand;
mod departures;
pub mod front_end;
pub mod gauge;
mod grants;
mod instances;
pub mod joint;
pub mod message;
pub mod peaks;
pub mod placement;
pub mod pool;
mod sessions;
mod stranded;
pub mod surge;
mod views;
pub mod word;

pub use demand::{Demand, SlotCounts};
pub use views::RemovalState;
