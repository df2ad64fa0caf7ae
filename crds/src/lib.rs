//! The API of maniple: group `maniple.dev`, version `v1alpha1`.
//!
//! One folder per kind, and beside them the rules that more than one reader of the kind must agree on: which group a
//! function belongs to ([`group`]), what the objects of a group are called ([`names`]), which application settings would
//! break an instance ([`settings`]), and the reasons that conditions and events carry ([`reasons`]).
//!
//! Nothing here does I/O.

pub mod function_app;
pub mod group;
pub mod names;
pub mod reasons;
pub mod report;
pub mod schema;
pub mod settings;

pub use function_app::{FunctionApp, FunctionAppSpec, FunctionAppStatus};
pub use group::GroupName;

/// API group of every kind here.
pub const API_GROUP: &str = "maniple.dev";
