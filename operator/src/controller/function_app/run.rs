//! One run for one app, and what follows from how it went.

use super::memory::jitter;
use super::status::{self, Write};
use super::{Context, Error, apply, build, dereference, events, observe, validate};
use kube::ResourceExt;
use kube::runtime::controller::Action;
use kube::runtime::reflector::ObjectRef;
use maniple_crds::function_app::FunctionAppStatus;
use maniple_crds::names::{DRIVER_ANNOTATION, group_object};
use maniple_crds::reasons::condition;
use maniple_crds::{FunctionApp, GroupName};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Longest reconcile run. A healthy one takes milliseconds; a slow API server must not hold all workers.
const RUN_LIMIT: Duration = Duration::from_secs(60);
/// An app whose instances come and go is looked at again after this time.
const BUSY_AGAIN: Duration = Duration::from_secs(10);
/// An app at rest is looked at again after this time: a changed Secret is seen within it, and so is a missed watch event.
const REST_AGAIN: Duration = Duration::from_secs(60);

pub(super) async fn reconcile(app: Arc<FunctionApp>, ctx: Arc<Context>) -> Result<Action, Error> {
    if app.metadata.deletion_timestamp.is_some() {
        // Everything is owned by the app and goes with it.
        ctx.memory.forget(&ObjectRef::from_obj(app.as_ref()));
        return Ok(Action::await_change());
    }
    let started = Instant::now();
    let result = match tokio::time::timeout(RUN_LIMIT, run_once(&app, &ctx)).await {
        Ok(result) => result,
        Err(_) => Err(Error::Timeout(RUN_LIMIT.as_secs())),
    };
    let category = result.as_ref().err().map(Error::category);
    ctx.metrics.run(started.elapsed(), category);
    match &result {
        Ok(_) => ctx.memory.succeeded(&app),
        Err(error) => {
            let app = ObjectRef::from_obj(app.as_ref());
            tracing::warn!(%app, category, "reconcile failed: {error}");
        }
    }
    result
}

pub(super) fn error_policy(app: Arc<FunctionApp>, _: &Error, ctx: Arc<Context>) -> Action {
    Action::requeue(ctx.memory.failed(&app))
}

async fn run_once(app: &FunctionApp, ctx: &Context) -> Result<Action, Error> {
    let references = dereference::dereference(app, ctx).await?;
    let now = jiff::Timestamp::now();
    let mut notes = Vec::new();
    let mut failure = None;
    let (status, unready) = match validate::validate(app, &references) {
        Ok(valid) => {
            let objects = build::build(app, &valid, &references, &ctx.platform)
                .ok_or(Error::NotFromServer)?;
            let templates = templates(&objects);
            let mut applied = apply::apply(app, objects, ctx).await?;
            notes = events::of_groups(&applied);
            let key = &references.host_key;
            let seen = observe::observe(app, &valid.groups, templates, key, ctx).await?;
            let status = status::applied(app, &valid.groups, &applied, &seen, now);
            failure = applied.failures.drain(..).next().map(|f| f.error);
            (status, seen.is_unready())
        }
        Err(problems) => {
            let driver = |group: &GroupName| {
                let name = group_object(&app.name_any(), group);
                let deployment = ctx.owned.deployments.get(app, &name)?;
                deployment.annotations().get(DRIVER_ANNOTATION).cloned()
            };
            let groups = validate::running(app, driver);
            let key = &references.host_key;
            let seen = observe::observe(app, &groups, BTreeMap::new(), key, ctx).await?;
            let status = status::refused(app, &groups, &problems, &seen, now);
            (status, seen.is_unready())
        }
    };
    notes.extend(events::of_conditions(app, &status));
    let written = status::write(app, &status, ctx).await?;
    events::publish_all(&ctx.recorder, app, notes).await;
    if let Some(error) = failure {
        return Err(error);
    }
    let again = jitter(if unready || is_busy(&status) {
        BUSY_AGAIN
    } else {
        REST_AGAIN
    });
    Ok(Action::requeue(match written {
        Write::Done => again,
        Write::Later(wait) => wait.min(again),
    }))
}

fn templates(objects: &build::Objects) -> BTreeMap<GroupName, String> {
    let groups = objects.groups.iter();
    groups
        .map(|g| (g.name.clone(), g.template.clone()))
        .collect()
}

/// True while something is under way. A count that is not known is not zero: nothing is expected to change by itself.
fn is_busy(status: &FunctionAppStatus) -> bool {
    let moving = status.groups.iter().any(|g| match g.desired {
        Some(desired) => desired > g.always_ready || g.ready != desired,
        None => g.ready != g.always_ready,
    });
    moving
        || status
            .conditions
            .iter()
            .any(|c| c.status == "False" && c.type_ != condition::PAUSED)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::function_app::fixtures::condition;
    use maniple_crds::function_app::GroupStatus;

    #[test]
    fn an_app_is_busy_while_counts_move_or_something_is_wrong() {
        let group = |desired, ready| FunctionAppStatus {
            groups: vec![GroupStatus {
                desired,
                ready,
                always_ready: 1,
                ..Default::default()
            }],
            ..Default::default()
        };
        assert!(is_busy(&group(Some(2), 2)));
        assert!(is_busy(&group(Some(1), 0)));
        assert!(!is_busy(&group(Some(1), 1)));
        assert!(!is_busy(&group(None, 1)));
        let wrong = |kind| FunctionAppStatus {
            conditions: vec![condition(kind, "False", "r")],
            ..Default::default()
        };
        assert!(is_busy(&wrong("FunctionsLoaded")));
        assert!(!is_busy(&wrong("Paused")));
    }
}
