//! A handshake between a front end and the scaler, both with what a pod has mounted.

use super::world::{Mounted, SERVER, World};
use crate::certificates::settings::Side;
use jiff::Timestamp;
use rustls::client::WebPkiServerVerifier;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};
use std::io::Cursor;
use std::sync::Arc;
use std::time::Duration;

/// The clock of the pods.
#[derive(Debug)]
struct Clock(Timestamp);

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        let seconds = u64::try_from(self.0.as_second()).ok()?;
        Some(UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
    }
}

fn roots(mounted: &Mounted) -> Arc<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&mounted.trusted) {
        roots.add(certificate.unwrap()).unwrap();
    }
    Arc::new(roots)
}

fn own(mounted: &Mounted) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let chain = CertificateDer::pem_slice_iter(&mounted.certificate);
    let chain = chain.collect::<Result<_, _>>().unwrap();
    (chain, PrivateKeyDer::from_pem_slice(&mounted.key).unwrap())
}

/// Whether a front end and a scaler with these files come together at this time.
pub(super) fn shake(
    front: &Mounted,
    scaler: &Mounted,
    now: Timestamp,
) -> Result<(), rustls::Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let clock = Arc::new(Clock(now));
    let verifier = WebPkiServerVerifier::builder_with_provider(roots(front), provider.clone())
        .build()
        .unwrap();
    let (chain, key) = own(front);
    let client = ClientConfig::builder_with_details(provider.clone(), clock.clone())
        .with_safe_default_protocol_versions()?
        .with_webpki_verifier(verifier)
        .with_client_auth_cert(chain, key)?;
    let verifier = WebPkiClientVerifier::builder_with_provider(roots(scaler), provider.clone())
        .build()
        .unwrap();
    let (chain, key) = own(scaler);
    let server = ServerConfig::builder_with_details(provider, clock)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)?;

    let name = ServerName::try_from(SERVER).unwrap();
    let mut client = ClientConnection::new(Arc::new(client), name)?;
    let mut server = ServerConnection::new(Arc::new(server))?;
    while client.is_handshaking() || server.is_handshaking() {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        server.read_tls(&mut Cursor::new(&wire)).unwrap();
        server.process_new_packets()?;
        wire.clear();
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        client.read_tls(&mut Cursor::new(&wire)).unwrap();
        client.process_new_packets()?;
    }
    Ok(())
}

/// Pods that see the Secrets of now come together.
pub(super) fn comes_together(world: &World) {
    let (front, scaler) = (world.pod(Side::Front), world.pod(Side::Scaler));
    shake(&front, &scaler, world.time()).unwrap();
}
