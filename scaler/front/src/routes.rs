//! Which group a request belongs to: by host, then by longest path prefix.

use std::{collections::HashMap, sync::Arc};

use arc_swap::ArcSwap;

use crate::{metrics::GroupMetrics, pool::Group};

/// Whether the host's administration can be reached from outside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum AdminPaths {
    /// `/admin` and everything below is answered with 404, however it is spelt.
    #[default]
    Closed,
    /// The app has paths of that name itself.
    Open,
}

/// A route to a group.
#[derive(Clone, Debug)]
pub struct Route {
    /// Where its requests run.
    pub group: Arc<Group>,
    /// Whether `/admin` is closed.
    pub admin: AdminPaths,
    /// Where they are counted.
    pub metrics: Arc<GroupMetrics>,
}

/// A route as configured.
#[derive(Clone, Debug)]
pub struct RouteRule {
    /// Host name without port, lower case.
    pub host: String,
    /// Path prefix of whole segments, such as `/` or `/api`.
    pub prefix: String,
    /// The target.
    pub route: Route,
}

/// An immutable set of routes.
#[derive(Debug, Default)]
pub struct RouteTable {
    hosts: HashMap<String, Vec<(String, Arc<Route>)>>,
}

impl RouteTable {
    /// A table of these rules. Of two rules with the same host and prefix the later one counts.
    pub fn new(rules: impl IntoIterator<Item = RouteRule>) -> Self {
        let mut hosts: HashMap<String, Vec<(String, Arc<Route>)>> = HashMap::new();
        for rule in rules {
            let prefix = rule.prefix.trim_end_matches('/').to_owned();
            let routes = hosts.entry(rule.host.to_ascii_lowercase()).or_default();
            routes.retain(|(known, _)| *known != prefix);
            routes.push((prefix, Arc::new(rule.route)));
        }
        for routes in hosts.values_mut() {
            routes.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
        }
        Self { hosts }
    }

    /// The route of a request. `host` is without port; its case does not matter.
    pub fn find(&self, host: &str, path: &str) -> Result<&Arc<Route>, NoRoute> {
        let host = host.strip_suffix('.').unwrap_or(host);
        let routes = match self.hosts.get(host) {
            Some(routes) => routes,
            None => self
                .hosts
                .get(&host.to_ascii_lowercase())
                .ok_or(NoRoute::UnknownHost)?,
        };
        let hit = routes.iter().find(|(prefix, _)| {
            path.strip_prefix(prefix.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        });
        hit.map(|(_, route)| route).ok_or(NoRoute::UnknownPath)
    }
}

/// Why a request has no route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoRoute {
    /// No app has that host.
    #[error("no app answers to this host: check the host name, or add it to spec.http of the app")]
    UnknownHost,
    /// The host is known, the path is not.
    #[error(
        "no app answers to this path on this host: check the path prefix in spec.http of the app"
    )]
    UnknownPath,
}

impl NoRoute {
    /// Stable name for logs, metrics and response bodies.
    pub fn category(self) -> &'static str {
        match self {
            Self::UnknownHost => "unknown-host",
            Self::UnknownPath => "unknown-path",
        }
    }
}

/// The routes in force, replaced as a whole.
#[derive(Clone, Debug, Default)]
pub struct Routes(Arc<ArcSwap<RouteTable>>);

impl Routes {
    /// No routes.
    pub fn new() -> Self {
        Self::default()
    }

    /// From now on `table` counts.
    pub fn replace(&self, table: RouteTable) {
        self.0.store(Arc::new(table));
    }

    /// The table in force.
    pub fn current(&self) -> arc_swap::Guard<Arc<RouteTable>> {
        self.0.load()
    }
}

#[cfg(test)]
mod tests {
    use maniple_core::slots::message::GroupId;

    use prometheus_client::registry::Registry;

    use super::*;
    use crate::{
        metrics::Metrics,
        pool::{GroupSettings, Pool},
    };

    fn table(rules: &[(&str, &str, &str)]) -> RouteTable {
        let pool = Pool::new();
        let metrics = Metrics::register(&mut Registry::default());
        RouteTable::new(rules.iter().map(|(host, prefix, group)| RouteRule {
            host: (*host).to_owned(),
            prefix: (*prefix).to_owned(),
            route: Route {
                group: pool.configure(&GroupId::new(group), GroupSettings::default()),
                admin: AdminPaths::Closed,
                metrics: metrics.group(group),
            },
        }))
    }

    #[test]
    fn host_then_longest_prefix_of_whole_segments() {
        let table = table(&[
            ("a.example", "/", "root"),
            ("a.example", "/api", "api"),
            ("a.example", "/api/v2/", "v2"),
            ("b.example", "/only", "only"),
        ]);
        let cases: &[(&str, &str, Result<&str, NoRoute>)] = &[
            ("a.example", "/", Ok("root")),
            ("A.Example", "/apix", Ok("root")),
            ("a.example.", "/api", Ok("api")),
            ("a.example", "/api/v2", Ok("v2")),
            ("a.example", "/api/v2/x", Ok("v2")),
            ("a.example", "/api/v22", Ok("api")),
            ("b.example", "/only/x", Ok("only")),
            ("b.example", "/other", Err(NoRoute::UnknownPath)),
            ("c.example", "/", Err(NoRoute::UnknownHost)),
        ];
        for (host, path, expected) in cases {
            let found = table
                .find(host, path)
                .map(|route| route.group.id().as_str().to_owned());
            assert_eq!(found, expected.map(str::to_owned), "{host}{path}");
        }
    }
}
