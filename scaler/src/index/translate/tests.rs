use super::*;
use maniple_core::timer::Schedule;
use maniple_crds::function_app::AppProtocol;
use maniple_sources::secret::Secret;

const STORAGE: &str = "AccountName=acct;AccountKey=a2V5";

fn spec(mut value: Value) -> FunctionAppSpec {
    value["image"] = "app:1".into();
    serde_json::from_value(value).unwrap()
}

fn settings(pairs: &[(&str, &str)]) -> ResolvedSettings {
    let mut settings = ResolvedSettings::default();
    for (name, value) in pairs {
        settings.set(name, Secret::new(*value));
    }
    settings
}

fn plan(value: Value, settings: &ResolvedSettings) -> Vec<GroupPlan> {
    let plan = translate(&AppKey::new("ns", "shop"), 7, &spec(value), settings).unwrap();
    assert_eq!(plan.generation, 7);
    plan.groups.iter().map(|group| (**group).clone()).collect()
}

/// One function with one binding.
fn function(name: &str, mut binding: Value) -> Value {
    binding["direction"] = "in".into();
    json!({"name": name, "bindings": [binding]})
}

fn queue(extra: Value) -> Value {
    let mut binding = json!({"type": "queueTrigger", "queueName": "orders"});
    for (name, value) in extra.as_object().unwrap() {
        binding[name] = value.clone();
    }
    json!({"functions": [function("Pack", binding)]})
}

fn timer(binding: Value) -> Value {
    let mut all = binding;
    all["type"] = "timerTrigger".into();
    json!({"functions": [function("Tick", all)]})
}

fn problem(group: &GroupPlan) -> &Problem {
    match &group.inputs[0] {
        InputPlan::Broken(problem) => problem,
        other => panic!("{other:?} is not broken"),
    }
}

#[test]
fn groups_floors_and_caps() {
    let value = json!({
        "functionAppConfig": {"scaleAndConcurrency": {
            "maximumInstanceCount": 40,
            "alwaysReady": [{"name": "HTTP", "instanceCount": 3}, {"name": "function:pack", "instanceCount": 1}],
        }},
        "functions": [
            function("Web", json!({"type": "httpTrigger"})),
            function("Events", json!({"type": "eventGridTrigger"})),
            function("Pack", json!({"type": "queueTrigger", "queueName": "orders"})),
            function("Bus", json!({"type": "serviceBusTrigger"})),
        ],
        "scaling": {"idleSeconds": 30, "functionLimits": [{"name": "PACK", "maximumInstanceCount": 5}]},
    });
    let groups = plan(
        value.clone(),
        &settings(&[("AzureWebJobsStorage", STORAGE)]),
    );
    let seen: Vec<_> = groups
        .iter()
        .map(|g| {
            (
                g.name.as_str(),
                g.spec.always_ready,
                g.spec.max_on_demand,
                g.spec.sources.len(),
            )
        })
        .collect();
    assert_eq!(
        seen,
        [
            ("function:Bus", 0, 40, 1),
            ("function:Pack", 1, 40, 1),
            ("http", 3, 40, 2),
        ]
    );
    let bus = &groups[0].spec.sources[0];
    assert_eq!(
        bus.kind,
        SourceKind::Unsupported {
            trigger: "serviceBusTrigger".into()
        }
    );
    let pack = &groups[1];
    assert_eq!(
        pack.spec.sources[0].instance_cap,
        Some(6),
        "5 on demand and 1 always ready"
    );
    assert_eq!(pack.spec.idle_window, Duration::from_secs(30));
    assert_eq!(
        *pack.workload.name,
        names::group_object("shop", &GroupName::Function("Pack".into()))
    );
    assert!(
        groups[2]
            .spec
            .sources
            .iter()
            .all(|s| matches!(s.kind, SourceKind::Http { .. }))
    );

    let mut zones = value;
    zones["zoneRedundancy"] = "Enabled".into();
    let floors: Vec<_> = plan(zones, &settings(&[]))
        .iter()
        .map(|g| g.spec.always_ready)
        .collect();
    assert_eq!(floors, [2, 2, 3]);
}

