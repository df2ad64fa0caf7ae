//! The scaler: knows what waits in the event sources of every group, decides how many instances each needs, answers KEDA
//! from memory, and writes the counts itself where KEDA does not.

pub mod args;
pub mod book;
pub mod clock;
pub mod engine;
pub mod front_end;
pub mod grpc;
pub mod index;
pub mod mirror;
pub mod native;
pub mod process;
pub mod slots;
pub mod status;
