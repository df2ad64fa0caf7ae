//! Step after step until nothing is left to do.

use super::Error;
use super::found::{Authority, CA, CERTIFICATE, Found, KEY, TRUSTED_SINCE, value};
use super::issue::{self, Issued};
use super::plan::{self, Step, Why};
use super::settings::{Settings, Side};
use super::store::Store;
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use rustls::pki_types::CertificateDer;
use std::collections::BTreeMap;

/// A first installation takes three steps, and the worst mixture of broken Secrets seven. Each conflict costs one more.
const MOST_STEPS: u32 = 20;
/// Label of Secrets that are made here. Not the labels of the release: what finds its objects by them would remove these.
const LABEL: (&str, &str) = ("maniple.dev/certificates", "slots");
/// Labels of Secrets that a chart made before, by which a release or a GitOps tool would remove them.
const NOT_OURS: [&str; 3] = [
    "app.kubernetes.io/instance",
    "app.kubernetes.io/managed-by",
    "helm.sh/chart",
];

/// Something that people may want to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct News {
    /// Name of the Secret.
    pub(super) secret: String,
    /// Whose certificate: `authority`, `front` or `scaler`.
    pub(super) certificate: &'static str,
    /// What was done, in a word: events that differ in their text alone are counted as one.
    pub(super) action: &'static str,
    /// Something was wrong.
    pub(super) warning: bool,
    /// What was done, and why.
    pub(super) text: String,
}

/// Brings the Secrets to where nothing is left to do, and returns what they hold then. `news` tells also what was done
/// before an error.
pub(super) async fn settle<S: Store>(
    store: &S,
    settings: &Settings,
    news: &mut Vec<News>,
) -> Result<Found, Error> {
    let mut last = Step::Rest;
    for _ in 0..MOST_STEPS {
        let secrets = Secrets::read(store, settings).await?;
        let now = store.now().await?;
        let found = secrets.judge(settings, now);
        let step = plan::next(&found, &settings.times, now);
        let (secret, told) = match &step {
            Step::Rest => return Ok(found),
            step => secrets.after(step, settings, now)?,
        };
        match store.write(&secret).await {
            Ok(()) => news.push(told),
            // The next look sees what the other one wrote.
            Err(error @ Error::Conflict { .. }) => tracing::info!("{error}; looking again"),
            Err(error) => return Err(error),
        }
        last = step;
    }
    Err(Error::Unsettled(name_of(&last)))
}

fn name_of(step: &Step) -> String {
    match step {
        Step::MakeAuthority { why, .. } => format!("a new CA: {}", why.text()),
        Step::Issue { side, why, .. } => {
            format!("a new certificate for {}: {}", side.name(), why.text())
        }
        Step::Publish { side, .. } => format!("trusted CAs of {}", side.name()),
        Step::Forget { .. } => String::from("CAs to forget"),
        Step::Rest => String::from("none"),
    }
}

impl Step {
    fn action(&self) -> &'static str {
        match self {
            Self::MakeAuthority { .. } => "MakeAuthority",
            Self::Issue { .. } => "Issue",
            Self::Publish { .. } => "Publish",
            Self::Forget { .. } => "Forget",
            Self::Rest => "Rest",
        }
    }
}

impl Why {
    fn text(&self) -> &str {
        match self {
            Self::Absent => "there was none",
            Self::Due(why) | Self::Unusable(why) => why,
        }
    }
}

/// The three Secrets as they were read.
struct Secrets {
    authority: Option<Secret>,
    front: Option<Secret>,
    scaler: Option<Secret>,
}

impl Secrets {
    async fn read<S: Store>(store: &S, settings: &Settings) -> Result<Self, Error> {
        Ok(Self {
            authority: store.read(&settings.authority).await?,
            front: store.read(&settings.front).await?,
            scaler: store.read(&settings.scaler).await?,
        })
    }

    fn judge(&self, settings: &Settings, now: Timestamp) -> Found {
        let (front, scaler) = (self.front.as_ref(), self.scaler.as_ref());
        Found::read(self.authority.as_ref(), front, scaler, settings, now)
    }

    fn of(&self, side: Side) -> Option<&Secret> {
        match side {
            Side::Front => self.front.as_ref(),
            Side::Scaler => self.scaler.as_ref(),
        }
    }

