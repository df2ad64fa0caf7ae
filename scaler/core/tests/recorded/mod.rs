//! Reads recordings of the original code: inputs and what it answered.
#![allow(dead_code, reason = "each test binary uses its part of this")]

use std::path::PathBuf;

use serde_json::Value;

/// The cases of one file, from the folder named by `MANIPLE_VECTORS` or from the copies in this package.
pub(crate) fn cases(path: &str) -> Vec<Value> {
    let cases = whole(path)["cases"].as_array().expect("cases").clone();
    assert!(!cases.is_empty(), "{path} has cases");
    cases
}

/// The whole file.
pub(crate) fn whole(path: &str) -> Value {
    let folder = std::env::var_os("MANIPLE_VECTORS").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/vectors"),
        PathBuf::from,
    );
    let file = folder.join(path);
    let text = std::fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    serde_json::from_slice(&text).expect("the recording is JSON")
}

/// A member that must be a text.
pub(crate) fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name]
        .as_str()
        .unwrap_or_else(|| panic!("{name} is a text in {value}"))
}

/// Fails with every difference at once.
pub(crate) fn none_of(differences: Vec<String>, ran: usize) {
    assert!(ran > 0, "some case ran");
    assert!(
        differences.is_empty(),
        "{} of {ran} differ:\n{}",
        differences.len(),
        differences.join("\n")
    );
}
