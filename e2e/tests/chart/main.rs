//! The Helm chart: its values, what it renders to, and its life in a cluster.
//!
//! The values are checked without further tools, the templates with Helm (feature `helm`), install, upgrade and uninstall
//! on a cluster (feature `cluster`).

mod document;
#[cfg(feature = "helm")]
mod front;
#[cfg(feature = "cluster")]
mod release;
#[cfg(feature = "helm")]
mod rendered;
#[cfg(feature = "helm")]
mod rights;
#[cfg(feature = "helm")]
mod switches;
#[cfg(feature = "helm")]
mod templates;
mod values;
