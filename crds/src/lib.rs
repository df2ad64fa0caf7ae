//! maniple-crds
