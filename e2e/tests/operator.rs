//! The operator on a real cluster: what it makes, what it leaves alone, what it says when something is wrong.

use anyhow::{Context as _, Result};
use e2e::suite::apps::{App, http_function, queue_function, timer_function};
use e2e::suite::observe::{Group, app, condition, objects_of};
use e2e::suite::wait::{always, until};
use e2e::suite::{PLATFORM_NAMESPACE, Suite};
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt as _};
use maniple_crds::FunctionApp;
use serde_json::{Value, json};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(90);
/// Everything that an app of a suite can own.
const KINDS: &str = "deployments,services,secrets,scaledobjects.keda.sh";

/// Waits until a condition of the app has this status and reason, and returns its message.
async fn told(
    suite: &Suite,
    namespace: &str,
    name: &str,
    kind: &str,
    status: &str,
    reason: &str,
) -> Result<String> {
    let found = until(
        &format!("condition {kind} of {name} to be {status}/{reason}"),
        LIMIT,
        || condition(suite, namespace, name, kind),
        |c| {
            c.as_ref()
                .is_some_and(|(s, r, _)| s == status && r == reason)
        },
    )
    .await?;
    Ok(found.context("until returned without a condition")?.2)
}

/// An app that keeps one instance of a function, so that a host can be asked.
fn warm(app: App, function: &str) -> App {
    app.with(
        &["functionAppConfig", "scaleAndConcurrency", "alwaysReady"],
        json!([{"name": format!("function:{function}"), "instanceCount": 1}]),
    )
}

#[tokio::test]
async fn one_deployment_for_each_group_and_nothing_left_after_deletion() -> Result<()> {
    let suite = Suite::connect().await?;
    let ns = suite.namespace("groups").await?;
    let functions = [
        http_function("api"),
        queue_function("orders", "op-orders"),
        timer_function("tick", "0 0 3 * * *"),
    ];
    App::new(&suite, &ns.name, "shop", &functions, json!({}))?
        .apply(&suite)
        .await?;
    told(&suite, &ns.name, "shop", "ScalingConfigured", "True", "Ok").await?;
    let status = app(&suite, &ns.name, "shop")
        .await?
        .status
        .context("no status")?;
    let groups: Vec<&str> = status.groups.iter().map(|g| g.name.as_str()).collect();
    assert_eq!(groups, ["function:orders", "function:tick", "http"]);
    let deployments = objects_of(&suite, &ns.name, "shop", "deployments")?;
    assert_eq!(deployments.len(), 3, "{deployments:?}");
    assert_eq!(objects_of(&suite, &ns.name, "shop", "services")?.len(), 1);

    let api: Api<FunctionApp> = Api::namespaced(suite.client.clone(), &ns.name);
    api.delete("shop", &DeleteParams::default()).await?;
    until(
        "every object of the deleted app to go",
        LIMIT,
        || async { objects_of(&suite, &ns.name, "shop", KINDS) },
        Vec::is_empty,
    )
    .await?;
    ns.remove().await
}

#[tokio::test]
async fn a_change_restarts_only_the_group_it_concerns() -> Result<()> {
    let suite = Suite::connect().await?;
    let ns = suite.namespace("change").await?;
    let before = [
        queue_function("orders", "op-a"),
        queue_function("mail", "op-b"),
    ];
    App::new(&suite, &ns.name, "shop", &before, json!({}))?
        .apply(&suite)
        .await?;
    let orders = Group::of(&suite, &ns.name, "shop", "function:orders")?;
    let mail = Group::of(&suite, &ns.name, "shop", "function:mail")?;
    until(
        "both groups",
        LIMIT,
        || async { Ok((orders.get().await?, mail.get().await?)) },
        |_| true,
    )
    .await?;
    let template = orders.get().await?.spec.context("no spec")?.template;

    // `mail` is renamed: its group goes, another comes, `orders` is not touched. The stand-in's own description of the app
    // is the same setting in all groups, so it is left as it was.
    let mut changed = App::new(&suite, &ns.name, "shop", &before, json!({}))?;
    changed.manifest["spec"]["functions"] = json!([
        queue_function("orders", "op-a"),
        queue_function("post", "op-b")
    ]);
    changed.apply(&suite).await?;
    let post = Group::of(&suite, &ns.name, "shop", "function:post")?;
    until("the renamed group", LIMIT, || post.get(), |_| true).await?;
    until(
        "the old group to go",
        LIMIT,
        || async { objects_of(&suite, &ns.name, "shop", "deployments") },
        |names| !names.iter().any(|n| n.ends_with(&mail.deployment)),
    )
    .await?;
    let after = orders.get().await?;
    assert_eq!(after.spec.context("no spec")?.template, template);
    let sets: Api<ReplicaSet> = Api::namespaced(suite.client.clone(), &ns.name);
    let labels = after.metadata.labels.context("no labels")?;
    let selector = format!("maniple.dev/group={}", labels["maniple.dev/group"]);
    let revisions = sets
        .list(&ListParams::default().labels(&selector))
        .await?
        .items
        .len();
    assert_eq!(revisions, 1, "the group was rolled out again");

    // A changed setting concerns all groups.
    changed.setting("COLOUR", "blue").apply(&suite).await?;
    until(
        "a second revision",
        LIMIT,
        || async {
            Ok(sets
                .list(&ListParams::default().labels(&selector))
                .await?
                .items
                .len())
        },
        |revisions| *revisions == 2,
    )
    .await?;
    ns.remove().await
}

