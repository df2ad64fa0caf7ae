//! The two gRPC protocols of the scaler: KEDA's external scaler and our own mirror.
//!
//! The code under `gen/` is generated from `proto/` and committed, so that no build needs a protobuf compiler.
//! After an edit of a `.proto` file run `MANIPLE_REGENERATE=1 cargo test -p maniple-proto`.

/// KEDA's protocol: `IsActive`, `StreamIsActive`, `GetMetricSpec`, `GetMetrics`, `StreamMetricSpec`.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
pub mod externalscaler {
    include!("gen/externalscaler.rs");
}

/// How a standby scaler follows the leader.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
pub mod mirror {
    include!("gen/maniple.scaler.v1.rs");
}

/// Descriptors of both protocols for gRPC reflection, an encoded `google.protobuf.FileDescriptorSet`.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!("gen/descriptors.bin");
