//! At rest nothing is written: no generation and no resource version moves for two minutes.

use anyhow::{Context as _, Result};
use e2e::suite::Suite;
use e2e::suite::apps::{App, http_function, queue_function, timer_function};
use e2e::suite::observe::condition;
use e2e::suite::wait::{always, until};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(120);
/// Two turns of everything that looks at an app at rest.
const REST: Duration = Duration::from_secs(130);
/// Kinds whose versions must not move. A ScaledObject is not among them: KEDA itself writes to it.
const KINDS: &str = "functionapps,deployments,services,secrets";

#[tokio::test]
async fn nothing_is_written_at_rest() -> Result<()> {
    let suite = Suite::connect().await?;
    let ns = suite.namespace("rest").await?;
    suite.storage.queue("at-rest").await?;
    for driver in ["Keda", "Native"] {
        let functions = [
            queue_function("orders", "at-rest"),
            timer_function("yearly", "0 0 0 1 1 *"),
            http_function("api"),
        ];
        App::new(
            &suite,
            &ns.name,
            &driver.to_lowercase(),
            &functions,
            json!({}),
        )?
        .with(&["scaling"], json!({"driver": driver, "idleSeconds": 3}))
        .apply(&suite)
        .await?;
    }
    for app in ["keda", "native"] {
        until(
            &format!("{app} to be ready and settled"),
            LIMIT,
            || condition(&suite, &ns.name, app, "Ready"),
            |c| c.as_ref().is_some_and(|(status, _, _)| status == "True"),
        )
        .await?;
    }
    // Settled: the same versions twice, half a minute apart.
    let mut before = versions(&suite, &ns.name)?;
    for look in 0.. {
        tokio::time::sleep(Duration::from_secs(30)).await;
        let now = versions(&suite, &ns.name)?;
        if now == before {
            break;
        }
        anyhow::ensure!(
            look < 8,
            "the objects did not settle within four minutes: {before:?}, then {now:?}"
        );
        before = now;
    }
    assert!(!before.is_empty());
    always(
        "versions to stay",
        REST,
        || async { versions(&suite, &ns.name) },
        |now| *now == before,
    )
    .await?;
    ns.remove().await
}

fn versions(suite: &Suite, namespace: &str) -> Result<BTreeMap<String, String>> {
    let list = suite.connection.kubectl().get(&[KINDS, "-n", namespace])?;
    let items = list["items"].as_array().context("no list")?;
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    Ok(items
        .iter()
        .map(|o| {
            let name = format!("{}/{}", text(&o["kind"]), text(&o["metadata"]["name"]));
            (
                name,
                format!(
                    "{}@{}",
                    o["metadata"]["generation"],
                    text(&o["metadata"]["resourceVersion"])
                ),
            )
        })
        .collect())
}