#[test]
fn how_requests_reach_a_group_is_declared_or_known_of_the_plan() {
    let app = |extra: Value| {
        let mut value = json!({
            "functions": [function("Web", json!({"type": "httpTrigger"}))],
            "port": 8080,
            "http": {"hosts": ["shop.example"], "pathPrefixes": ["/api"], "requestTimeoutSeconds": 10},
        });
        for (field, part) in extra.as_object().unwrap() {
            value[field] = part.clone();
        }
        plan(value, &settings(&[]))[0].http.clone().unwrap()
    };
    let http = app(json!({}));
    assert_eq!((http.concurrency, http.port), (16, 8080));
    assert_eq!(http.hosts, ["shop.example"]);
    assert_eq!(http.path_prefixes, ["/api"]);
    assert_eq!(http.function_timeout, Some(Duration::from_mins(30)));
    assert!(http.administered);
    assert_eq!(http.protocol, AppProtocol::Http1);
    let grpc = app(json!({"http": {"appProtocol": "H2c"}}));
    assert_eq!(grpc.protocol, AppProtocol::H2c);
    let limit = |text: &str| app(json!({"hostConfig": {"functionTimeout": text}})).function_timeout;
    assert_eq!(limit("00:05:00"), Some(Duration::from_mins(5)));
    assert_eq!(limit("-1"), None);
    let plain = app(json!({"host": "Plain"}));
    assert_eq!(plain.function_timeout, Some(Duration::from_secs(10)));
    assert!(!plain.administered);
    assert!(plan(queue(json!({})), &settings(&[]))[0].http.is_none());
}

#[test]
fn an_app_without_functions_has_no_groups() {
    assert!(plan(json!({}), &settings(&[])).is_empty());
}

#[test]
fn a_paused_app_says_so() {
    let mut value = queue(json!({}));
    value["scaling"] = json!({"mode": "Paused"});
    assert!(plan(value, &settings(&[]))[0].spec.paused);
}

#[test]
fn queue_targets_follow_size_host_json_and_settings() {
    let cases = [
        (json!({}), &[] as &[(&str, &str)], 24),
        (
            json!({"functionAppConfig": {"scaleAndConcurrency": {"instanceMemoryMB": 512}}}),
            &[],
            24,
        ),
        (
            json!({"functionAppConfig": {"scaleAndConcurrency": {"instanceMemoryMB": 4096}}}),
            &[],
            32,
        ),
        (
            json!({"hostConfig": {"extensions": {"queues": {"batchSize": 4, "newBatchThreshold": 1}}}}),
            &[],
            5,
        ),
        (
            json!({"hostConfig": {"extensions": {"queues": {"batchSize": 4}}}}),
            &[("AzureFunctionsJobHost__extensions__queues__BATCHSIZE", "10")],
            15,
        ),
    ];
    for (extra, pairs, target) in cases {
        let mut value = queue(json!({}));
        for (name, part) in extra.as_object().unwrap() {
            value[name] = part.clone();
        }
        let group = plan(value, &settings(pairs)).remove(0);
        let expected = SourceKind::StorageQueue {
            target: NonZeroU32::new(target).unwrap(),
        };
        assert_eq!(group.spec.sources[0].kind, expected, "{extra} {pairs:?}");
    }
}

