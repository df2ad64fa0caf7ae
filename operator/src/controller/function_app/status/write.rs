//! I/O: the status is written when it differs from what is stored; a difference in mere numbers waits.

use crate::controller::function_app::{Context, Error};
use kube::api::{Patch, PatchParams};
use kube::{Api, Resource, ResourceExt};
use maniple_crds::FunctionApp;
use maniple_crds::function_app::FunctionAppStatus;
use serde_json::json;
use std::time::{Duration, Instant};

/// Manager of the status, apart from the one of the objects.
const STATUS_MANAGER: &str = "maniple-operator-status";
/// Shortest time between two writes of one app that differ only in numbers. A moving backlog would be written at every look.
const NUMBERS_AGAIN: Duration = Duration::from_secs(10);

/// What became of a status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::controller::function_app) enum Write {
    /// It is stored.
    Done,
    /// It is to be looked at again after this time.
    Later(Duration),
}

pub(in crate::controller::function_app) async fn write(
    app: &FunctionApp,
    status: &FunctionAppStatus,
    ctx: &Context,
) -> Result<Write, Error> {
    let last = ctx.memory.of(app, |memory| memory.status_written);
    match plan(app.status.as_ref(), status, last.map(|at| at.elapsed())) {
        Plan::Nothing => return Ok(Write::Done),
        Plan::Later(wait) => return Ok(Write::Later(wait)),
        Plan::Now => {}
    }
    let name = app.name_any();
    let namespace = app.namespace().ok_or(Error::NotFromServer)?;
    let api: Api<FunctionApp> = Api::namespaced(ctx.client.clone(), &namespace);
    let patch = json!({
        "apiVersion": FunctionApp::api_version(&()),
        "kind": FunctionApp::kind(&()),
        "metadata": {"name": name, "uid": app.uid()},
        "status": status,
    });
    ctx.metrics.writes("FunctionAppStatus");
    let params = PatchParams::apply(STATUS_MANAGER).force();
    match api.patch_status(&name, &params, &Patch::Apply(patch)).await {
        Ok(_) => {}
        // The app is gone, or another one has its name by now.
        Err(kube::Error::Api(answer)) if answer.code == 404 || answer.code == 409 => {}
        Err(error) => return Err(Error::write("updated", "FunctionApp", &name, error)),
    }
    ctx.memory
        .of(app, |memory| memory.status_written = Some(Instant::now()));
    Ok(Write::Done)
}

#[derive(Debug, PartialEq, Eq)]
enum Plan {
    Nothing,
    Now,
    Later(Duration),
}

fn plan(
    stored: Option<&FunctionAppStatus>,
    status: &FunctionAppStatus,
    since_last: Option<Duration>,
) -> Plan {
    if stored == Some(status) {
        return Plan::Nothing;
    }
    let left = since_last.and_then(|since| NUMBERS_AGAIN.checked_sub(since));
    match (stored, left) {
        (Some(stored), Some(left))
            if !left.is_zero() && without_numbers(stored) == without_numbers(status) =>
        {
            Plan::Later(left)
        }
        _ => Plan::Now,
    }
}

/// What is worth a write at once.
fn without_numbers(status: &FunctionAppStatus) -> FunctionAppStatus {
    let mut status = status.clone();
    status.instances = None;
    for group in &mut status.groups {
        group.desired = None;
        group.ready = 0;
        group.reason = None;
        group.message = None;
        group.sources.clear();
    }
    status
}

#[cfg(test)]
mod tests {
    use super::*;
    use maniple_crds::function_app::GroupStatus;

    fn status(ready: i32, function: &str) -> FunctionAppStatus {
        FunctionAppStatus {
            instances: Some(ready),
            groups: vec![GroupStatus {
                name: "http".into(),
                functions: vec![function.into()],
                ready,
                ..Default::default()
            }],
            ..Default::default()
        }
    }

    #[test]
    fn numbers_wait_and_everything_else_is_written_at_once() {
        let young = Some(Duration::from_secs(4));
        let old = Some(Duration::from_secs(11));
        let stored = status(1, "a");
        assert_eq!(plan(Some(&stored), &stored, young), Plan::Nothing);
        let left = Plan::Later(Duration::from_secs(6));
        assert_eq!(plan(Some(&stored), &status(2, "a"), young), left);
        assert_eq!(plan(Some(&stored), &status(2, "a"), old), Plan::Now);
        assert_eq!(plan(Some(&stored), &status(2, "a"), None), Plan::Now);
        assert_eq!(plan(Some(&stored), &status(1, "b"), young), Plan::Now);
        assert_eq!(plan(None, &stored, young), Plan::Now);
    }
}
