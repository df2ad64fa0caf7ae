//! FunctionApp against a real API server: what is accepted, what is refused and with which words, and the defaults.

use anyhow::{Context as _, Result};
use e2e::suite::Suite;
use kube::Api;
use kube::api::{DynamicObject, PostParams};
use maniple_crds::FunctionApp;
use serde_json::{Value, json};

/// A server-side dry run with nulls kept, as a client sends them that pastes an ARM block.
async fn dry_run(suite: &Suite, name: &str, spec: Value) -> Result<Value, kube::Error> {
    let resource = kube::api::ApiResource::erase::<FunctionApp>(&());
    let api: Api<DynamicObject> = Api::namespaced_with(suite.client.clone(), "default", &resource);
    let object: DynamicObject = serde_json::from_value(json!({
        "apiVersion": "maniple.dev/v1alpha1", "kind": "FunctionApp",
        "metadata": {"name": name}, "spec": spec,
    }))
    .expect("an object with a name is one");
    let made = api
        .create(
            &PostParams {
                dry_run: true,
                ..PostParams::default()
            },
            &object,
        )
        .await?;
    Ok(made.data["spec"].clone())
}

fn with(extra: Value) -> Value {
    let mut spec = json!({"image": "registry.example/app:1", "functions": [
        {"name": "orders", "bindings": [{"type": "queueTrigger", "direction": "in", "name": "m", "queueName": "q"}]}
    ]});
    spec.as_object_mut()
        .expect("an object")
        .extend(extra.as_object().expect("an object").clone());
    spec
}

#[tokio::test]
async fn a_pasted_function_app_config_is_accepted_unchanged() -> Result<()> {
    let suite = Suite::connect().await?;
    let block = json!({
        "deployment": {"storage": {"type": "blobContainer", "value": "https://acct.blob.core.windows.net/releases",
            "authentication": {"type": "UserAssignedIdentity",
                "userAssignedIdentityResourceId": "/subscriptions/0/resourceGroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities/id1",
                "storageAccountConnectionStringName": null}}},
        "runtime": {"name": "python", "version": "3.11"},
        "scaleAndConcurrency": {"maximumInstanceCount": 100, "instanceMemoryMB": 2048,
            "alwaysReady": [{"name": "http", "instanceCount": 2}, {"name": "function:orders", "instanceCount": 1}],
            "triggers": {"http": {"perInstanceConcurrency": 16}}},
        "siteUpdateStrategy": {"type": "RollingUpdate"}
    });
    let stored = dry_run(&suite, "pasted", with(json!({"functionAppConfig": block}))).await?;
    assert_eq!(stored["functionAppConfig"], block);

    let nulls = json!({"scaleAndConcurrency": {"maximumInstanceCount": 40, "instanceMemoryMB": 512, "alwaysReady": [], "triggers": null}});
    dry_run(&suite, "nulls", with(json!({"functionAppConfig": nulls})))
        .await
        .context("a null block")?;
    Ok(())
}

#[tokio::test]
async fn defaults_are_those_of_the_plan() -> Result<()> {
    let suite = Suite::connect().await?;
    let stored = dry_run(&suite, "defaults", with(json!({}))).await?;
    for (pointer, expected) in [
        ("/port", json!(80)),
        ("/host", json!("AzureFunctions")),
        ("/imagePullPolicy", json!("IfNotPresent")),
        (
            "/functionAppConfig/scaleAndConcurrency/maximumInstanceCount",
            json!(100),
        ),
        (
            "/functionAppConfig/scaleAndConcurrency/instanceMemoryMB",
            json!(2048),
        ),
        (
            "/functionAppConfig/siteUpdateStrategy/type",
            json!("Recreate"),
        ),
        ("/http/requestTimeoutSeconds", json!(230)),
        ("/http/appProtocol", json!("Http1")),
        ("/scaling/driver", json!("Auto")),
        ("/scaling/drainMinutes", json!(60)),
        ("/zoneRedundancy", json!("Disabled")),
    ] {
        assert_eq!(stored.pointer(pointer), Some(&expected), "{pointer}");
    }
    Ok(())
}

