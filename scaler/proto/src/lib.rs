//! maniple-proto
