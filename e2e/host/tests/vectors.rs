//! Table tests over answers that were recorded from the real host.
//!
//! `MANIPLE_VECTORS` names a folder with other recordings of the same shape; without it the copies beside this
//! file are read.

#![allow(clippy::unwrap_used, reason = "a test says what is wrong by failing")]

use std::path::PathBuf;

use function_host_standin::auth::{encryption_key, key_bytes};
use function_host_standin::environment::Environment;
use function_host_standin::function::is_valid_name;
use function_host_standin::group;
use function_host_standin::hex;
use function_host_standin::host_id::{HostId, host_id, primary_lock_owner, stable_hash};
use function_host_standin::settings::Settings;
use serde_json::Value;

fn cases(file: &str) -> (Value, Vec<Value>) {
    let folder = std::env::var_os("MANIPLE_VECTORS").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/vectors"),
        PathBuf::from,
    );
    let path = folder.join("host").join(file);
    let text = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let document: Value = serde_json::from_str(&text).unwrap();
    let cases = document["cases"].as_array().unwrap().clone();
    assert!(!cases.is_empty(), "{file} has no cases");
    (document, cases)
}

fn environment(case: &Value) -> Environment {
    Environment::from_pairs(
        case["env"]
            .as_object()
            .unwrap()
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str().unwrap())),
    )
}

#[test]
fn vectors_environment_kinds() {
    for case in cases("environment-kinds.json").1 {
        let read = environment(&case);
        let expected = &case["expected"];
        for (name, value) in [
            ("flexConsumption", read.is_flex_consumption()),
            ("anyLinuxConsumption", read.is_any_linux_consumption()),
            (
                "linuxConsumptionOnAtlas",
                read.is_linux_consumption_on_atlas(),
            ),
            ("kubernetesManaged", read.is_kubernetes_managed()),
            ("managedAppEnvironment", read.is_managed_app_environment()),
            ("appService", read.is_app_service()),
            ("drainOnSigterm", read.drains_on_sigterm()),
            ("runtimeScaleMonitoring", read.is_runtime_scale_monitoring()),
            ("adminIsolation", read.is_admin_isolated()),
            ("containerReady", read.is_container_ready()),
            ("placeholder", read.is_placeholder()),
            ("syncTriggersAllowed", read.is_sync_triggers_allowed()),
            ("groupFilterActive", read.is_group_filter_active()),
        ] {
            assert_eq!(
                expected[name].as_bool(),
                Some(value),
                "{name}: {}",
                case["note"]
            );
        }
        assert_eq!(
            expected["targetGroup"].as_str(),
            read.target_group(),
            "{}",
            case["note"]
        );
    }
}

#[test]
fn vectors_host_id() {
    for case in cases("host-id.json").1 {
        let id = host_id(&environment(&case), "pod-1", "/home/site/wwwroot");
        if case["isLocal"].as_bool() == Some(true) {
            let hash = i64::from(stable_hash("/home/site/wwwroot")).abs();
            assert_eq!(
                id,
                HostId::Local(format!("pod1-{hash}")),
                "{}",
                case["note"]
            );
        } else {
            assert_eq!(case["hostId"].as_str(), id.text(), "{}", case["note"]);
        }
    }
}

#[test]
fn vectors_stable_hash() {
    for case in cases("stable-hash.json").1 {
        let text = case["text"].as_str().unwrap();
        assert_eq!(
            case["stableHash"].as_i64(),
            Some(i64::from(stable_hash(text))),
            "{text}"
        );
        assert_eq!(
            case["primaryLockInstanceId"].as_str(),
            Some(primary_lock_owner(text).as_str()),
            "{text}"
        );
    }
}

#[test]
fn vectors_key_bytes() {
    for case in cases("key-bytes.json").1 {
        let text = case["text"].as_str().unwrap();
        match case["error"].as_str() {
            Some(_) => assert!(key_bytes(text).is_err(), "{text}"),
            None => assert_eq!(
                case["hex"].as_str().unwrap(),
                hex::encode(&key_bytes(text).unwrap()),
                "{text}"
            ),
        }
    }
}

#[test]
fn vectors_encryption_key_choice() {
    for case in cases("encryption-key-choice.json").1 {
        let environment = environment(&case);
        assert_eq!(
            case["key"].as_str(),
            encryption_key(&environment),
            "{}",
            case["note"]
        );
    }
}

#[test]
fn vectors_name_resolution() {
    let (document, cases) = cases("name-resolution.json");
    let settings = Settings::from_pairs(
        document["settings"]
            .as_object()
            .unwrap()
            .iter()
            .map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned())),
    );
    for case in cases {
        let text = case["text"].as_str().unwrap();
        match settings.resolve(text) {
            Ok(resolved) => {
                assert_eq!(case["resolved"].as_str(), Some(resolved.as_str()), "{text}");
            }
            Err(error) => assert_eq!(
                case["error"].as_str(),
                Some(error.to_string().as_str()),
                "{text}"
            ),
        }
    }
}

#[test]
fn vectors_groups() {
    for case in cases("groups.json").1 {
        let name = case["functionName"].as_str().unwrap();
        let bindings = case["bindings"].as_array().unwrap();
        let group = group::group_of(name, bindings);
        if let Some(error) = case["error"].as_str() {
            assert!(error.ends_with(&group.unwrap_err().to_string()), "{name}");
            continue;
        }
        let group = group.unwrap();
        assert_eq!(case["group"].as_str(), Some(group.as_str()), "{name}");
        // A binding without a type makes the original throw; here it is no trigger.
        if case["triggerTypeError"].is_null() {
            let trigger = group::trigger(bindings).and_then(|binding| group::text(binding, "type"));
            assert_eq!(case["triggerType"].as_str(), trigger, "{name}");
        }
        let sync = group::sync_trigger(bindings).and_then(|binding| group::text(binding, "type"));
        assert_eq!(case["syncTrigger"]["type"].as_str(), sync, "{name}");
        for (target, starts) in case["listenerStartsWhenTargetGroupIs"].as_object().unwrap() {
            assert_eq!(
                starts.as_bool(),
                Some(group::is_started(&group, target)),
                "{name} {target}"
            );
        }
    }
}

#[test]
fn vectors_function_names() {
    for case in cases("function-names.json").1 {
        let name = case["name"].as_str().unwrap();
        // The host lets a trailing line feed pass; a name with one can be no part of any address.
        let expected = case["valid"].as_bool() == Some(true) && !name.ends_with('\n');
        assert_eq!(is_valid_name(name), expected, "{name:?}");
    }
}