#[tokio::test]
async fn mistakes_are_refused_with_what_to_do() -> Result<()> {
    let suite = Suite::connect().await?;
    let setting = |name: &str| json!({"appSettings": [{"name": name, "value": "x"}]});
    let limits = |field: &str, value: Value| json!({"functionAppConfig": {"scaleAndConcurrency": {field: value}}});
    let function =
        |name: &str| json!({"functions": [{"name": name, "bindings": [{"type": "timerTrigger"}]}]});
    let cases: Vec<(Value, &str)> = vec![
        (json!({"image": ""}), "spec.image"),
        (json!({"port": 0}), "spec.port"),
        (
            json!({"host": "Plain", "functions": null}),
            "functions must be listed when host is Plain",
        ),
        (
            limits("instanceMemoryMB", json!(1024)),
            "instanceMemoryMB must be 512, 2048 or 4096",
        ),
        (
            limits("maximumInstanceCount", json!(0)),
            "should be greater than or equal to 1",
        ),
        (
            limits("maximumInstanceCount", json!(1001)),
            "should be less than or equal to 1000",
        ),
        (
            limits(
                "alwaysReady",
                json!([{"name": "queue", "instanceCount": 1}]),
            ),
            "must be http, durable, blob or function:",
        ),
        (
            limits(
                "alwaysReady",
                json!([{"name": "http", "instanceCount": 1}, {"name": "http", "instanceCount": 2}]),
            ),
            "Duplicate value",
        ),
        (
            limits("triggers", json!({"http": {"perInstanceConcurrency": 0}})),
            "should be greater than or equal to 1",
        ),
        (
            json!({"functionAppConfig": {"runtime": {"name": "cobol"}}}),
            "Unsupported value",
        ),
        (
            json!({"functionAppConfig": {"siteUpdateStrategy": {"type": "BlueGreen"}}}),
            "Unsupported value",
        ),
        (
            setting("POD_NAMESPACE"),
            "leader service that does not exist",
        ),
        (setting("website_instance_id"), "opens the admin API"),
        (
            setting("FUNCTIONS_ADMIN_ISOLATION_ENABLED"),
            "locks the operator out",
        ),
        (
            setting("WEBSITE_AUTH_ENCRYPTION_KEY"),
            "send its keys to a trigger service",
        ),
        (setting("WEBSITE_SKU"), "puts the host into another mode"),
        (
            setting("AzureFunctionsJobHost__functions__0"),
            "the operator sets this name",
        ),
        (
            setting("AzureFunctionsWebHost:hostid"),
            "the operator sets this name",
        ),
        (setting("1BAD"), "must hold only letters"),
        (
            json!({"appSettings": [{"name": "A"}]}),
            "exactly one of value and valueFrom",
        ),
        (
            json!({"appSettings": [{"name": "A", "value": "x", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]}),
            "exactly one of value and valueFrom",
        ),
        (
            json!({"appSettings": [{"name": "A", "valueFrom": {}}]}),
            "exactly one of secretKeyRef and configMapKeyRef",
        ),
        (function("1st"), "must begin with a letter"),
        (function("Host"), "not be 'host'"),
        (function("a\n"), "must begin with a letter"),
        (json!({"functions": []}), "should have at least 1 items"),
        (
            json!({"functions": [{"name": "a", "bindings": [{"name": "x"}]}]}),
            "bindings[0].type: Required value",
        ),
        (
            json!({"functions": [{"name": "a", "bindings": [{"type": "t"}]}, {"name": "a", "bindings": [{"type": "t"}]}]}),
            "Duplicate value",
        ),
        (
            json!({"http": {"hosts": ["Shop.example"]}}),
            "must be lower-case DNS names",
        ),
        (
            json!({"http": {"hosts": ["shop.example:80"]}}),
            "must be lower-case DNS names",
        ),
        (
            json!({"http": {"pathPrefixes": ["api"]}}),
            "must begin with '/'",
        ),
        (json!({"scaling": {"driver": "Magic"}}), "Unsupported value"),
        (
            json!({"scaling": {"idleSeconds": -1}}),
            "should be greater than or equal to 0",
        ),
        (
            json!({"scaling": {"drainMinutes": 61}}),
            "should be less than or equal to 60",
        ),
        (json!({"zoneRedundancy": true}), "zoneRedundancy"),
    ];
    let mut wrong = Vec::new();
    for (index, (spec, expected)) in cases.iter().enumerate() {
        match dry_run(&suite, "bad", with(spec.clone())).await {
            Ok(_) => wrong.push(format!("case {index} was accepted: {spec}")),
            Err(error) if error.to_string().contains(expected) => {}
            Err(error) => wrong.push(format!(
                "case {index} {spec}: `{expected}` is not in: {error}"
            )),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

#[tokio::test]
async fn names_must_fit_into_the_names_made_from_them() -> Result<()> {
    let suite = Suite::connect().await?;
    let long = "a".repeat(41);
    for (name, expected) in [
        (long.as_str(), "must not be longer than 40 characters"),
        ("1app", "must begin with a letter"),
        ("a.b", "must begin with a letter and hold only"),
    ] {
        let error = dry_run(&suite, name, with(json!({})))
            .await
            .err()
            .context(name.to_owned())?
            .to_string();
        assert!(error.contains(expected), "{name}: {error}");
    }
    dry_run(&suite, &"a".repeat(40), with(json!({}))).await?;
    Ok(())
}

#[tokio::test]
async fn allowed_settings_and_the_largest_app_are_accepted() -> Result<()> {
    let suite = Suite::connect().await?;
    let settings: Vec<Value> = (0..256)
        .map(|i| json!({"name": format!("Setting_{i}"), "value": "x"}))
        .collect();
    let functions: Vec<Value> = (0..128)
        .map(|i| json!({"name": format!("f{i}"), "disabled": i % 2 == 0, "bindings": [{"type": "timerTrigger", "schedule": "0 * * * * *", "useMonitor": false}]}))
        .collect();
    let stored = dry_run(
        &suite,
        "large",
        with(json!({"appSettings": settings, "functions": functions})),
    )
    .await?;
    // Properties that only the extension knows are kept.
    assert_eq!(
        stored["functions"][0]["bindings"][0]["useMonitor"],
        json!(false)
    );
    let names = [
        "AzureWebJobs.orders.Disabled",
        "AzureFunctionsJobHost__extensions__queues__batchSize",
        "TZ",
    ];
    let settings: Vec<Value> = names
        .iter()
        .map(|n| json!({"name": n, "value": "x"}))
        .collect();
    dry_run(&suite, "names", with(json!({"appSettings": settings}))).await?;
    Ok(())
}