#[test]
fn queues_are_found_by_setting_and_connection() {
    let pairs = [
        ("AzureWebJobsStorage", STORAGE),
        ("Other", "AccountName=other;AccountKey=a2V5"),
        ("Name", "Orders-1"),
    ];
    let found = |binding: Value| {
        let group = plan(queue(binding), &settings(&pairs)).remove(0);
        match &group.inputs[0] {
            InputPlan::Queue(plan) => (plan.target.account.name.clone(), plan.target.queue.clone()),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(found(json!({})), ("acct".into(), "orders".into()));
    assert_eq!(
        found(json!({"connection": "Other"})),
        ("other".into(), "orders".into())
    );
    assert_eq!(
        found(json!({"queueName": "%name%"})),
        ("acct".into(), "orders-1".into())
    );
}

#[test]
fn what_is_wrong_with_a_queue_is_named() {
    let broken = |binding: Value, settings: &ResolvedSettings| {
        problem(&plan(queue(binding), settings)[0]).clone()
    };
    let none = settings(&[]);
    assert_eq!(broken(json!({}), &none).category, "connection_missing");
    let storage = settings(&[("AzureWebJobsStorage", STORAGE)]);
    assert!(
        broken(json!({"queueName": "%Gone%"}), &storage)
            .message
            .contains("add the app setting 'Gone'")
    );
    assert_eq!(
        broken(json!({"queueName": ""}), &storage).category,
        "queue-name"
    );

    // A setting that is declared but could not be read is named with the object that it comes from.
    let mut unknown = settings(&[("AzureWebJobsStorage", STORAGE)]);
    unknown.set_missing("Orders", "Secret ns/s has no key 'k'".into());
    unknown.set_missing("Name", "Secret ns/s has no key 'n'".into());
    let connection = broken(json!({"connection": "Orders"}), &unknown);
    assert_eq!(
        (connection.category, connection.message.as_str()),
        ("setting_unknown", "Secret ns/s has no key 'k'")
    );
    assert_eq!(
        broken(json!({"queueName": "%NAME%"}), &unknown).message,
        "Secret ns/s has no key 'n'"
    );

    let mut value = queue(json!({}));
    value["hostConfig"] = json!({"extensions": {"queues": {"batchSize": 0}}});
    assert_eq!(problem(&plan(value, &storage)[0]).category, "host-json");
}

#[test]
fn learned_concurrency_is_looked_up_when_it_is_on() {
    let learned = |concurrency: Value| {
        let mut value = queue(json!({}));
        value["hostConfig"] = json!({"concurrency": concurrency});
        match plan(value, &settings(&[("AzureWebJobsStorage", STORAGE)]))
            .remove(0)
            .inputs
            .remove(0)
        {
            InputPlan::Queue(plan) => plan.learned.map(|l| l.function_id),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(learned(json!({})), None);
    assert_eq!(
        learned(json!({"dynamicConcurrencyEnabled": true})),
        Some("Host.Functions.Pack".into())
    );
    assert_eq!(
        learned(json!({"dynamicConcurrencyEnabled": true, "snapshotPersistenceEnabled": false})),
        None
    );
}

#[test]
fn timers_take_schedule_zone_and_flags() {
    let pairs = [
        ("AzureWebJobsStorage", STORAGE),
        ("When", "0 */5 * * * *"),
        ("TZ", "Europe/Berlin"),
    ];
    let group = plan(
        timer(json!({"schedule": "%when%", "runOnStartup": "true"})),
        &settings(&pairs),
    )
    .remove(0);
    let InputPlan::Timer(plan) = &group.inputs[0] else {
        panic!("{:?}", group.inputs)
    };
    assert!(matches!(plan.timer.schedule, Schedule::Cron(_)));
    assert_eq!(plan.timer.zone.name(), "Europe/Berlin");
    assert!(plan.timer.use_monitor && plan.timer.run_on_startup);
    let TimerStatusPlan::Blob {
        account,
        host_id,
        function,
    } = &plan.status
    else {
        panic!("{:?}", plan.status)
    };
    assert_eq!((account.name.as_str(), function.as_str()), ("acct", "Tick"));
    assert_eq!(*host_id, names::host_id("ns", "shop"));
}

#[test]
fn timers_without_a_status_are_told_apart_from_those_whose_status_is_out_of_reach() {
    let status = |binding: Value, settings: &ResolvedSettings, host: &str| {
        let mut value = timer(binding);
        value["host"] = host.into();
        match plan(value, settings).remove(0).inputs.remove(0) {
            InputPlan::Timer(plan) => plan.status,
            other => panic!("{other:?}"),
        }
    };
    let storage = settings(&[("AzureWebJobsStorage", STORAGE)]);
    let daily = json!({"schedule": "0 0 9 * * *"});
    assert_eq!(
        status(daily.clone(), &settings(&[]), "AzureFunctions"),
        TimerStatusPlan::None
    );
    assert_eq!(
        status(daily.clone(), &storage, "Plain"),
        TimerStatusPlan::None
    );
    assert_eq!(
        status(
            json!({"schedule": "* * * * * *"}),
            &storage,
            "AzureFunctions"
        ),
        TimerStatusPlan::None
    );
    let off = json!({"schedule": "0 0 9 * * *", "useMonitor": false});
    assert_eq!(
        status(off, &storage, "AzureFunctions"),
        TimerStatusPlan::None
    );

    let mut unknown = settings(&[]);
    unknown.set_missing("AzureWebJobsStorage__accountName", "no such key".into());
    let broken = status(daily, &unknown, "AzureFunctions");
    assert!(
        matches!(
            broken,
            TimerStatusPlan::Broken(Problem {
                category: "setting_unknown",
                ..
            })
        ),
        "{broken:?}"
    );
}

#[test]
fn what_is_wrong_with_a_timer_is_named() {
    let broken = |binding: Value, settings: &ResolvedSettings| {
        problem(&plan(timer(binding), settings)[0]).clone()
    };
    let none = settings(&[]);
    assert!(
        broken(json!({"schedule": "often"}), &none)
            .message
            .contains("function Tick")
    );
    assert!(
        broken(json!({"schedule": "%When%"}), &none)
            .message
            .contains("'When'")
    );
    assert_eq!(
        broken(
            json!({"schedule": "0 * * * * *", "useMonitor": "maybe"}),
            &none
        )
        .category,
        "timer-binding"
    );
    let zone = settings(&[("TZ", "Mars/Olympus")]);
    assert!(
        broken(json!({"schedule": "0 * * * * *"}), &zone)
            .message
            .contains("Mars/Olympus")
    );
    let mut unknown = settings(&[]);
    unknown.set_missing("WEBSITE_TIME_ZONE", "no such map".into());
    assert_eq!(
        broken(json!({"schedule": "0 * * * * *"}), &unknown).message,
        "no such map"
    );
}

#[test]
fn a_direction_that_the_host_refuses_leaves_no_plan() {
    let value = json!({"functions": [{"name": "a", "bindings": [{"type": "httpTrigger", "direction": "both"}]}]});
    let error = translate(&AppKey::new("ns", "shop"), 1, &spec(value), &settings(&[])).unwrap_err();
    assert_eq!(error.category(), "binding-direction");
    assert!(error.to_string().contains("functions[0]"), "{error}");
}
