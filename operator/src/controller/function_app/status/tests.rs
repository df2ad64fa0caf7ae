//! Tables: what the conditions say of what was applied and seen.

use super::*;
use crate::controller::function_app::apply::Failure;
use crate::controller::function_app::error::Error;
use crate::controller::function_app::fixtures::{app, condition as stored_condition, function};
use crate::controller::function_app::observe::Trouble;
use crate::ports::host::{HostError, HostReport};
use crate::ports::scaler::ScalerError;
use kube::api::DynamicObject;
use maniple_crds::report::AppReport;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;

fn group(name: &str, keda: bool) -> ValidGroup {
    let name: GroupName = name.parse().unwrap();
    ValidGroup {
        functions: vec!["a".into()],
        loads: vec!["a".into()],
        always_ready: 0,
        max_on_demand: 100,
        keda,
        name,
    }
}

fn shop() -> FunctionApp {
    app(
        "shop",
        json!({"functions": [function("a", "queueTrigger")]}),
    )
}

fn name() -> GroupName {
    "function:a".parse().unwrap()
}

/// Everything in order, with one group whose host has answered.
fn seen() -> Observations {
    let report = AppReport {
        generation: 3,
        groups: vec![GroupReport {
            name: "function:a".into(),
            desired: Some(1),
            ..Default::default()
        }],
    };
    Observations {
        deployments: BTreeMap::new(),
        scaled_objects: BTreeMap::new(),
        keda_installed: true,
        templates: [(name(), "v1".to_owned())].into(),
        troubles: BTreeMap::new(),
        hosts: [(name(), Ok(host("Running", &["a"])))].into(),
        scaler: Ok(report),
    }
}

fn host(state: &str, functions: &[&str]) -> HostReport {
    HostReport {
        state: state.into(),
        errors: vec!["boom".into()],
        functions: functions.iter().map(ToString::to_string).collect(),
        function_errors: vec![],
    }
}

fn look(
    app: &FunctionApp,
    group: ValidGroup,
    done: &Applied,
    seen: &Observations,
) -> FunctionAppStatus {
    applied(app, &[group], done, seen, jiff::Timestamp::UNIX_EPOCH)
}

fn told<'a>(status: &'a FunctionAppStatus, kind: &str) -> (&'a str, &'a str, &'a str) {
    let found = status.conditions.iter().find(|c| c.type_ == kind).unwrap();
    (&found.status, &found.reason, &found.message)
}

fn verdict(status: &FunctionAppStatus, kind: &str) -> (String, String) {
    let (status, reason, _) = told(status, kind);
    (status.to_owned(), reason.to_owned())
}

fn pair(status: &str, reason: &str) -> (String, String) {
    (status.to_owned(), reason.to_owned())
}

#[test]
fn what_the_hosts_say_decides_whether_functions_are_loaded() {
    let answers = [
        (Ok(host("Running", &["a"])), "True", "Ok"),
        (Ok(host("Running", &[])), "False", "FunctionsMissing"),
        (Ok(host("Error", &["a"])), "False", "FunctionErrors"),
        (Ok(host("Starting", &[])), "Unknown", "Progressing"),
        (
            Err(HostError::Unreachable("no".into())),
            "Unknown",
            "HostUnreachable",
        ),
    ];
    for (answer, status, reason) in answers {
        let text = format!("{answer:?}");
        let mut seen = seen();
        seen.hosts.insert(name(), answer);
        let found = look(
            &shop(),
            group("function:a", false),
            &Applied::default(),
            &seen,
        );
        assert_eq!(
            verdict(&found, "FunctionsLoaded"),
            pair(status, reason),
            "{text}"
        );
    }
}

#[test]
fn a_finding_about_the_same_version_outlives_the_process_that_made_it() {
    let mut shop = shop();
    let silent = |template: &str| Observations {
        hosts: BTreeMap::new(),
        templates: [(name(), template.to_owned())].into(),
        ..seen()
    };
    let first = look(
        &shop,
        group("function:a", false),
        &Applied::default(),
        &seen(),
    );
    shop.status = Some(first);
    let after = |shop: &FunctionApp, template: &str| {
        let nothing = Applied::default();
        verdict(
            &look(
                shop,
                group("function:a", false),
                &nothing,
                &silent(template),
            ),
            "FunctionsLoaded",
        )
    };
    assert_eq!(after(&shop, "v1"), pair("True", "Ok"));
    assert_eq!(after(&shop, "v2"), pair("Unknown", "NoInstance"));
    shop.metadata.generation = Some(4);
    assert_eq!(after(&shop, "v1"), pair("Unknown", "NoInstance"));
}

#[test]
fn what_could_not_be_written_is_shown_where_it_belongs() {
    let taken = || Error::NameTaken {
        kind: "Service",
        name: "x".into(),
    };
    let failure = |scaling, error| Applied {
        failures: vec![Failure {
            group: Some(name()),
            scaling,
            error,
        }],
        ..Applied::default()
    };
    let found = look(
        &shop(),
        group("function:a", false),
        &failure(false, taken()),
        &seen(),
    );
    assert_eq!(
        verdict(&found, "WorkloadAvailable"),
        pair("False", "NameTaken")
    );
    assert_eq!(verdict(&found, "Ready"), pair("False", "NameTaken"));
    assert!(
        told(&found, "Ready")
            .2
            .contains("group function:a: Service `x`")
    );
    let found = look(
        &shop(),
        group("function:a", false),
        &failure(true, Error::Timeout(1)),
        &seen(),
    );
    assert_eq!(verdict(&found, "WorkloadAvailable"), pair("True", "Ok"));
    assert_eq!(
        verdict(&found, "ScalingConfigured"),
        pair("False", "ApplyFailed")
    );
}

