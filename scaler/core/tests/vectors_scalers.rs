//! Storage queue, dynamic concurrency, limits and aggregation against recordings of the original scalers.

mod recorded;

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;

use maniple_core::concurrency::{Concurrency, ConcurrencyOptions};
use maniple_core::host_config::HostConfig;
use maniple_core::names::Settings;
use maniple_core::queue::{
    Backlog, MessageEncoding, Peek, Properties, QueueOptions, backlog, instances, processors,
};
use maniple_core::timer::{TICKS_PER_SECOND, parse_timespan};
use recorded::{cases, none_of, text};
use serde_json::{Value, json};

/// Kinds of `storage-queue.json` that have no counterpart here, and why.
const SKIPPED: [(&str, &str); 3] = [
    (
        "monitor",
        "the incremental vote of older scale controllers; here a target always exists",
    ),
    ("monitorUnreachable", "as monitor"),
    (
        "targetUnreachable",
        "a negative length, which the type of a backlog excludes",
    ),
];

fn of_kind(kind: &str) -> Vec<Value> {
    let all = cases("scalers/storage-queue.json");
    let found: Vec<Value> = all
        .into_iter()
        .filter(|case| text(case, "kind") == kind)
        .collect();
    assert!(!found.is_empty(), "there are cases of kind {kind}");
    found
}

fn options(section: Value, environment: &Value, cores: u64) -> Result<QueueOptions, String> {
    let settings = Settings::from_environment(
        environment
            .as_object()
            .into_iter()
            .flatten()
            .map(|(name, value)| (name, value.as_str().expect("a text"))),
    );
    let config = HostConfig::new(&json!({"extensions": {"queues": section}}), &settings);
    let options = QueueOptions::read(&config, processors(Some(cores * 1_000), &settings));
    options.map_err(|error| {
        assert_eq!(error.category(), "host-json");
        error.to_string()
    })
}

fn ticks(span: std::time::Duration) -> Option<i64> {
    i64::try_from(span.as_nanos() / 100).ok()
}

/// The options as the recordings print them.
fn same(options: &QueueOptions, expected: &Value) -> bool {
    let encoding = match options.message_encoding {
        MessageEncoding::Base64 => "Base64",
        MessageEncoding::None => "None",
    };
    expected["batchSize"] == options.batch_size
        && expected["newBatchThreshold"] == options.new_batch_threshold
        && expected["divisor"] == options.target().get()
        && expected["maxDequeueCount"] == options.max_dequeue_count
        && parse_timespan(text(expected, "visibilityTimeout")) == ticks(options.visibility_timeout)
        && parse_timespan(text(expected, "maxPollingInterval"))
            == ticks(options.max_polling_interval)
        && text(expected, "messageEncoding") == encoding
}

#[test]
fn vectors_storage_queue_kinds_are_all_known() {
    let run = [
        "target",
        "options-default",
        "options-set",
        "config",
        "provider",
    ];
    let known: BTreeSet<&str> = run
        .into_iter()
        .chain(SKIPPED.map(|(kind, _)| kind))
        .collect();
    let all = cases("scalers/storage-queue.json");
    let seen: BTreeSet<&str> = all.iter().map(|case| text(case, "kind")).collect();
    assert_eq!(seen.difference(&known).count(), 0, "{seen:?}");
    for (kind, reason) in SKIPPED {
        let count = all.iter().filter(|case| case["kind"] == kind).count();
        println!("skipped: {count} cases of kind {kind}: {reason}");
    }
}

#[test]
fn vectors_storage_queue_targets() {
    let all = of_kind("target");
    let mut differences = Vec::new();
    let mut refused = 0;
    for case in &all {
        let input = &case["input"];
        let section = json!({
            "batchSize": input["batchSize"],
            "newBatchThreshold": input["newBatchThreshold"],
        });
        let fixed = options(section, &Value::Null, 1).expect("options").target();
        let concurrency = match input["instanceConcurrency"].as_i64() {
            Some(learned) => Concurrency::Dynamic(i32::try_from(learned).expect("32 bits")),
            None => Concurrency::Static,
        };
        let target = concurrency.target(fixed);
        let length = input["queueLength"].as_u64().expect("a length");
        let wants = instances(length, target);
        if case["expected"].get("error").is_some() {
            // On purpose different: no exception. A learned value below one falls back to the static target, and a divisor
            // beyond 31 bits is just a large divisor.
            refused += 1;
            assert_eq!(target, fixed, "{case}");
            assert_eq!(wants == 0, length == 0, "{case}");
        } else if case["expected"]["target"] != wants
            || case["expected"]["concurrency"] != target.get()
        {
            differences.push(format!("{case}: {wants} by {target}"));
        }
    }
    assert!(refused > 0 && refused < all.len());
    none_of(differences, all.len());
}

