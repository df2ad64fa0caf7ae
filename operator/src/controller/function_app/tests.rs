//! Tables: what is refused and where, and what is built.

use super::build;
use super::dereference::{HostConflict, Missing, References};
use super::fixtures::{app, function};
use super::validate::{ValidApp, validate};
use crate::args::Platform;
use k8s_openapi::api::core::v1::{Container, PodSpec};
use maniple_crds::FunctionApp;
use serde_json::{Value, json};

fn references() -> References {
    References {
        host_key: "ab".repeat(32),
        settings_digest: "d1".into(),
        ..References::default()
    }
}

fn refused(spec: Value, references: &References) -> Vec<String> {
    validate(&app("shop", spec), references)
        .unwrap_err()
        .iter()
        .map(|p| format!("{}: {}", p.path, p.message))
        .collect()
}

fn valid(app: &FunctionApp, references: &References) -> ValidApp {
    validate(app, references).expect("the app is valid")
}

#[test]
fn every_mistake_names_its_field() {
    let queue = || function("orders", "queueTrigger");
    let cases = [
        (
            json!({"functions": [queue(), function("ORDERS", "timerTrigger")]}),
            "spec.functions[1].name: ",
        ),
        (
            json!({"functions": [{"name": "a", "bindings": [{"type": "queue"}]}]}),
            "spec.functions[0].bindings: ",
        ),
        (
            json!({"functions": [{"name": "a", "bindings": [{"type": "queueTrigger", "direction": "sideways"}]}]}),
            "spec.functions[0].bindings: ",
        ),
        (
            json!({"functions": [queue()], "functionAppConfig": {"scaleAndConcurrency": {"alwaysReady": [{"name": "http", "instanceCount": 1}]}}}),
            "spec.functionAppConfig.scaleAndConcurrency.alwaysReady[0].name: no function of the app is in group `http`; its groups are: function:orders",
        ),
        (
            json!({"functions": [queue()], "functionAppConfig": {"scaleAndConcurrency": {"alwaysReady": [
                {"name": "function:orders", "instanceCount": 1}, {"name": "FUNCTION:ORDERS", "instanceCount": 2}]}}}),
            "spec.functionAppConfig.scaleAndConcurrency.alwaysReady[1].name: ",
        ),
        (
            json!({"functions": [queue()], "scaling": {"functionLimits": [{"name": "mail", "maximumInstanceCount": 1}]}}),
            "spec.scaling.functionLimits[0].name: ",
        ),
        (
            json!({"functions": [queue()], "appSettings": [{"name": "pod_namespace", "value": "x"}]}),
            "spec.appSettings[0].name: `pod_namespace` is refused: inside a pod",
        ),
        (
            json!({"functions": [queue()], "appSettings": [{"name": "Key", "value": "x"}, {"name": "KEY", "value": "y"}]}),
            "spec.appSettings[1].name: ",
        ),
        (json!({}), "spec.functions: "),
    ];
    for (spec, expected) in cases {
        let problems = refused(spec, &references());
        assert!(
            problems.iter().any(|p| p.starts_with(expected)),
            "{expected} not in {problems:?}"
        );
    }
    let broken = References {
        missing: vec![Missing {
            path: "spec.appSettings[0].valueFrom.secretKeyRef.name".into(),
            message: "gone".into(),
        }],
        host_conflicts: vec![HostConflict {
            path: "spec.http.hosts[0]".into(),
            route: "h/".into(),
            owner: "n/o".into(),
        }],
        ..references()
    };
    let problems = refused(json!({"functions": [queue()]}), &broken);
    assert_eq!(
        problems[0],
        "spec.appSettings[0].valueFrom.secretKeyRef.name: gone"
    );
    assert!(
        problems[1].starts_with("spec.http.hosts[0]: `h/` is taken by the older FunctionApp n/o")
    );
}

fn pods(spec: Value, references: &References) -> Vec<(String, PodSpec, Container)> {
    let app = app("shop", spec);
    let objects = build::build(
        &app,
        &valid(&app, references),
        references,
        &Platform::default(),
    )
    .unwrap();
    objects
        .groups
        .into_iter()
        .map(|g| {
            let pod = g.deployment.spec.unwrap().template.spec.unwrap();
            let container = pod.containers[0].clone();
            (g.name.to_string(), pod, container)
        })
        .collect()
}

fn env<'a>(container: &'a Container, name: &str) -> Option<&'a str> {
    container
        .env
        .as_ref()?
        .iter()
        .find(|e| e.name == name)?
        .value
        .as_deref()
}

