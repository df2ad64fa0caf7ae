//! Connections to one replica of the scaler, authenticated both ways.

use std::{net::SocketAddr, path::Path, time::Duration};

use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

use super::{FrontError, ScalerArgs};

/// Limit for opening a connection.
const CONNECT: Duration = Duration::from_secs(2);
/// Pause between two signs of life, and how long one may take: a dead connection is given up after 4 s.
const PING: Duration = Duration::from_secs(2);

/// Makes connections.
#[derive(Debug)]
pub(super) struct Connector {
    scaler: ScalerArgs,
}

impl Connector {
    /// Reads the certificates once, so that a wrong file name is an error at the start.
    pub(super) async fn new(scaler: ScalerArgs) -> Result<Self, FrontError> {
        let connector = Self { scaler };
        connector.tls().await?;
        Ok(connector)
    }

    /// A connection to the replica at `address`. Certificates are read anew, so that a changed Secret needs no restart.
    pub(super) async fn connect(&self, address: SocketAddr) -> Result<Channel, FrontError> {
        let tls = self.tls().await?;
        let scheme = if tls.is_some() { "https" } else { "http" };
        let mut endpoint = Endpoint::from_shared(format!("{scheme}://{address}"))?
            .connect_timeout(CONNECT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(PING)
            .keep_alive_timeout(PING)
            .keep_alive_while_idle(true);
        if let Some(tls) = tls {
            endpoint = endpoint.tls_config(tls)?;
        }
        Ok(endpoint.connect().await?)
    }

    async fn tls(&self) -> Result<Option<ClientTlsConfig>, FrontError> {
        let scaler = &self.scaler;
        let (Some(ca), Some(certificate), Some(key)) = (
            &scaler.slots_server_ca,
            &scaler.slots_client_cert,
            &scaler.slots_client_key,
        ) else {
            return Ok(None);
        };
        let name = scaler.slots_server_name.as_deref();
        let identity = Identity::from_pem(read(certificate).await?, read(key).await?);
        Ok(Some(
            ClientTlsConfig::new()
                .domain_name(name.unwrap_or_else(|| scaler.host()))
                .ca_certificate(Certificate::from_pem(read(ca).await?))
                .identity(identity),
        ))
    }
}

async fn read(path: &Path) -> Result<Vec<u8>, FrontError> {
    tokio::fs::read(path)
        .await
        .map_err(|source| FrontError::TlsFile {
            path: path.to_owned(),
            source,
        })
}