#[test]
fn vectors_storage_queue_default_options() {
    let all = of_kind("options-default");
    let mut differences = Vec::new();
    for case in &all {
        let input = &case["input"];
        let cores = input["processorCount"].as_u64().expect("a number");
        let environment = match input["sku"].as_str() {
            Some(sku) => json!({ "WEBSITE_SKU": sku }),
            None => Value::Null,
        };
        let seen = options(json!({}), &environment, cores).expect("options");
        if !same(&seen, &case["expected"]) {
            differences.push(format!("{case}: {seen:?}"));
        }
        let by_batch: BTreeMap<String, u32> =
            serde_json::from_value(case["expected"]["newBatchThresholdByBatchSize"].clone())
                .expect("a table");
        assert!(!by_batch.is_empty());
        for (batch, threshold) in by_batch {
            let seen =
                options(json!({ "batchSize": batch }), &environment, cores).expect("options");
            assert_eq!(seen.new_batch_threshold, threshold, "{batch} in {case}");
        }
    }
    none_of(differences, all.len());
}

#[test]
fn vectors_storage_queue_set_options() {
    let all = of_kind("options-set");
    let mut differences = Vec::new();
    for case in &all {
        let property = text(&case["input"], "property");
        let value = &case["input"]["value"];
        let seen = options(json!({ property: value }), &Value::Null, 1);
        let read = seen.as_ref().ok().map(|options| match property {
            "batchSize" => json!(options.batch_size),
            "newBatchThreshold" => json!(options.new_batch_threshold),
            "maxDequeueCount" => json!(options.max_dequeue_count),
            "maxPollingInterval" => {
                assert_eq!(
                    ticks(options.max_polling_interval),
                    parse_timespan(value.as_str().expect("a text"))
                );
                value.clone()
            }
            other => panic!("property {other} is not known here"),
        });
        if read.as_ref() != case["expected"].get("value") {
            differences.push(format!("{case}: {seen:?}"));
        }
    }
    none_of(differences, all.len());
}

#[test]
fn vectors_storage_queue_config() {
    let all = of_kind("config");
    let mut differences = Vec::new();
    for case in &all {
        let input = &case["input"];
        let seen = options(input["hostJsonExtensionsQueues"].clone(), &input["env"], 1);
        let fine = match &seen {
            Ok(options) => {
                case["expected"].get("error").is_none() && same(options, &case["expected"])
            }
            Err(_) => case["expected"].get("error").is_some(),
        };
        if !fine {
            differences.push(format!("{case}: {seen:?}"));
        }
    }
    none_of(differences, all.len());
}

#[test]
fn vectors_storage_queue_provider() {
    let all = of_kind("provider");
    let mut differences = Vec::new();
    let mut unknown = 0;
    for case in &all {
        let input = &case["input"];
        let properties = match input["propertiesError"].as_str() {
            Some("404 QueueNotFound") => Properties::NotFound,
            Some(error) => Properties::Failed(error.to_owned()),
            None => match input["approximateCount"].as_u64() {
                Some(count) => Properties::Count(count),
                // On purpose different: a negative count is no count.
                None => Properties::Failed("negative".to_owned()),
            },
        };
        let peek = match (input["peekError"].as_str(), text(input, "peek")) {
            (Some(error), _) => Peek::Failed(error.to_owned()),
            (None, "visible") => Peek::Visible,
            (None, _) => Peek::Empty,
        };
        let asked = properties.needs_peek().then_some(&peek);
        let seen = backlog(&properties, asked);
        match &seen {
            // On purpose different: the original takes every error for zero.
            Backlog::Unknown { error } => {
                unknown += 1;
                let cause = input["propertiesError"].as_str().unwrap_or("negative");
                assert_eq!(error, cause);
                assert_eq!(case["expected"]["target"], 0, "{case}");
            }
            Backlog::Known { count, .. } => {
                let wants = instances(*count, NonZeroU32::new(24).expect("not zero"));
                if case["expected"]["queueLength"] != *count || case["expected"]["target"] != wants
                {
                    differences.push(format!("{case}: {seen:?}"));
                }
            }
        }
    }
    assert!(unknown > 0);
    none_of(differences, all.len());
}

#[test]
fn vectors_concurrency_snapshot() {
    let mut differences = Vec::new();
    let mut ran = 0;
    for case in cases("scalers/dynamic-concurrency.json") {
        if !text(&case, "kind").starts_with("snapshot") {
            // The other kinds are what a host does with its own concurrency, not what a scaler reads.
            continue;
        }
        ran += 1;
        let input = &case["input"];
        let config = HostConfig::new(
            &json!({ "concurrency": {
                "dynamicConcurrencyEnabled": input["dynamicConcurrencyEnabled"],
                "snapshotPersistenceEnabled": input["snapshotPersistenceEnabled"],
            }}),
            &Settings::default(),
        );
        let options = ConcurrencyOptions::read(&config).expect("options");
        let blob = input["blob"].as_str().filter(|text| !text.starts_with('!'));
        let seen = options.choose(blob.map(str::as_bytes), text(input, "functionId"));
        let (asked, concurrency) = match seen {
            Concurrency::Static => (true, Value::Null),
            Concurrency::Dynamic(learned) => (true, json!(learned)),
            Concurrency::LeftOut => (false, Value::Null),
        };
        let expected = &case["expected"];
        if expected["asked"] != asked
            || expected["instanceConcurrency"] != concurrency
            || expected["blobRead"] != options.reads_snapshot()
        {
            differences.push(format!("{case}: {seen:?}"));
        }
    }
    none_of(differences, ran);
}

