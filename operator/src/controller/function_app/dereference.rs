//! I/O: fetches what a FunctionApp refers to.

use super::{Context, Error};
use hmac::{Hmac, Mac};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{Api, ResourceExt};
use maniple_crds::names::{HOST_KEY, keys_secret};
use maniple_crds::{FunctionApp, group};
use sha2::Sha256;
use std::collections::BTreeMap;

/// Setting with the time zone of timers, in lower case.
pub(super) const TIME_ZONE: &str = "website_time_zone";

/// What a FunctionApp refers to, as far as validating and building need it.
#[derive(Clone, Debug, Default)]
pub(super) struct References {
    /// Admin key of the app's hosts, 64 hex digits; generated at first sight.
    pub host_key: String,
    /// Values from other objects of the settings that the operator itself reads, by name in lower case.
    pub interpreted: BTreeMap<String, String>,
    /// Changes when a referenced value changes. Keyed by the host key, so that it reveals nothing.
    pub settings_digest: String,
    /// References that lead nowhere.
    pub missing: Vec<Missing>,
    /// Routes that an older app has.
    pub host_conflicts: Vec<HostConflict>,
    /// Whether ScaledObjects exist in this cluster.
    pub keda_installed: bool,
    /// Whether the API server keeps a tolerance in an HPA's behaviour (1.35 and later do by default).
    pub hpa_tolerance: bool,
}

impl References {
    /// Value of a setting that the operator itself reads, in any letter case: in clear text or from another object.
    pub(super) fn setting<'a>(&'a self, app: &'a FunctionApp, name: &str) -> Option<&'a str> {
        let settings = &app.spec.app_settings;
        let setting = settings
            .iter()
            .find(|s| s.name.eq_ignore_ascii_case(name))?;
        match &setting.value {
            Some(value) => Some(value),
            None => self
                .interpreted
                .get(&name.to_ascii_lowercase())
                .map(String::as_str),
        }
    }
}

/// A reference that leads nowhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Missing {
    /// Field that holds the reference.
    pub path: String,
    /// What is missing and what to do.
    pub message: String,
}

/// A route that an older app has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HostConflict {
    /// Field of this app.
    pub path: String,
    /// Host and path prefix.
    pub route: String,
    /// `namespace/name` of the older app.
    pub owner: String,
}

pub(super) async fn dereference(app: &FunctionApp, ctx: &Context) -> Result<References, Error> {
    let namespace = app.namespace().unwrap_or_default();
    let host_key = host_key(app, &namespace, ctx).await?;
    let (values, missing) = referenced_values(app, &namespace, ctx).await?;
    let keda = ctx.keda.borrow().clone();
    let host_conflicts = if app.spec.http.hosts.is_empty() {
        Vec::new()
    } else {
        let same_host = |other: &FunctionApp| {
            let hosts = &other.spec.http.hosts;
            hosts.iter().any(|h| app.spec.http.hosts.contains(h))
        };
        host_conflicts(app, &ctx.apps.state_filter(same_host))
    };
    Ok(References {
        interpreted: interpreted(&values),
        settings_digest: digest(&host_key, &values),
        missing,
        host_conflicts,
        keda_installed: keda.installed,
        hpa_tolerance: keda.hpa_tolerance,
        host_key,
    })
}

/// The key in the app's Secret, or a new one when there is none yet. The watch's copy will do when it holds a key; that there
/// is none only the API server can say: a stale copy must not replace a key that running instances use.
async fn host_key(app: &FunctionApp, namespace: &str, ctx: &Context) -> Result<String, Error> {
    let name = keys_secret(&app.name_any());
    let cached = ctx.owned.secrets.get(app, &name);
    if let Some(key) = cached.as_deref().and_then(key_in) {
        return Ok(key);
    }
    let secrets: Api<Secret> = Api::namespaced(ctx.client.clone(), namespace);
    let stored = secrets
        .get_opt(&name)
        .await
        .map_err(|source| Error::read("Secret", &name, source))?;
    match stored.as_ref().and_then(key_in) {
        Some(key) => Ok(key),
        None => new_key(),
    }
}

fn key_in(secret: &Secret) -> Option<String> {
    let key = secret.data.as_ref()?.get(HOST_KEY)?;
    String::from_utf8(key.0.clone())
        .ok()
        .filter(|k| k.len() == 64 && k.bytes().all(|b| b.is_ascii_hexdigit()))
}

