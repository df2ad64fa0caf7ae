//! Names and times of the certificates.

use clap::Args;
use jiff::SignedDuration;

/// Which certificates are made. Without the names of Secrets none are.
#[derive(Debug, Clone, Default, Args)]
pub struct CertificateArgs {
    /// Secret of the CA that signs the certificates between front ends and scaler. Without it none are made.
    #[arg(
        long,
        env = "MANIPLE_SLOTS_AUTHORITY_SECRET",
        requires_all = ["slots_front_secret", "slots_scaler_secret", "slots_server_names"]
    )]
    pub slots_authority_secret: Option<String>,

    /// Secret of the certificate that front ends show to the scaler.
    #[arg(long, env = "MANIPLE_SLOTS_FRONT_SECRET")]
    pub slots_front_secret: Option<String>,

    /// Secret of the certificate that the scaler shows to front ends.
    #[arg(long, env = "MANIPLE_SLOTS_SCALER_SECRET")]
    pub slots_scaler_secret: Option<String>,

    /// Host names in the scaler's certificate, separated by commas.
    #[arg(long, env = "MANIPLE_SLOTS_SERVER_NAMES", value_delimiter = ',')]
    pub slots_server_names: Vec<String>,

    /// Days for which a certificate is made. It is renewed when a third of them is left; the CA lives four times as long.
    #[arg(long, env = "MANIPLE_CERTIFICATE_DAYS", default_value_t = 90, value_parser = clap::value_parser!(u16).range(1..=365))]
    pub certificate_days: u16,
}

impl CertificateArgs {
    /// What is to be kept in this namespace; `None` when somebody else makes the certificates.
    pub fn settings(&self, namespace: &str) -> Option<Settings> {
        Some(Settings {
            namespace: namespace.to_owned(),
            authority: self.slots_authority_secret.clone()?,
            front: self.slots_front_secret.clone()?,
            scaler: self.slots_scaler_secret.clone()?,
            server_names: self.slots_server_names.clone(),
            times: Times::of_days(self.certificate_days),
        })
    }
}

/// What is kept.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Namespace of all Secrets.
    pub namespace: String,
    /// Secret of the CA.
    pub authority: String,
    /// Secret of the front ends.
    pub front: String,
    /// Secret of the scaler.
    pub scaler: String,
    /// Host names in the scaler's certificate.
    pub server_names: Vec<String>,
    /// How long everything lives.
    pub times: Times,
}

impl Settings {
    /// Secret of a side.
    pub(super) fn secret(&self, side: Side) -> &str {
        match side {
            Side::Front => &self.front,
            Side::Scaler => &self.scaler,
        }
    }
}

/// Who shows a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// Front ends, which connect.
    Front,
    /// The scaler's replicas, which accept.
    Scaler,
}

impl Side {
    /// Both.
    pub(super) const ALL: [Self; 2] = [Self::Front, Self::Scaler];

    /// A word for logs and metrics.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Front => "front",
            Self::Scaler => "scaler",
        }
    }
}

/// How long everything lives.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    /// Life of a certificate.
    pub life: SignedDuration,
    /// A CA is used when every Secret has named it for this long. Pods see a changed Secret after one to two minutes; a node that is
    /// slow or out of reach has an hour.
    pub settle: SignedDuration,
    /// Certificates begin this long ago, for clocks that are behind.
    pub backdate: SignedDuration,
}

impl Times {
    /// Certificates of that many days.
    pub fn of_days(days: u16) -> Self {
        Self {
            life: SignedDuration::from_hours(24 * i64::from(days)),
            settle: SignedDuration::from_hours(1),
            backdate: SignedDuration::from_hours(1),
        }
    }

    /// A certificate is renewed when no more than this is left.
    pub(super) fn renew(&self) -> SignedDuration {
        self.life / 3
    }

    /// Life of a CA.
    pub(super) fn authority(&self) -> SignedDuration {
        self.life * 4
    }

    /// A CA gets a successor when no more than this is left, so that it outlives all certificates that it has signed.
    pub(super) fn successor(&self) -> SignedDuration {
        self.life * 2
    }

    /// A CA that has a successor is trusted for this long, or until it ends.
    pub(super) fn overlap(&self) -> SignedDuration {
        self.life
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        certificates: CertificateArgs,
    }

    fn parse(more: &[&str]) -> Result<CertificateArgs, clap::Error> {
        let all = ["operator"].iter().chain(more);
        Program::try_parse_from(all).map(|program| program.certificates)
    }

    #[test]
    fn none_are_made_without_names_and_half_of_the_names_is_an_error() {
        assert!(parse(&[]).unwrap().settings("ns").is_none());
        assert!(parse(&["--slots-authority-secret=ca"]).is_err());
        let all = [
            "--slots-authority-secret=ca",
            "--slots-front-secret=f",
            "--slots-scaler-secret=s",
            "--slots-server-names=a,a.ns.svc",
            "--certificate-days=30",
        ];
        let settings = parse(&all).unwrap().settings("ns").unwrap();
        assert_eq!(settings.server_names, ["a", "a.ns.svc"]);
        assert_eq!(settings.secret(Side::Front), "f");
        assert_eq!(settings.secret(Side::Scaler), "s");
        assert_eq!(settings.times.life, SignedDuration::from_hours(720));
        assert!(parse(&["--certificate-days=0"]).is_err());
    }

    #[test]
    fn no_certificate_outlives_its_authority() {
        for days in [1, 90, 365] {
            let times = Times::of_days(days);
            assert!(times.life + times.settle <= times.successor());
            assert!(times.renew() > times.settle);
        }
    }
}
