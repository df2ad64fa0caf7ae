//! maniple-sources
