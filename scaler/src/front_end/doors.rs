//! The ports on which requests come.

use std::{net::SocketAddr, time::Duration};

use maniple_front::{server::Door, tls::Certificates};
use tokio::net::TcpListener;

use super::{FrontArgs, FrontError};

/// How often certificates are looked at. Kubernetes itself needs about a minute to bring a changed Secret into a pod.
pub(super) const LOOK: Duration = Duration::from_secs(10);

/// Open ports.
#[derive(Debug)]
pub(super) struct Doors {
    pub(super) all: Vec<Door>,
    /// What the encrypted one shows.
    pub(super) certificates: Option<Certificates>,
}

/// Opens them, and reads the certificates.
pub(super) async fn open(args: &FrontArgs) -> Result<Doors, FrontError> {
    let mut all = vec![Door {
        listener: bind(args.listen_address, "--listen-address").await?,
        certificates: None,
    }];
    if args.tls.tls_folders.is_empty() {
        let certificates = None;
        return Ok(Doors { all, certificates });
    }
    let certificates = Certificates::load(&args.tls.tls_folders)?;
    all.push(Door {
        listener: bind(args.tls.tls_listen_address, "--tls-listen-address").await?,
        certificates: Some(certificates.clone()),
    });
    let certificates = Some(certificates);
    Ok(Doors { all, certificates })
}

async fn bind(address: SocketAddr, argument: &'static str) -> Result<TcpListener, FrontError> {
    TcpListener::bind(address)
        .await
        .map_err(|source| FrontError::Listen {
            address,
            argument,
            source,
        })
}
