//! The routes of all apps, from their plans.

use super::pods::group_id;
use super::wire::{AdminPaths, RouteSpec, UpstreamProtocol};
use crate::index::{AppKey, GroupKey, HttpPlan};
use maniple_core::slots::message::GroupId;
use maniple_crds::function_app::AppProtocol;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

/// Who wants hosts and paths.
#[derive(Clone, Copy, Debug)]
pub(super) struct Claim<'a> {
    pub(super) app: &'a AppKey,
    /// None while the functions of the app are not known.
    pub(super) group: Option<&'a GroupKey>,
    pub(super) plan: &'a HttpPlan,
}

/// The routes of these claims. Of two apps that want the same host and path the first by name has it.
pub(super) fn routes<'a>(
    domain: &str,
    claims: impl IntoIterator<Item = Claim<'a>>,
) -> Vec<RouteSpec> {
    let mut claims: Vec<_> = claims.into_iter().collect();
    claims.sort_unstable_by_key(|claim| (claim.app, claim.group));
    let mut taken: BTreeMap<(String, String), RouteSpec> = BTreeMap::new();
    for Claim { app, group, plan } in claims {
        let group = match group {
            Some(key) => group_id(&app.namespace, &app.name, key.group()),
            None => GroupId::new(""),
        };
        let own = plan.hosts.iter().flat_map(|host| {
            let all = ["/".to_owned()];
            let prefixes = if plan.path_prefixes.is_empty() {
                all.to_vec()
            } else {
                plan.path_prefixes.clone()
            };
            prefixes.into_iter().map(|prefix| (host.clone(), prefix))
        });
        let default = format!("{}.{}.{domain}", app.name, app.namespace);
        for (host, path_prefix) in own.chain([(default, "/".to_owned())]) {
            let route = RouteSpec {
                host: host.to_ascii_lowercase(),
                path_prefix,
                group: group.clone(),
                request_timeout: plan.request_timeout,
                run_limit: plan.function_timeout,
                room: plan.room,
                patience: plan.patience,
                protocol: match plan.protocol {
                    AppProtocol::Http1 => UpstreamProtocol::Http1,
                    AppProtocol::H2c => UpstreamProtocol::H2c,
                },
                admin: if plan.administered {
                    AdminPaths::Closed
                } else {
                    AdminPaths::Open
                },
                namespace: app.namespace.to_string(),
                app: app.name.to_string(),
            };
            match taken.entry((route.host.clone(), route.path_prefix.clone())) {
                Entry::Vacant(free) => drop(free.insert(route)),
                Entry::Occupied(taken) => {
                    let (host, path) = taken.key();
                    let holder = &taken.get().group;
                    tracing::warn!(%app, host, path, holder = holder.as_str(), "another app has this host and path already");
                }
            }
        }
    }
    taken.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn plan(hosts: &[&str], prefixes: &[&str]) -> HttpPlan {
        let owned = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
        HttpPlan {
            concurrency: 1,
            port: 80,
            hosts: owned(hosts),
            path_prefixes: owned(prefixes),
            request_timeout: Duration::from_secs(230),
            function_timeout: None,
            drain_limit: Duration::from_hours(1),
            room: 10,
            patience: Duration::from_secs(5),
            protocol: AppProtocol::H2c,
            administered: true,
        }
    }

    #[test]
    fn hosts_have_one_app_each_and_may_be_awaited() {
        let app = |name: &str| AppKey::new("ns", name);
        let (a, b, c) = (app("a"), app("b"), app("c"));
        let group = |app: &AppKey| GroupKey::from_text(app.clone(), "http");
        let (group_a, group_b) = (group(&a), group(&b));
        let (plan_a, plan_b, plan_c) = (
            plan(&["shop.example"], &["/api"]),
            plan(&["shop.example"], &["/api", "/web"]),
            plan(&[], &[]),
        );
        let claim = |app, group, plan| Claim { app, group, plan };
        let routes = routes(
            "apps.test",
            [
                claim(&c, None, &plan_c),
                claim(&b, Some(&group_b), &plan_b),
                claim(&a, Some(&group_a), &plan_a),
            ],
        );
        assert!(
            routes
                .iter()
                .all(|route| route.protocol == UpstreamProtocol::H2c)
        );
        let seen: Vec<_> = routes
            .iter()
            .map(|r| (r.host.as_str(), r.path_prefix.as_str(), r.group.as_str()))
            .collect();
        assert_eq!(
            seen,
            [
                ("a.ns.apps.test", "/", "ns/a/http"),
                ("b.ns.apps.test", "/", "ns/b/http"),
                ("c.ns.apps.test", "/", ""),
                ("shop.example", "/api", "ns/a/http"),
                ("shop.example", "/web", "ns/b/http"),
            ]
        );
    }
}
