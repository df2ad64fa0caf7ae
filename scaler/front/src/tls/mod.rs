//! TLS towards clients: certificates from files, chosen by the name that a client asks for, read again when they change.

mod certificates;
mod handshake;

pub use certificates::{Certificates, TlsError};
pub(crate) use handshake::Handshakes;
