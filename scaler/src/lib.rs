//! maniple-scaler