#[test]
fn an_instance_that_does_not_start_is_told_apart_from_one_that_ended() {
    for (failed, reason) in [(true, "InstancesFailing"), (false, "InstancesNotStarting")] {
        let mut seen = seen();
        let message = "pod p".to_owned();
        seen.troubles.insert(name(), Trouble { failed, message });
        let found = look(
            &shop(),
            group("function:a", false),
            &Applied::default(),
            &seen,
        );
        assert_eq!(verdict(&found, "WorkloadAvailable"), pair("False", reason));
    }
}

#[test]
fn the_word_of_keda_counts_only_when_it_was_given() {
    let object = |conditions: serde_json::Value| -> Arc<DynamicObject> {
        Arc::new(
            serde_json::from_value(json!({
                "apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "metadata": {"name": "a"},
                "status": {"conditions": conditions},
            }))
            .unwrap(),
        )
    };
    let ready = |status: &str, reason: &str| json!([{"type": "Ready", "status": status, "reason": reason, "message": "m"}]);
    let cases = [
        (None, true, "Unknown", "Progressing"),
        (Some(json!([])), true, "Unknown", "Progressing"),
        (Some(ready("True", "")), true, "True", "Ok"),
        (Some(ready("False", "Other")), true, "False", "KedaNotReady"),
        (Some(ready("False", "TriggerError")), true, "True", "Ok"),
        (None, false, "False", "KedaNotInstalled"),
    ];
    for (conditions, installed, status, reason) in cases {
        let mut seen = seen();
        seen.keda_installed = installed;
        let text = format!("{conditions:?} {installed}");
        if let Some(conditions) = conditions {
            seen.scaled_objects.insert(name(), object(conditions));
        }
        let found = look(
            &shop(),
            group("function:a", true),
            &Applied::default(),
            &seen,
        );
        assert_eq!(
            verdict(&found, "ScalingConfigured"),
            pair(status, reason),
            "{text}"
        );
    }
}

#[test]
fn a_refused_app_is_still_looked_at() {
    let mut shop = shop();
    shop.status = Some(look(
        &shop,
        group("function:a", false),
        &Applied::default(),
        &seen(),
    ));
    let problem = Problem {
        path: "spec.functions".into(),
        reason: reason::FUNCTIONS_UNKNOWN,
        message: "not listed".into(),
    };
    let groups = crate::controller::function_app::validate::running(&shop, |_| None);
    assert_eq!(groups.len(), 1);
    let mut seen = seen();
    let message = "pod p".to_owned();
    seen.troubles.insert(
        name(),
        Trouble {
            failed: true,
            message,
        },
    );
    if let Ok(report) = &mut seen.scaler {
        report.groups[0].desired = Some(7);
    }
    let now = jiff::Timestamp::UNIX_EPOCH;
    let found = refused(&shop, &groups, &[problem], &seen, now);
    assert_eq!(verdict(&found, "Ready"), pair("False", "FunctionsUnknown"));
    assert!(told(&found, "Ready").2.starts_with("spec.functions: "));
    assert_eq!(
        verdict(&found, "TriggersResolved"),
        pair("False", "FunctionsUnknown")
    );
    assert_eq!(
        verdict(&found, "WorkloadAvailable"),
        pair("False", "InstancesFailing")
    );
    assert_eq!(found.groups[0].desired, Some(7));
    assert_eq!(found.groups[0].functions, ["a"]);
}

#[test]
fn texts_of_the_scaler_are_cut_to_what_the_api_accepts() {
    let long = "x".repeat(3000);
    let mut seen = seen();
    if let Ok(report) = &mut seen.scaler {
        report.groups[0].reason.clone_from(&long);
        report.groups[0].message.clone_from(&long);
        report.groups[0].sources = vec![SourceStatus {
            function: long.clone(),
            kind: long.clone(),
            error: Some(long),
            ..Default::default()
        }];
    }
    let found = look(
        &shop(),
        group("function:a", false),
        &Applied::default(),
        &seen,
    );
    let group = &found.groups[0];
    assert_eq!(group.reason.as_ref().unwrap().len(), MAX_NAME);
    assert_eq!(group.message.as_ref().unwrap().len(), MAX_MESSAGE);
    let source = &group.sources[0];
    assert_eq!(
        (source.function.len(), source.kind.len()),
        (MAX_NAME, MAX_KIND)
    );
    assert_eq!(source.error.as_ref().unwrap().len(), MAX_MESSAGE);
}

#[test]
fn while_the_scaler_is_away_its_last_word_stays() {
    let mut shop = shop();
    shop.status = Some(look(
        &shop,
        group("function:a", false),
        &Applied::default(),
        &seen(),
    ));
    shop.status
        .as_mut()
        .unwrap()
        .conditions
        .push(stored_condition("Other", "True", "Ok"));
    let mut away = seen();
    away.scaler = Err(ScalerError::Unreachable("no".into()));
    let found = look(
        &shop,
        group("function:a", false),
        &Applied::default(),
        &away,
    );
    assert_eq!(found.groups[0].desired, Some(1));
    assert_eq!(
        verdict(&found, "ScalingConfigured"),
        pair("Unknown", "ScalerUnreachable")
    );
    assert_eq!(verdict(&found, "Ready"), pair("True", "Ok"));
}
