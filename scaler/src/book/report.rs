//! What the operator is told about an app.

use super::{AppPage, Book, Entry, Inner};
use crate::index::{AppKey, GroupKey};
use maniple_core::decision::{Decision, Reason, SourceResult};
use maniple_crds::function_app::SourceStatus;
use maniple_crds::report::{AppReport, GroupReport};

impl Book {
    /// The groups of an app; `None` when the app is not known.
    pub fn report(&self, app: &AppKey) -> Option<AppReport> {
        let inner = self.inner.read();
        let AppPage { generation, groups } = inner.apps.get(app)?;
        Some(AppReport {
            generation: *generation,
            groups: groups
                .iter()
                .map(|(key, name)| group(&inner, key, name))
                .collect(),
        })
    }
}

fn group(inner: &Inner, key: &GroupKey, name: &str) -> GroupReport {
    let unknown = |message: &str| GroupReport {
        name: name.to_owned(),
        reason: Reason::Unknown.to_string(),
        message: message.to_owned(),
        ..GroupReport::default()
    };
    match inner.groups.get(key).map(|slot| &slot.entry) {
        None => unknown("no decision yet"),
        Some(Entry::Unknown(reason)) => unknown(reason),
        Some(Entry::Decided { decision, .. }) => decided(name, decision),
    }
}

fn decided(name: &str, decision: &Decision) -> GroupReport {
    GroupReport {
        name: name.to_owned(),
        desired: decision.desired,
        reason: decision.reason.to_string(),
        message: decision.message.clone(),
        sources: decision.sources.iter().map(source).collect(),
    }
}

fn source(result: &SourceResult) -> SourceStatus {
    SourceStatus {
        function: result.function.clone(),
        kind: result.trigger.clone(),
        backlog: result.backlog.map(|n| i64::try_from(n).unwrap_or(i64::MAX)),
        target: result.target.map(i64::from),
        error: result.error.clone(),
    }
}