fn new_key() -> Result<String, Error> {
    use std::fmt::Write;
    let mut bytes = [0_u8; 32];
    getrandom::fill(&mut bytes).map_err(|e| Error::Randomness(e.to_string()))?;
    Ok(bytes.iter().fold(String::with_capacity(64), |mut hex, b| {
        write!(hex, "{b:02x}").expect("writing to a String does not fail");
        hex
    }))
}

type Values = BTreeMap<String, Vec<u8>>;

/// Nothing else of what Secrets hold leaves this module.
fn interpreted(values: &Values) -> BTreeMap<String, String> {
    values
        .iter()
        .filter_map(|(name, value)| {
            let name = name.to_ascii_lowercase();
            let read = name == TIME_ZONE || group::is_disabling_setting(&name);
            read.then(|| Some((name, String::from_utf8(value.clone()).ok()?)))?
        })
        .collect()
}

async fn referenced_values(
    app: &FunctionApp,
    namespace: &str,
    ctx: &Context,
) -> Result<(Values, Vec<Missing>), Error> {
    let secrets: Api<Secret> = Api::namespaced(ctx.client.clone(), namespace);
    let maps: Api<ConfigMap> = Api::namespaced(ctx.client.clone(), namespace);
    // Each object is read once, however many keys of it are used.
    let mut read: BTreeMap<(&str, String), Option<Values>> = BTreeMap::new();
    let (mut values, mut missing) = (Values::new(), Vec::new());
    for (index, setting) in app.spec.app_settings.iter().enumerate() {
        let Some(source) = &setting.value_from else {
            continue;
        };
        let (kind, field, key_ref) = match (&source.secret_key_ref, &source.config_map_key_ref) {
            (Some(r), _) => ("Secret", "secretKeyRef", r),
            (None, Some(r)) => ("ConfigMap", "configMapKeyRef", r),
            (None, None) => continue,
        };
        let slot = (kind, key_ref.name.clone());
        if !read.contains_key(&slot) {
            let data = if kind == "Secret" {
                let found = secrets
                    .get_opt(&key_ref.name)
                    .await
                    .map_err(|e| Error::read(kind, &key_ref.name, e))?;
                found.map(|s| {
                    s.data
                        .unwrap_or_default()
                        .into_iter()
                        .map(|(k, v)| (k, v.0))
                        .collect()
                })
            } else {
                let found = maps
                    .get_opt(&key_ref.name)
                    .await
                    .map_err(|e| Error::read(kind, &key_ref.name, e))?;
                found.map(|m| {
                    m.data
                        .unwrap_or_default()
                        .into_iter()
                        .map(|(k, v)| (k, v.into_bytes()))
                        .collect()
                })
            };
            read.insert(slot.clone(), data);
        }
        let path = format!("spec.appSettings[{index}].valueFrom.{field}");
        match read.get(&slot).and_then(Option::as_ref) {
            None => missing.push(Missing {
                path: format!("{path}.name"),
                message: format!(
                    "{kind} `{}` does not exist in namespace `{namespace}`; create it",
                    key_ref.name
                ),
            }),
            Some(data) => match data.get(&key_ref.key) {
                None => missing.push(Missing {
                    path: format!("{path}.key"),
                    message: format!(
                        "{kind} `{}` has no key `{}`; add it",
                        key_ref.name, key_ref.key
                    ),
                }),
                Some(value) => {
                    values.insert(setting.name.clone(), value.clone());
                }
            },
        }
    }
    Ok((values, missing))
}

fn digest(host_key: &str, values: &Values) -> String {
    use std::fmt::Write;
    let mut mac =
        Hmac::<Sha256>::new_from_slice(host_key.as_bytes()).expect("HMAC takes keys of any length");
    for (name, value) in values {
        mac.update(&(name.len() as u64).to_le_bytes());
        mac.update(name.as_bytes());
        mac.update(&(value.len() as u64).to_le_bytes());
        mac.update(value);
    }
    mac.finalize()
        .into_bytes()
        .iter()
        .take(8)
        .fold(String::new(), |mut hex, b| {
            write!(hex, "{b:02x}").expect("writing to a String does not fail");
            hex
        })
}

