//! Routes as they arrive from the scaler, put into the table that requests read.

use std::{collections::HashSet, sync::Arc};

use maniple_core::slots::message::{Epoch, GroupId};
use maniple_front::{
    metrics::Metrics,
    pool::{GroupSettings, Pool, Protocol},
    routes::{AdminPaths, Route, RouteRule, RouteTable, Routes},
};
use maniple_runtime::Pending;
use parking_lot::Mutex;

use super::args::settle;
use crate::slots::wire::{self, RouteSpec, UpstreamProtocol};

/// Path that the functions host answers when it serves; no function of an app can have it.
const HOST_PROBE: &str = "/admin/host/ping";

/// Takes routes. Clones share what is in force.
#[derive(Clone, Debug)]
pub(super) struct Routing {
    pool: Pool,
    routes: Routes,
    metrics: Metrics,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    epoch: Epoch,
    /// Groups with numbers of their own.
    groups: HashSet<GroupId>,
    /// Held until the first routes.
    unready: Option<Pending>,
}

impl Routing {
    /// Nothing is in force yet; `unready` ends with the first routes.
    pub(super) fn new(pool: Pool, routes: Routes, metrics: Metrics, unready: Pending) -> Self {
        let state = State {
            epoch: Epoch(0),
            groups: HashSet::new(),
            unready: Some(unready),
        };
        Self {
            pool,
            routes,
            metrics,
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// Puts all routes of a data role in force, unless a later data role has spoken.
    pub(super) fn apply(&self, epoch: Epoch, all: &[RouteSpec]) {
        let mut state = self.state.lock();
        if epoch < state.epoch {
            return;
        }
        state.epoch = epoch;
        let (awaited, served): (Vec<_>, Vec<_>) = all
            .iter()
            .partition(|route| route.group.as_str().is_empty());
        let awaited = awaited
            .iter()
            .map(|route| (route.host.as_str(), route.path_prefix.as_str()));
        let table = RouteTable::new(served.into_iter().map(|route| self.rule(route)));
        self.routes.replace(table.with_awaited(awaited));
        let routed: HashSet<GroupId> = all.iter().map(|route| route.group.clone()).collect();
        self.pool.keep_routed(&routed);
        for gone in state.groups.difference(&routed) {
            self.metrics.forget(gone.as_str());
        }
        state.groups = routed;
        tracing::info!(routes = all.len(), epoch = epoch.0, "routes in force");
        state.unready = None;
    }

    fn rule(&self, route: &RouteSpec) -> RouteRule {
        RouteRule {
            host: route.host.clone(),
            prefix: route.path_prefix.clone(),
            route: Route {
                group: self.pool.configure(&route.group, settings(route)),
                admin: match route.admin {
                    wire::AdminPaths::Closed => AdminPaths::Closed,
                    wire::AdminPaths::Open => AdminPaths::Open,
                },
                metrics: self.metrics.group(route.group.as_str()),
            },
        }
    }
}

fn settings(route: &RouteSpec) -> GroupSettings {
    let limit = route.request_timeout;
    GroupSettings {
        room: route.room,
        patience: route.patience,
        response_limit: Some(limit),
        linger: limit + settle(),
        run_limit: route.run_limit.map(|limit| limit + settle()),
        protocol: match route.protocol {
            UpstreamProtocol::Http1 => Protocol::Http1,
            UpstreamProtocol::H2c => Protocol::H2c,
        },
        // Any path of a plain app may be work, which must not run outside of a slot: there an accepted connection has to be enough.
        probe_path: (route.admin == wire::AdminPaths::Closed).then(|| HOST_PROBE.to_owned()),
    }
}
