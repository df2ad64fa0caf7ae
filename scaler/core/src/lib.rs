//! maniple-core