#[test]
fn an_instance_loads_the_functions_of_its_group_and_no_others() {
    let event_grid = json!({"name": "files", "bindings": [{"type": "blobTrigger", "direction": "in", "source": "EventGrid"}]});
    let spec = json!({"functions": [
        function("api", "httpTrigger"), function("orders", "queueTrigger"), event_grid, function("tick", "timerTrigger"),
    ]});
    let loads: Vec<(String, Vec<String>)> = pods(spec, &references())
        .into_iter()
        .map(|(group, _, container)| {
            let mut names: Vec<String> = container
                .env
                .iter()
                .flatten()
                .filter(|e| e.name.starts_with("AzureFunctionsJobHost__functions__"))
                .filter_map(|e| e.value.clone())
                .collect();
            names.sort();
            (group, names)
        })
        .collect();
    let expected: Vec<(String, Vec<String>)> = [
        ("blob", vec!["files"]),
        ("function:orders", vec!["orders"]),
        ("function:tick", vec!["tick"]),
        // An http instance receives the notifications of Event Grid and runs their listeners.
        ("http", vec!["api", "files"]),
    ]
    .into_iter()
    .map(|(g, n)| (g.to_owned(), n.into_iter().map(ToOwned::to_owned).collect()))
    .collect();
    assert_eq!(loads, expected);
}

#[test]
fn the_environment_is_the_verified_one_and_settings_are_literal() {
    let spec = json!({
        "functions": [function("orders", "queueTrigger")],
        "functionAppConfig": {"runtime": {"name": "python", "version": "3.11"}},
        "appSettings": [{"name": "A", "value": "$(B)"}, {"name": "P", "value": "a$$b$$(A)c$"}, {"name": "DOTNET_TieredPGO", "value": "1"},
            {"name": "AzureWebJobsStorage", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}],
    });
    let (_, pod, container) = pods(spec, &references()).remove(0);
    assert_eq!(env(&container, "WEBSITE_SITE_NAME"), Some("shop"));
    assert_eq!(
        env(&container, "AzureFunctionsWebHost__hostid"),
        Some("shop-5be479caf0c0")
    );
    assert_eq!(env(&container, "FUNCTIONS_WORKER_RUNTIME"), Some("python"));
    assert_eq!(
        env(&container, "A"),
        Some("$$(B)"),
        "Kubernetes must not expand a setting"
    );
    assert_eq!(
        env(&container, "P"),
        Some("a$$$$b$$$$(A)c$$"),
        "Kubernetes makes one dollar of two"
    );
    assert_eq!(
        env(&container, "DOTNET_TieredPGO"),
        Some("1"),
        "the app's own value wins"
    );
    let names: Vec<&str> = container
        .env
        .iter()
        .flatten()
        .map(|e| e.name.as_str())
        .collect();
    let mut unique = names.clone();
    unique.sort_unstable();
    unique.dedup();
    assert_eq!(unique.len(), names.len(), "a name stands twice: {names:?}");
    for never in [
        "POD_NAMESPACE",
        "WEBSITE_INSTANCE_ID",
        "WEBSITE_AUTH_ENCRYPTION_KEY",
    ] {
        assert!(!names.contains(&never), "{never} must not be set");
    }
    let key = container
        .env
        .iter()
        .flatten()
        .find(|e| e.name == "CONTAINER_ENCRYPTION_KEY")
        .unwrap();
    assert_eq!(key.value, None, "the key comes from the Secret only");
    assert!(pod.termination_grace_period_seconds > Some(30));
    assert_eq!(pod.automount_service_account_token, Some(false));
}

