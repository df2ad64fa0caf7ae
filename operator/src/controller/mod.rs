//! One folder for each kind that is reconciled.

pub mod function_app;
pub mod scaled_object;
