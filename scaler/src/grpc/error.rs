//! Why the gRPC server cannot start.

use std::{net::SocketAddr, path::PathBuf};

/// An error of the gRPC server. What goes wrong in a call is a `tonic::Status` instead.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GrpcError {
    /// The port cannot be opened.
    #[error(
        "grpc address {address} cannot be opened: {source}; choose another with --grpc-address"
    )]
    Bind {
        /// The address that was asked for.
        address: SocketAddr,
        /// The operating system's reason.
        source: std::io::Error,
    },

    /// The port for front ends cannot be opened.
    #[error(
        "slots address {address} cannot be opened: {source}; choose another with --slots-address"
    )]
    BindSlots {
        /// The address that was asked for.
        address: SocketAddr,
        /// The operating system's reason.
        source: std::io::Error,
    },

    /// Front ends cannot be told from others.
    #[error(
        "front ends must be authenticated: set all of --slots-tls-cert, --slots-tls-key and --slots-tls-client-ca"
    )]
    SlotsTls,

    /// A certificate, key or CA file cannot be used.
    #[error("tls file {path}: {message}; it must hold PEM text")]
    TlsFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },

    /// Certificate, key and CA do not make a server together.
    #[error("tls settings: {0}; check that the key belongs to the certificate")]
    Tls(#[from] rustls::Error),

    /// The client CA cannot be used to verify clients.
    #[error("tls client ca: {0}; it must hold at least one CA certificate")]
    ClientCa(#[from] rustls::server::VerifierBuilderError),

    /// The connections cannot be served any longer.
    #[error("grpc server: {0}")]
    Serve(#[from] tonic::transport::Error),
}

impl GrpcError {
    /// A stable word for metrics.
    pub fn category(&self) -> &'static str {
        match self {
            Self::Bind { .. } | Self::BindSlots { .. } => "bind",
            Self::SlotsTls | Self::TlsFile { .. } | Self::Tls(_) | Self::ClientCa(_) => "tls",
            Self::Serve(_) => "serve",
        }
    }
}
