//! Group rule and function names against what the Azure Functions host answered.
//! `MANIPLE_VECTORS` names another folder of recordings of the same shape.

#![allow(
    clippy::unwrap_used,
    reason = "a recording that cannot be read must fail the test"
)]

use maniple_crds::function_app::Binding;
use maniple_crds::group::{group_of, trigger};
use serde_json::Value;
use std::path::PathBuf;

fn cases(file: &str) -> Vec<Value> {
    let folder = std::env::var_os("MANIPLE_VECTORS").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors")),
        PathBuf::from,
    );
    let path = folder.join(file);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let cases = serde_json::from_str::<Value>(&text).unwrap()["cases"]
        .as_array()
        .unwrap()
        .clone();
    assert!(!cases.is_empty(), "{} holds no cases", path.display());
    cases
}

#[test]
fn vectors_groups() {
    for case in cases("host/groups.json") {
        let bindings: Vec<Binding> = serde_json::from_value(case["bindings"].clone()).unwrap();
        let got = group_of(case["functionName"].as_str().unwrap(), &bindings);
        match case["group"].as_str() {
            Some(group) => assert_eq!(
                got.as_ref().map(ToString::to_string).as_deref(),
                Ok(group),
                "{case}"
            ),
            None => assert!(got.is_err() && case["error"].is_string(), "{case}"),
        }
        // Where the host itself threw there is no answer to compare with.
        if got.is_ok() && case["triggerTypeError"].is_null() {
            assert_eq!(
                trigger(&bindings).map(Binding::kind),
                case["triggerType"].as_str(),
                "{case}"
            );
        }
    }
}

#[test]
fn vectors_function_names() {
    // The rule that the API server checks, in the same words (crds/src/function_app/functions.rs).
    let valid = |name: &str| {
        let mut chars = name.chars();
        chars.next().is_some_and(|c| c.is_ascii_alphabetic())
            && chars.all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
            && !name.eq_ignore_ascii_case("host")
            && name.len() <= 128
    };
    for case in cases("host/function-names.json") {
        let name = case["name"].as_str().unwrap();
        // The host lets one trailing newline pass; ours does not, because names become parts of object names.
        let expected = case["valid"].as_bool().unwrap() && !name.ends_with('\n');
        assert_eq!(valid(name), expected, "{name:?}");
    }
}