/// Routes of this app that an older one has too. Of two apps of the same age the one that comes first by name wins.
///
/// The age is that of the app and not of the claim: an older app that adds a host takes it from a younger one that had it
/// before. The youngest is the one that gives way, so that the same app wins after every restart.
fn host_conflicts(app: &FunctionApp, others: &[std::sync::Arc<FunctionApp>]) -> Vec<HostConflict> {
    let rank = |a: &FunctionApp| {
        (
            a.metadata.creation_timestamp.as_ref().map(|t| t.0),
            a.namespace(),
            a.name_any(),
        )
    };
    let mine = rank(app);
    let mut conflicts = Vec::new();
    for (index, host) in app.spec.http.hosts.iter().enumerate() {
        for other in others
            .iter()
            .filter(|o| o.uid() != app.uid() && rank(o) < mine)
        {
            if !other.spec.http.hosts.contains(host) {
                continue;
            }
            if let Some(prefix) = prefixes(app)
                .into_iter()
                .find(|p| prefixes(other).contains(p))
            {
                conflicts.push(HostConflict {
                    path: format!("spec.http.hosts[{index}]"),
                    route: format!("{host}{prefix}"),
                    owner: format!(
                        "{}/{}",
                        other.namespace().unwrap_or_default(),
                        other.name_any()
                    ),
                });
            }
        }
    }
    conflicts
}

fn prefixes(app: &FunctionApp) -> Vec<String> {
    if app.spec.http.path_prefixes.is_empty() {
        return vec!["/".into()];
    }
    app.spec
        .http
        .path_prefixes
        .iter()
        .map(|p| format!("{}/", p.trim_end_matches('/')))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use std::sync::Arc;

    fn app(name: &str, age: i64, hosts: &[&str], prefixes: &[&str]) -> FunctionApp {
        let mut app = super::super::fixtures::app(name, serde_json::json!({}));
        app.metadata.uid = Some(name.into());
        app.metadata.creation_timestamp =
            Some(Time(jiff::Timestamp::from_second(1_000_000 - age).unwrap()));
        app.spec.http.hosts = hosts.iter().map(ToString::to_string).collect();
        app.spec.http.path_prefixes = prefixes.iter().map(ToString::to_string).collect();
        app
    }

    #[test]
    fn the_older_app_keeps_a_route() {
        let old = Arc::new(app("old", 100, &["shop.example"], &["/a"]));
        let new = Arc::new(app(
            "new",
            10,
            &["other.example", "shop.example"],
            &["/b", "/a/"],
        ));
        let all = [old.clone(), new.clone()];
        assert_eq!(host_conflicts(&old, &all), []);
        let found = host_conflicts(&new, &all);
        assert_eq!(found.len(), 1);
        assert_eq!(
            (found[0].path.as_str(), found[0].route.as_str()),
            ("spec.http.hosts[1]", "shop.example/a/")
        );
        assert_eq!(found[0].owner, "default/old");
    }

    #[test]
    fn of_secrets_only_what_the_operator_reads_is_kept() {
        let values = Values::from([
            ("WEBSITE_TIME_ZONE".into(), b"UTC".to_vec()),
            ("AzureWebJobs.Orders.Disabled".into(), b"1".to_vec()),
            ("AzureWebJobsStorage".into(), b"secret".to_vec()),
        ]);
        let kept = interpreted(&values);
        let names: Vec<&str> = kept.keys().map(String::as_str).collect();
        assert_eq!(names, ["azurewebjobs.orders.disabled", "website_time_zone"]);
    }

    #[test]
    fn different_prefixes_of_one_host_do_not_conflict() {
        let all = [
            Arc::new(app("a", 100, &["h"], &["/a"])),
            Arc::new(app("b", 10, &["h"], &["/b"])),
        ];
        assert_eq!(host_conflicts(&all[1], &all), []);
    }

    #[test]
    fn the_digest_follows_the_values_and_depends_on_the_key() {
        let values = |v: &str| Values::from([("A".into(), v.as_bytes().to_vec())]);
        assert_eq!(digest("k", &values("1")), digest("k", &values("1")));
        assert_ne!(digest("k", &values("1")), digest("k", &values("2")));
        assert_ne!(digest("k", &values("1")), digest("l", &values("1")));
    }
}
