//! One folder for each kind that is reconciled.

pub mod function_app;
mod scaled_object;
