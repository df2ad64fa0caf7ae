//! Request slots: the data role of the process that leads, and what front ends hear of it.

pub mod wire;
