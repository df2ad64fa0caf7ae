//! function-host-standin
