//! Parts of documents that are made from the chart.

use std::fs;
use std::path::{Path, PathBuf};

/// A file of the repository.
pub(crate) fn file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// Text of a file of the repository.
pub(crate) fn read(path: &str) -> String {
    fs::read_to_string(file(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Fails unless the lines between `<!-- name: … -->` and `<!-- end of name -->` are `expected`. With `MANIPLE_REGENERATE=1`
/// they are written instead.
pub(crate) fn assert_section(path: &str, name: &str, expected: &str) {
    let text = read(path);
    let begin = text
        .find(&format!("<!-- {name}: "))
        .and_then(|at| Some(at + text[at..].find("-->\n")? + 4))
        .unwrap_or_else(|| panic!("{path} has no section {name}"));
    let end = text
        .find(&format!("<!-- end of {name} -->"))
        .unwrap_or_else(|| panic!("{path}: section {name} does not end"));
    if std::env::var_os("MANIPLE_REGENERATE").is_some() {
        let new = format!("{}{expected}{}", &text[..begin], &text[end..]);
        fs::write(file(path), new).unwrap_or_else(|error| panic!("{path}: {error}"));
        return;
    }
    assert!(
        text[begin..end] == *expected,
        "section {name} of {path} is stale: run MANIPLE_REGENERATE=1 cargo test -p e2e --features helm --test chart"
    );
}
