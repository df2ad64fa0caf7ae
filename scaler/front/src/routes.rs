//! Which group a request belongs to: by host, then by longest path prefix.

use std::{collections::HashMap, sync::Arc};

use arc_swap::ArcSwap;
use http::StatusCode;

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
    hosts: HashMap<String, Vec<(String, Target)>>,
    known: bool,
}

#[derive(Clone, Debug)]
enum Target {
    Route(Arc<Route>),
    Awaited,
}

impl RouteTable {
    /// A table of these rules. Of two rules with the same host and prefix the later one counts.
    pub fn new(rules: impl IntoIterator<Item = RouteRule>) -> Self {
        let mut table = Self {
            known: true,
            ..Self::default()
        };
        for rule in rules {
            let target = Target::Route(Arc::new(rule.route));
            table.put(&rule.host, &rule.prefix, target);
        }
        table
    }

    /// The same with hosts and path prefixes of apps that exist but of which no function is known yet.
    #[must_use]
    pub fn with_awaited<'a>(
        mut self,
        awaited: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Self {
        for (host, prefix) in awaited {
            self.put(host, prefix, Target::Awaited);
        }
        self
    }

    fn put(&mut self, host: &str, prefix: &str, target: Target) {
        let prefix = prefix.trim_end_matches('/').to_owned();
        let routes = self.hosts.entry(host.to_ascii_lowercase()).or_default();
        routes.retain(|(known, _)| *known != prefix);
        routes.push((prefix, target));
        routes.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
    }

    /// The route of a request. `host` is without port; its case does not matter.
    pub fn find(&self, host: &str, path: &str) -> Result<&Arc<Route>, NoRoute> {
        if !self.known {
            return Err(NoRoute::Starting);
        }
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
        match hit {
            Some((_, Target::Route(route))) => Ok(route),
            Some((_, Target::Awaited)) => Err(NoRoute::Awaited),
            None => Err(NoRoute::UnknownPath),
        }
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
    /// The app is there, its functions are not known.
    #[error(
        "the functions of this app are not known yet: retry later, or look at the conditions of the app"
    )]
    Awaited,
    /// No route was ever heard of.
    #[error("the front end has just started and knows no routes yet: retry")]
    Starting,
}

impl NoRoute {
    /// Stable name for logs, metrics and response bodies.
    pub fn category(self) -> &'static str {
        match self {
            Self::UnknownHost => "unknown-host",
            Self::UnknownPath => "unknown-path",
            Self::Awaited => "app-not-ready",
            Self::Starting => "no-routes-yet",
        }
    }

    /// The answer.
    pub fn status(self) -> StatusCode {
        match self {
            Self::UnknownHost | Self::UnknownPath => StatusCode::NOT_FOUND,
            Self::Awaited | Self::Starting => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// When to come again, in seconds.
    pub fn retry_after(self) -> Option<&'static str> {
        match self {
            Self::UnknownHost | Self::UnknownPath => None,
            Self::Awaited => Some("5"),
            Self::Starting => Some("1"),
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
    fn only_what_nobody_has_is_not_found() {
        for (no, status, comes_again) in [
            (NoRoute::UnknownHost, 404, false),
            (NoRoute::UnknownPath, 404, false),
            (NoRoute::Awaited, 503, true),
            (NoRoute::Starting, 503, true),
        ] {
            assert_eq!(no.status().as_u16(), status, "{no}");
            assert_eq!(no.retry_after().is_some(), comes_again, "{no}");
        }
    }

    #[test]
    fn host_then_longest_prefix_of_whole_segments() {
        let table = table(&[
            ("a.example", "/", "root"),
            ("a.example", "/api", "api"),
            ("a.example", "/api/v2/", "v2"),
            ("b.example", "/only", "only"),
        ])
        .with_awaited([("d.example", "/"), ("b.example", "/soon/")]);
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
            ("d.example", "/x", Err(NoRoute::Awaited)),
            ("b.example", "/soon", Err(NoRoute::Awaited)),
        ];
        assert_eq!(
            RouteTable::default().find("a.example", "/").err(),
            Some(NoRoute::Starting)
        );
        for (host, path, expected) in cases {
            let found = table
                .find(host, path)
                .map(|route| route.group.id().as_str().to_owned());
            assert_eq!(found, expected.map(str::to_owned), "{host}{path}");
        }
    }
}
