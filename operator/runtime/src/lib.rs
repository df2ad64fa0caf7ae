//! maniple-runtime
