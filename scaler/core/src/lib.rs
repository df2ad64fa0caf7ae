//! Pure decisions of the scaler: no Kubernetes, no async runtime, no I/O, and time is an argument.
//!
//! * [`decision`]: how many instances a group should have, and why.
//! * [`timer`]: schedules as the function host reads them, and when a timer needs an instance.
//! * [`queue`]: storage queue options, backlog and target.
//! * [`concurrency`]: the dynamic-concurrency snapshot of the host.
//! * [`host_config`]: host.json with its overrides.
//! * [`names`]: app settings and `%name%`.
//! * [`slots`]: request slots, shared by front ends.

pub mod concurrency;
pub mod decision;
pub mod host_config;
pub mod names;
pub mod queue;
pub mod slots;
pub mod timer;
