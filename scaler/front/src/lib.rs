//! The front end: a reverse proxy that runs each request in a slot, so that no instance ever has more requests at a time than its concurrency, whatever the
//! number of front ends.
//!
//! * [`proxy`]: what happens to a request; [`check`] and [`headers`]: what is refused, and what changes.
//! * [`pool`]: the slots, taken by requests with one compare-and-swap; the waiting rooms.
//! * [`control`]: the task that follows the data role, beside the requests.
//! * [`upstream`]: connections to the instances; [`body`]: bodies that hold their slot.
//! * [`server`]: accepting and draining connections; [`tls`]: certificates.
//! * [`metrics`], [`cold`], [`observe`]: what is counted, timed and told.

pub mod body;
pub mod check;
mod closing;
pub mod cold;
pub mod control;
mod exchange;
mod gather;
pub mod headers;
mod latency;
pub mod metrics;
pub mod observe;
pub mod pool;
mod probe;
pub mod proxy;
pub mod routes;
pub mod server;
mod timer;
pub mod tls;
mod tunnel;
pub mod upstream;
