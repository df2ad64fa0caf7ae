//! maniple-operator
