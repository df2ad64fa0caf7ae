//! A small world around the production code of the slot protocol: front ends, data roles, the record of members, instances and a network that cuts, delays, reorders
//! and repeats. It is explored exhaustively in small configurations and by random walks in larger ones; rules that are known to be wrong can be switched
//! on, and must be found out.

pub mod action;
pub mod checker;
mod choices;
mod network;
pub mod pool;
pub mod setup;
pub mod step;
pub mod verdict;
pub mod world;
