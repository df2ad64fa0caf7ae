//! The gRPC protocols of the scaler: KEDA's external scaler, and our own mirror and slots.
//!
//! The code under `gen/` is generated from `proto/` and committed, so that no build needs a protobuf compiler.
//! After an edit of a `.proto` file run `MANIPLE_REGENERATE=1 cargo test -p maniple-proto`.

/// KEDA's protocol: `IsActive`, `StreamIsActive`, `GetMetricSpec`, `GetMetrics`, `StreamMetricSpec`.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
pub mod externalscaler {
    include!("gen/externalscaler.rs");
}

/// How a standby scaler follows the leader, and how front ends and the data role share slots.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
pub mod v1 {
    include!("gen/maniple.scaler.v1.rs");
}

/// How a standby scaler follows the leader.
pub use v1 as mirror;

/// How front ends and the data role share the concurrency of instances.
pub use v1 as slots;

/// Descriptors of all protocols for gRPC reflection, an encoded `google.protobuf.FileDescriptorSet`.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!("gen/descriptors.bin");