#[test]
fn vectors_caps_storage_queue() {
    let mut differences = Vec::new();
    let mut ran = 0;
    for case in cases("scalers/caps.json") {
        let input = &case["input"];
        if input["scaler"] != "storageQueue" {
            continue;
        }
        ran += 1;
        let divisor = u32::try_from(input["divisor"].as_u64().expect("a number")).expect("32 bits");
        let seen = instances(
            input["backlog"].as_u64().expect("a number"),
            NonZeroU32::new(divisor).expect("not zero"),
        );
        if case["expected"]["target"] != seen {
            differences.push(format!("{case}: {seen}"));
        }
    }
    none_of(differences, ran);
}

#[test]
fn vectors_times_are_in_units_of_100_ns() {
    // The recordings count in these units; a wrong constant would make every comparison above meaningless.
    assert_eq!(parse_timespan("00:00:01"), Some(TICKS_PER_SECOND));
}

/// The original's combination of several scalers, as far as a group here has the same inputs: target scalers with a number
/// or an exception, without monitors. On purpose different: a scaler that fails holds the present count, where the original
/// drops it and, when all fail, votes for scale-in.
#[test]
fn vectors_aggregation() {
    use maniple_core::decision::{
        GroupObservation, GroupSpec, GroupState, Now, SourceKind, SourceReading, SourceSpec, decide,
    };

    let now = Now::at("2026-06-01T00:00:00Z".parse().expect("a time"));
    let mut differences = Vec::new();
    let (mut ran, mut held, mut all_failed) = (0, 0, 0);
    for case in cases("scalers/aggregation.json") {
        let input = &case["input"];
        let functions = input["functions"].as_array().map_or(&[][..], Vec::as_slice);
        let names: BTreeSet<&str> = functions
            .iter()
            .filter_map(|f| f["functionId"].as_str())
            .collect();
        let comparable = text(&case, "kind") == "status"
            && input["targetScalingEnabled"] == true
            && input["config"]
                .as_object()
                .is_some_and(serde_json::Map::is_empty)
            && names.len() == functions.len()
            && !functions.is_empty()
            && functions.iter().all(|f| match &f["target"] {
                Value::Number(target) => target.as_u64().is_some(),
                Value::String(error) => !error.contains("NotSupported"),
                _ => false,
            });
        if !comparable {
            continue;
        }
        ran += 1;
        let workers =
            u32::try_from(input["workerCount"].as_u64().expect("a count")).expect("small");
        let spec = GroupSpec {
            always_ready: 0,
            max_on_demand: u32::MAX,
            idle_window: std::time::Duration::ZERO,
            reading_max_age: GroupSpec::READING_MAX_AGE,
            paused: false,
            sources: names
                .iter()
                .map(|name| SourceSpec {
                    key: (*name).to_owned(),
                    function: (*name).to_owned(),
                    kind: SourceKind::StorageQueue {
                        target: NonZeroU32::MIN,
                    },
                    instance_cap: None,
                })
                .collect(),
        };
        let readings = functions.iter().map(|function| {
            let reading = match &function["target"] {
                Value::Number(target) => SourceReading::Backlog {
                    count: target.as_u64().expect("checked above"),
                    at: now.wall,
                    note: None,
                },
                error => SourceReading::Unknown {
                    error: error.to_string(),
                    since: now.wall,
                    last_good: None,
                },
            };
            (text(function, "functionId").to_owned(), reading)
        });
        let observed = GroupObservation {
            replicas: Some(workers),
            readings: readings.collect(),
        };
        let state = GroupState {
            desired: Some(workers),
            busy_at: None,
        };
        let (decision, _) = decide(&spec, &observed, &state, now);
        let original = case["expected"]["rounds"][0]["targetWorkerCount"].as_u64();
        let expected = if functions.iter().all(|f| f["target"].is_number()) {
            original
        } else {
            held += 1;
            all_failed += usize::from(original.is_none());
            Some(original.unwrap_or(0).max(u64::from(workers)))
        };
        if decision.desired.map(u64::from) != expected {
            differences.push(format!("{case}: {decision:?}"));
        }
    }
    assert!(held > 0 && all_failed > 0, "{held} {all_failed}");
    none_of(differences, ran);
}
