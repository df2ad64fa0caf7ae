//! New keys and certificates.

use super::settings::{Side, Times};
use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

/// A certificate with its key, both PEM.
#[derive(Clone)]
pub(super) struct Issued {
    pub(super) certificate: String,
    pub(super) key: String,
}

impl std::fmt::Debug for Issued {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Issued").finish_non_exhaustive()
    }
}

/// A new CA, which may sign certificates of servers and clients and no further CA.
pub(super) fn authority(times: &Times, now: Timestamp) -> Result<Issued, rcgen::Error> {
    let mut params = between(now, times, times.authority())?;
    // Its own name, so that two of them in one file are told apart by people too.
    let day = now.strftime("%Y-%m-%d");
    let name = format!("maniple slots {day} {:08x}", fastrand::u32(..));
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let key = KeyPair::generate()?;
    Ok(Issued {
        certificate: params.self_signed(&key)?.pem(),
        key: key.serialize_pem(),
    })
}

/// A new certificate of one side, good for that side only.
pub(super) fn leaf(
    authority: &Issued,
    side: Side,
    server_names: &[String],
    times: &Times,
    now: Timestamp,
) -> Result<Issued, rcgen::Error> {
    let issuer =
        Issuer::from_ca_cert_pem(&authority.certificate, KeyPair::from_pem(&authority.key)?)?;
    let mut params = between(now, times, times.life)?;
    let name = format!("maniple {}", side.name());
    params.distinguished_name.push(DnType::CommonName, name);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    match side {
        Side::Front => {
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        }
        Side::Scaler => {
            params.subject_alt_names =
                CertificateParams::new(server_names.to_vec())?.subject_alt_names;
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        }
    }
    let key = KeyPair::generate()?;
    Ok(Issued {
        certificate: params.signed_by(&key, &issuer)?.pem(),
        key: key.serialize_pem(),
    })
}

fn between(
    now: Timestamp,
    times: &Times,
    life: SignedDuration,
) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let at = |time: Timestamp| {
        let seconds = u64::try_from(time.as_second()).unwrap_or_default();
        epoch + std::time::Duration::from_secs(seconds)
    };
    params.not_before = at(now - times.backdate);
    params.not_after = at(now + life);
    Ok(params)
}