    /// The Secret that a step writes, and what to tell of it.
    fn after(
        &self,
        step: &Step,
        settings: &Settings,
        now: Timestamp,
    ) -> Result<(Secret, News), Error> {
        let times = &settings.times;
        let old = self.authority.as_ref();
        let news = |side: Option<Side>, warning, text: String| News {
            secret: side
                .map_or(&settings.authority, |side| match side {
                    Side::Front => &settings.front,
                    Side::Scaler => &settings.scaler,
                })
                .clone(),
            certificate: side.map_or("authority", Side::name),
            action: step.action(),
            warning,
            text,
        };
        let warns = |why: &Why| matches!(why, Why::Unusable(_));
        Ok(match step {
            Step::MakeAuthority { trust, why } => {
                let mut secret = start(old, &settings.authority, settings);
                put_pair(&mut secret, &issue::authority(times, now)?);
                put(
                    &mut secret,
                    CA,
                    pem_of(trust.iter().map(|other| &other.certificate)),
                );
                let text = format!("a new CA was made: {}", why.text());
                (secret, news(None, warns(why), text))
            }
            Step::Forget { trust } => {
                let mut secret = start(old, &settings.authority, settings);
                put(
                    &mut secret,
                    CA,
                    pem_of(trust.iter().map(|other| &other.certificate)),
                );
                let text = String::from("a CA that nobody uses any more is no longer trusted");
                (secret, news(None, false, text))
            }
            Step::Issue { side, trust, why } => {
                let mut secret = start(self.of(*side), settings.secret(*side), settings);
                let authority = Issued {
                    certificate: text_of(old, CERTIFICATE),
                    key: text_of(old, KEY),
                };
                let leaf = issue::leaf(&authority, *side, &settings.server_names, times, now)?;
                put_pair(&mut secret, &leaf);
                put_trust(&mut secret, trust, now);
                let text = format!("a new certificate was made: {}", why.text());
                (secret, news(Some(*side), warns(why), text))
            }
            Step::Publish { side, trust } => {
                let mut secret = start(self.of(*side), settings.secret(*side), settings);
                put_trust(&mut secret, trust, now);
                let text = format!("the trusted CAs were written: {}", trust.len());
                (secret, news(Some(*side), false, text))
            }
            Step::Rest => unreachable!("there is nothing to write when nothing is to be done"),
        })
    }
}

/// The stored Secret, to be changed, or a new one.
fn start(stored: Option<&Secret>, name: &str, settings: &Settings) -> Secret {
    let mut secret = stored.cloned().unwrap_or_else(|| Secret {
        type_: Some(String::from("kubernetes.io/tls")),
        ..Secret::default()
    });
    secret.metadata.name = Some(name.to_owned());
    secret.metadata.namespace = Some(settings.namespace.clone());
    secret.metadata.managed_fields = None;
    let labels = secret.metadata.labels.get_or_insert_default();
    labels.retain(|label, _| !NOT_OURS.contains(&label.as_str()));
    labels.insert(LABEL.0.to_owned(), LABEL.1.to_owned());
    labels.insert("app.kubernetes.io/part-of".to_owned(), "maniple".to_owned());
    if let Some(annotations) = &mut secret.metadata.annotations {
        annotations.retain(|name, _| !name.contains("helm.sh/"));
    }
    secret
}

fn put(secret: &mut Secret, key: &str, text: String) {
    let data: &mut BTreeMap<_, _> = secret.data.get_or_insert_default();
    data.insert(key.to_owned(), ByteString(text.into_bytes()));
}

fn put_pair(secret: &mut Secret, pair: &Issued) {
    put(secret, CERTIFICATE, pair.certificate.clone());
    put(secret, KEY, pair.key.clone());
}

/// The time is that of the last change: a renewed certificate beside the same CAs does not make them any newer.
fn put_trust(secret: &mut Secret, trust: &[CertificateDer<'static>], now: Timestamp) {
    let text = pem_of(trust.iter());
    let annotations = secret.metadata.annotations.get_or_insert_default();
    let since = annotations.get(TRUSTED_SINCE);
    let since = since.and_then(|text| text.parse::<Timestamp>().ok());
    let same =
        value(Some(secret), CA) == text.as_bytes() && since.is_some_and(|since| since <= now);
    if !same {
        let annotations = secret.metadata.annotations.get_or_insert_default();
        annotations.insert(TRUSTED_SINCE.to_owned(), now.to_string());
    }
    put(secret, CA, text);
}

fn pem_of<'a>(certificates: impl Iterator<Item = &'a CertificateDer<'static>>) -> String {
    let blocks = certificates.map(|der| pem::Pem::new("CERTIFICATE", der.to_vec()));
    let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
    pem::encode_many_config(&blocks.collect::<Vec<_>>(), config)
}

fn text_of(secret: Option<&Secret>, key: &str) -> String {
    String::from_utf8_lossy(value(secret, key)).into_owned()
}

impl Found {
    /// When the certificates that are in use end: of the CA, of front ends, of the scaler.
    pub(super) fn ends(&self) -> [(&'static str, Option<Timestamp>); 3] {
        let side = |side| self.leaf(side).usable().map(|leaf| leaf.not_after);
        let authority: Option<&Authority> = self.authority.usable();
        [
            ("authority", authority.map(|authority| authority.not_after)),
            (Side::Front.name(), side(Side::Front)),
            (Side::Scaler.name(), side(Side::Scaler)),
        ]
    }
}