#[tokio::test]
async fn a_wrong_app_is_shown_and_what_ran_keeps_running() -> Result<()> {
    let suite = Suite::connect().await?;
    let ns = suite.namespace("wrong").await?;
    let functions = [queue_function("orders", "op-wrong")];
    let good = || App::new(&suite, &ns.name, "shop", &functions, json!({}));
    good()?.apply(&suite).await?;
    let orders = Group::of(&suite, &ns.name, "shop", "function:orders")?;
    let running = until("the group", LIMIT, || orders.get(), |_| true).await?;

    let twice = json!([queue_function("orders", "a"), queue_function("Orders", "b")]);
    let always_ready = ["functionAppConfig", "scaleAndConcurrency", "alwaysReady"];
    let secret =
        json!([{"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "nowhere", "key": "k"}}}]);
    let cases: Vec<(App, &str, &str)> = vec![
        (
            good()?.with(&["functions"], twice),
            "InvalidSpec",
            "spec.functions[1].name: ",
        ),
        (
            good()?.with(&always_ready, json!([{"name": "http", "instanceCount": 1}])),
            "InvalidSpec",
            "spec.functionAppConfig.scaleAndConcurrency.alwaysReady[0].name: ",
        ),
        (
            good()?.with(
                &["scaling", "functionLimits"],
                json!([{"name": "none", "maximumInstanceCount": 1}]),
            ),
            "InvalidSpec",
            "spec.scaling.functionLimits[0].name: ",
        ),
        (
            good()?.with(&["appSettings"], secret),
            "ReferenceMissing",
            "spec.appSettings[0].valueFrom.secretKeyRef.name: Secret `nowhere` does not exist",
        ),
    ];
    for (wrong, reason, expected) in cases {
        wrong.apply(&suite).await?;
        let message = told(&suite, &ns.name, "shop", "Ready", "False", reason).await?;
        assert!(
            message.contains(expected),
            "`{expected}` is not in `{message}`"
        );
        let now = orders.get().await?;
        assert_eq!(now.spec, running.spec, "a refused spec changed what ran");
    }
    good()?.apply(&suite).await?;
    told(&suite, &ns.name, "shop", "Ready", "True", "Ok").await?;
    ns.remove().await
}

#[tokio::test]
async fn of_two_apps_with_one_host_the_older_keeps_it() -> Result<()> {
    let suite = Suite::connect().await?;
    let ns = suite.namespace("hosts").await?;
    let host = format!("{}.example", ns.name);
    let functions = [http_function("api")];
    let named = |name: &str| -> Result<App> {
        Ok(App::new(&suite, &ns.name, name, &functions, json!({}))?
            .with(&["http", "hosts"], json!([host])))
    };
    named("first")?.apply(&suite).await?;
    told(&suite, &ns.name, "first", "ScalingConfigured", "True", "Ok").await?;
    // Ages are whole seconds.
    let first = app(&suite, &ns.name, "first")
        .await?
        .metadata
        .creation_timestamp
        .context("no age")?
        .0;
    until(
        "the next second",
        LIMIT,
        || async { Ok(jiff::Timestamp::now()) },
        |now| now.as_second() > first.as_second(),
    )
    .await?;
    named("second")?.apply(&suite).await?;
    let message = told(&suite, &ns.name, "second", "Ready", "False", "HostConflict").await?;
    assert!(message.contains(&format!("{}/first", ns.name)), "{message}");
    assert!(message.starts_with("spec.http.hosts[0]: "), "{message}");
    ns.remove().await
}

#[tokio::test]
async fn a_host_that_answers_is_not_yet_healthy() -> Result<()> {
    let suite = Suite::connect().await?;
    let ns = suite.namespace("loaded").await?;
    let functions = [queue_function("orders", "op-loaded")];
    let cases = [
        ("fine", None, "True", "Ok", "without errors"),
        (
            "empty",
            Some("app-load"),
            "False",
            "FunctionsMissing",
            "does not list orders",
        ),
        (
            "broken",
            Some("indexing=orders"),
            "False",
            "FunctionErrors",
            "function orders: ",
        ),
    ];
    for (name, fault, _, _, _) in cases {
        let mut app = warm(
            App::new(&suite, &ns.name, name, &functions, json!({}))?,
            "orders",
        );
        if let Some(fault) = fault {
            app = app.setting("STANDIN_FAULT", fault);
        }
        app.apply(&suite).await?;
    }
    warm(
        App::new(&suite, &ns.name, "exits", &functions, json!({}))?,
        "orders",
    )
    .setting("STANDIN_FAULT", "exit-after=300")
    .apply(&suite)
    .await?;
    for (name, _, status, reason, expected) in cases {
        let message = told(&suite, &ns.name, name, "FunctionsLoaded", status, reason).await?;
        assert!(
            message.contains(expected),
            "`{expected}` is not in `{message}`"
        );
    }
    let message = told(
        &suite,
        &ns.name,
        "exits",
        "WorkloadAvailable",
        "False",
        "InstancesFailing",
    )
    .await?;
    assert!(message.contains("exit code 0"), "{message}");
    ns.remove().await
}

#[tokio::test]
async fn a_changed_secret_replaces_the_instances() -> Result<()> {
    let suite = Suite::connect().await?;
    let ns = suite.namespace("secret").await?;
    let secrets: Api<Secret> = Api::namespaced(suite.client.clone(), &ns.name);
    let secret = |value: &str| -> Result<Secret> {
        Ok(serde_json::from_value(
            json!({"metadata": {"name": "keys"}, "stringData": {"k": value}}),
        )?)
    };
    secrets
        .create(&PostParams::default(), &secret("one")?)
        .await?;
    let mut shop = App::new(
        &suite,
        &ns.name,
        "shop",
        &[queue_function("orders", "op-secret")],
        json!({}),
    )?;
    shop.manifest["spec"]["appSettings"]
        .as_array_mut()
        .context("no settings")?
        .push(json!({"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "k"}}}));
    shop.apply(&suite).await?;
    let orders = Group::of(&suite, &ns.name, "shop", "function:orders")?;
    let digest = |d: &k8s_openapi::api::apps::v1::Deployment| {
        serde_json::to_value(d)
            .ok()
            .and_then(|v| v.pointer("/spec/template/metadata/annotations").cloned())
    };
    let first = digest(&until("the group", LIMIT, || orders.get(), |_| true).await?);
    secrets
        .patch(
            "keys",
            &PatchParams::default(),
            &Patch::Merge(json!({"stringData": {"k": "two"}})),
        )
        .await?;
    let text = until(
        "another digest",
        LIMIT,
        || async { Ok(digest(&orders.get().await?)) },
        |now| *now != first,
    )
    .await?;
    assert!(
        !format!("{text:?}").contains("two"),
        "the value of a secret is in an annotation"
    );
    ns.remove().await
}

#[tokio::test]
async fn applying_twice_changes_nothing() -> Result<()> {
    let suite = Suite::connect().await?;
    let ns = suite.namespace("twice").await?;
    let shop = App::new(
        &suite,
        &ns.name,
        "shop",
        &[queue_function("orders", "op-twice")],
        json!({}),
    )?;
    shop.apply(&suite).await?;
    told(&suite, &ns.name, "shop", "ScalingConfigured", "True", "Ok").await?;
    let orders = Group::of(&suite, &ns.name, "shop", "function:orders")?;
    let versions = || async {
        let deployment = orders.get().await?;
        let shop = app(&suite, &ns.name, "shop").await?;
        Ok((
            deployment.metadata.generation,
            shop.metadata.generation,
            shop.spec,
        ))
    };
    let before: (_, _, _) = versions().await?;
    shop.apply(&suite).await?;
    always(
        "generations to stay",
        Duration::from_secs(15),
        versions,
        |now| *now == before,
    )
    .await?;
    ns.remove().await
}

#[tokio::test]
async fn another_replica_takes_over_when_the_leader_dies() -> Result<()> {
    let suite = Suite::connect().await?;
    let ns = suite.namespace("leader").await?;
    let holder = || async {
        let lease: Value = suite.connection.kubectl().get(&[
            "lease",
            "maniple-operator",
            "-n",
            PLATFORM_NAMESPACE,
        ])?;
        Ok(lease["spec"]["holderIdentity"]
            .as_str()
            .unwrap_or_default()
            .to_owned())
    };
    let first = until("a leader", LIMIT, holder, |h: &String| !h.is_empty()).await?;
    let pods: Api<Pod> = Api::namespaced(suite.client.clone(), PLATFORM_NAMESPACE);
    pods.delete(&first, &DeleteParams::default().grace_period(0))
        .await
        .with_context(|| format!("leader `{first}`"))?;
    until("another leader", LIMIT, holder, |h: &String| {
        !h.is_empty() && *h != first
    })
    .await?;
    App::new(
        &suite,
        &ns.name,
        "shop",
        &[queue_function("orders", "op-leader")],
        json!({}),
    )?
    .apply(&suite)
    .await?;
    let orders = Group::of(&suite, &ns.name, "shop", "function:orders")?;
    let made = until(
        "the new leader to make a group",
        LIMIT,
        || orders.get(),
        |_| true,
    )
    .await?;
    assert_eq!(made.name_any(), orders.deployment);
    ns.remove().await
}