#[test]
fn the_time_zone_of_azure_reaches_a_host_that_reads_only_tz() {
    let cases = [
        (
            json!([{"name": "WEBSITE_TIME_ZONE", "value": "W. Europe Standard Time"}]),
            Some("Europe/Berlin"),
        ),
        (
            json!([{"name": "WEBSITE_TIME_ZONE", "value": "America/New_York"}]),
            Some("America/New_York"),
        ),
        (
            json!([{"name": "WEBSITE_TIME_ZONE", "value": "UTC"}, {"name": "TZ", "value": "Asia/Tokyo"}]),
            Some("Asia/Tokyo"),
        ),
        (
            json!([{"name": "WEBSITE_TIME_ZONE", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k"}}}]),
            Some("Asia/Tokyo"),
        ),
        (json!([]), None),
    ];
    let references = References {
        interpreted: [("website_time_zone".into(), "Tokyo Standard Time".into())].into(),
        ..references()
    };
    for (settings, expected) in cases {
        let spec =
            json!({"functions": [function("tick", "timerTrigger")], "appSettings": settings});
        let (_, _, container) = pods(spec, &references).remove(0);
        assert_eq!(env(&container, "TZ"), expected);
    }
}

#[test]
fn instance_sizes_set_limits_and_the_platform_sets_requests() {
    for (size, cpu, memory) in [
        (512, "250m", "784Mi"),
        (2048, "1", "2320Mi"),
        (4096, "2", "4368Mi"),
    ] {
        let spec = json!({
            "functions": [function("q", "queueTrigger")],
            "functionAppConfig": {"scaleAndConcurrency": {"instanceMemoryMB": size}},
        });
        let (_, _, container) = pods(spec, &references()).remove(0);
        let limits = container.resources.unwrap().limits.unwrap();
        assert_eq!(
            (limits["cpu"].0.as_str(), limits["memory"].0.as_str()),
            (cpu, memory)
        );
    }
}

#[test]
fn the_operator_never_claims_the_count_and_keda_gets_a_complete_behaviour() {
    let spec = json!({
        "functions": [function("q", "queueTrigger"), function("h", "httpTrigger")],
        "functionAppConfig": {"scaleAndConcurrency": {"maximumInstanceCount": 40,
            "alwaysReady": [{"name": "function:q", "instanceCount": 2}]}},
    });
    let keda = References {
        keda_installed: true,
        hpa_tolerance: true,
        ..references()
    };
    let app = app("shop", spec);
    let objects = build::build(&app, &valid(&app, &keda), &keda, &Platform::default()).unwrap();
    for group in &objects.groups {
        assert_eq!(group.deployment.spec.as_ref().unwrap().replicas, None);
    }
    let queue = objects
        .groups
        .iter()
        .find(|g| g.name.to_string() == "function:q")
        .unwrap();
    assert_eq!(queue.initial_replicas, 2);
    let spec = &queue.scaled_object.as_ref().unwrap().data["spec"];
    assert_eq!(
        (&spec["minReplicaCount"], &spec["maxReplicaCount"]),
        (&json!(2), &json!(42))
    );
    for direction in ["scaleUp", "scaleDown"] {
        let rules = &spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"][direction];
        for field in [
            "stabilizationWindowSeconds",
            "selectPolicy",
            "policies",
            "tolerance",
        ] {
            assert!(!rules[field].is_null(), "{direction}.{field} is missing");
        }
    }
    let http = objects
        .groups
        .iter()
        .find(|g| g.name.to_string() == "http")
        .unwrap();
    assert!(
        http.scaled_object.is_none(),
        "http scales natively when the driver is Auto"
    );
    assert!(http.service.is_some() && queue.service.is_none());
}

#[test]
fn the_service_says_what_its_instances_speak() {
    for (http, expected) in [
        (json!({}), None),
        (json!({"appProtocol": "H2c"}), Some("kubernetes.io/h2c")),
    ] {
        let spec = json!({"functions": [function("h", "httpTrigger")], "http": http});
        let app = app("shop", spec);
        let references = references();
        let valid = valid(&app, &references);
        let objects = build::build(&app, &valid, &references, &Platform::default()).unwrap();
        let service = objects.groups[0].service.clone().unwrap();
        let port = service.spec.unwrap().ports.unwrap().remove(0);
        assert_eq!(port.app_protocol.as_deref(), expected);
    }
}

#[test]
fn zone_redundancy_keeps_two_in_every_group() {
    let app = app(
        "shop",
        json!({"functions": [function("q", "queueTrigger")], "zoneRedundancy": "Enabled"}),
    );
    let valid = valid(&app, &references());
    assert_eq!(valid.groups[0].always_ready, 2);
}

#[test]
fn a_disabled_function_has_no_group_but_its_floor_is_no_mistake() {
    let spec = |field: Value, settings: Value| {
        let mut orders = function("orders", "queueTrigger");
        orders["disabled"] = field;
        json!({
            "functions": [orders, function("mail", "queueTrigger")], "appSettings": settings,
            "functionAppConfig": {"scaleAndConcurrency": {"alwaysReady": [{"name": "function:orders", "instanceCount": 2}]}},
        })
    };
    let name = "AzureWebJobs.Orders.Disabled";
    let elsewhere = References {
        interpreted: [(name.to_ascii_lowercase(), "True".into())].into(),
        ..references()
    };
    let from = json!([{"name": name, "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]);
    for (spec, references) in [
        (spec(json!(true), json!([])), references()),
        (
            spec(json!(false), json!([{"name": name, "value": "1"}])),
            references(),
        ),
        (spec(json!(false), from), elsewhere),
    ] {
        let groups = valid(&app("shop", spec), &references).groups;
        let names: Vec<String> = groups.iter().map(|g| g.name.to_string()).collect();
        assert_eq!(names, ["function:mail"]);
    }
}

#[test]
fn the_version_of_the_pods_follows_everything_that_they_are_made_from() {
    let version = |spec: Value, references: &References| {
        let app = app("shop", spec);
        let valid = valid(&app, references);
        let platform = Platform::default();
        let objects = build::build(&app, &valid, references, &platform).unwrap();
        let group = &objects.groups[0];
        let template = &group.deployment.spec.as_ref().unwrap().template;
        let annotations = template.metadata.as_ref().unwrap().annotations.as_ref();
        assert_eq!(
            annotations.unwrap().get(build::TEMPLATE_ANNOTATION),
            Some(&group.template)
        );
        group.template.clone()
    };
    let spec = || json!({"functions": [function("q", "queueTrigger")]});
    let before = version(spec(), &references());
    assert_eq!(before, version(spec(), &references()));
    let mut counts = spec();
    counts["scaling"] = json!({"idleSeconds": 5});
    assert_eq!(before, version(counts, &references()));
    let mut image = spec();
    image["image"] = json!("registry.example/app:2");
    assert_ne!(before, version(image, &references()));
    let secret = References {
        settings_digest: "d2".into(),
        ..references()
    };
    assert_ne!(before, version(spec(), &secret));
}
