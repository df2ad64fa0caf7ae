//! The routes of all apps, from their plans.

use super::pods::group_id;
use super::wire::{AdminPaths, RouteSpec, UpstreamProtocol};
use crate::index::{GroupKey, HttpPlan};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

/// The routes of these groups. Of two groups that want the same host and path the first by name has it.
pub(super) fn routes<'a>(
    domain: &str,
    groups: impl IntoIterator<Item = (&'a GroupKey, &'a HttpPlan)>,
) -> Vec<RouteSpec> {
    let mut groups: Vec<_> = groups.into_iter().collect();
    groups.sort_unstable_by_key(|(key, _)| *key);
    let mut taken: BTreeMap<(String, String), RouteSpec> = BTreeMap::new();
    for (key, plan) in groups {
        let app = &key.app;
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
                group: group_id(&app.namespace, &app.name, key.group()),
                request_timeout: plan.request_timeout,
                room: plan.room,
                patience: plan.patience,
                protocol: UpstreamProtocol::Http1,
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
                    tracing::warn!(group = %key, host, path, holder = holder.as_str(), "another app has this host and path already");
                }
            }
        }
    }
    taken.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::AppKey;
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
            room: 10,
            patience: Duration::from_secs(5),
            administered: true,
        }
    }

    #[test]
    fn the_default_host_has_all_paths_and_a_taken_one_stays_with_its_first_app() {
        let key = |app: &str| GroupKey::from_text(AppKey::new("ns", app), "http");
        let (a, b) = (key("a"), key("b"));
        let (plan_a, plan_b) = (
            plan(&["shop.example"], &["/api"]),
            plan(&["shop.example"], &["/api", "/web"]),
        );
        let routes = routes("apps.test", [(&b, &plan_b), (&a, &plan_a)]);
        let seen: Vec<_> = routes
            .iter()
            .map(|r| (r.host.as_str(), r.path_prefix.as_str(), r.group.as_str()))
            .collect();
        assert_eq!(
            seen,
            [
                ("a.ns.apps.test", "/", "ns/a/http"),
                ("b.ns.apps.test", "/", "ns/b/http"),
                ("shop.example", "/api", "ns/a/http"),
                ("shop.example", "/web", "ns/b/http"),
            ]
        );
    }
}
