//! The documents agree with the code: every reason, metric, field, library and link. No cluster is needed.

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Files below a folder with this ending, without build results and hidden folders.
fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("the repository can be read") {
        let path = entry.expect("the repository can be read").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_dir() && !name.starts_with('.') && name != "target" {
            found.extend(files(&path, ending));
        } else if name.ends_with(ending) {
            found.push(path);
        }
    }
    found.sort_unstable();
    found
}

/// The pieces of a text between backticks.
fn code_spans(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// Rows of all tables: header of the first column, code in the first cell, whole row.
struct Row<'a> {
    header: &'a str,
    words: Vec<&'a str>,
    text: &'a str,
}

fn rows(document: &str) -> Vec<Row<'_>> {
    let mut rows = Vec::new();
    let mut header = None;
    for line in document.lines() {
        let Some(first) = line.strip_prefix('|').and_then(|l| l.split('|').next()) else {
            header = None;
            continue;
        };
        match header {
            None => header = Some(first.trim()),
            Some(_) if first.starts_with("---") => {}
            Some(header) => rows.push(Row {
                header,
                words: code_spans(first),
                text: line,
            }),
        }
    }
    rows
}

fn documented(document: &str) -> BTreeSet<&str> {
    rows(document).into_iter().flat_map(|r| r.words).collect()
}

/// Text between two marks.
fn between<'a>(text: &'a str, begin: &str, end: &str) -> Option<&'a str> {
    let rest = &text[text.find(begin)? + begin.len()..];
    Some(&rest[..rest.find(end)?])
}

#[test]
fn every_reason_is_documented_and_every_documented_one_exists() {
    let conditions = read("docs/conditions.md");
    let documented = documented(&conditions);
    let constants = read("crds/src/reasons.rs");
    let decisions = read("scaler/core/src/decision/outcome.rs");
    let declared: BTreeSet<&str> = constants
        .lines()
        .filter_map(|line| between(line, ": &str = \"", "\";"))
        .chain(
            decisions
                .lines()
                .filter_map(|line| between(line, " => \"", "\",")),
        )
        .collect();
    assert!(
        declared.len() > 30,
        "the sources are not read: {declared:?}"
    );
    let missing: Vec<_> = declared.difference(&documented).collect();
    assert!(missing.is_empty(), "not in docs/conditions.md: {missing:?}");
    let stale: Vec<_> = documented
        .iter()
        .filter(|word| word.starts_with(|c: char| c.is_ascii_uppercase()))
        .filter(|word| !declared.contains(*word))
        .collect();
    assert!(stale.is_empty(), "in docs/conditions.md only: {stale:?}");
}

/// Names under which the metrics of a source file may be scraped; each metric is one set of spellings.
fn registered(source: &str) -> Vec<[String; 3]> {
    // Unit tests register metrics of their own.
    let source = source.split("#[cfg(test)]").next().unwrap_or_default();
    let mut found = Vec::new();
    let mut prefix = String::new();
    let calls = [
        "register(",
        "register_with_unit(",
        "encode_descriptor(",
        "sub_registry_with_prefix(",
    ];
    for (at, _) in source.match_indices('(') {
        let Some(call) = calls.iter().find(|c| source[..=at].ends_with(*c)) else {
            continue;
        };
        let arguments = source[at + 1..].trim_start();
        let Some(name) = arguments
            .strip_prefix('"')
            .and_then(|rest| rest.split('"').next())
        else {
            continue;
        };
        if *call == "sub_registry_with_prefix(" {
            prefix = format!("{name}_");
            continue;
        }
        let unit = match *call {
            "register_with_unit(" => "_seconds",
            _ => "",
        };
        let own = if name.starts_with("process_") {
            ""
        } else {
            "maniple_"
        };
        let base = format!("{own}{prefix}{name}{unit}");
        // The client adds the endings of counters and of information.
        found.push([
            base.clone(),
            format!("{base}_total"),
            format!("{base}_info"),
        ]);
    }
    found
}

#[test]
fn every_metric_is_documented_and_every_documented_one_exists() {
    let metrics = read("docs/metrics.md");
    let documented: BTreeSet<&str> = documented(&metrics)
        .into_iter()
        .filter(|word| word.starts_with("maniple_") || word.starts_with("process_"))
        .collect();
    let mut spellings = BTreeSet::new();
    let mut missing = Vec::new();
    for file in ["operator", "scaler"]
        .iter()
        .flat_map(|folder| files(&root().join(folder), ".rs"))
        .filter(|file| file.components().any(|part| part.as_os_str() == "src"))
    {
        let source = fs::read_to_string(&file).expect("the repository can be read");
        for names in registered(&source) {
            if !names.iter().any(|name| documented.contains(name.as_str())) {
                missing.push(names[0].clone());
            }
            spellings.extend(names);
        }
    }
    assert!(
        spellings.len() > 60,
        "the sources are not read: {spellings:?}"
    );
    assert!(missing.is_empty(), "not in docs/metrics.md: {missing:?}");
    let stale: Vec<_> = documented
        .iter()
        .filter(|name| !spellings.contains(**name))
        .collect();
    assert!(stale.is_empty(), "in docs/metrics.md only: {stale:?}");
}

#[test]
fn every_answer_of_the_front_end_is_documented_and_every_documented_one_exists() {
    let document = read("docs/http.md");
    let documented: BTreeSet<&str> = rows(&document)
        .into_iter()
        .filter(|row| row.header == "reason")
        .flat_map(|row| row.words)
        .collect();
    let sources = [
        "scaler/front/src/check.rs",
        "scaler/front/src/pool/group.rs",
        "scaler/front/src/proxy/attempts.rs",
        "scaler/front/src/routes.rs",
    ];
    let sources: String = sources.into_iter().map(read).collect();
    let declared: BTreeSet<&str> = sources
        .lines()
        .filter_map(|line| between(line, " => \"", "\","))
        .collect();
    assert!(
        declared.len() > 15,
        "the sources are not read: {declared:?}"
    );
    let different: Vec<_> = declared.symmetric_difference(&documented).collect();
    assert!(
        different.is_empty(),
        "only in the sources or only in docs/http.md: {different:?}"
    );
}

/// Every field below a schema with its path, such as `functions[].name`.
fn fields<'a>(schema: &'a Value, path: &str, found: &mut BTreeMap<String, &'a Value>) {
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let path = match path {
            "" => name.clone(),
            path => format!("{path}.{name}"),
        };
        fields(field, &path, found);
        fields(&field["items"], &format!("{path}[]"), found);
        found.insert(path, field);
    }
}

fn crd_fields(part: &str, found: impl FnOnce(BTreeMap<String, &Value>)) {
    let text = read("crds/generated/maniple.dev_functionapps.yaml");
    let crd: Value = serde_saphyr::from_str(&text).expect("the CRD is YAML");
    let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"][part];
    let mut all = BTreeMap::new();
    fields(schema, "", &mut all);
    assert!(all.len() > 15, "the CRD is not read: {all:?}");
    found(all);
}

/// What the row of a field must say: default, allowed values and limits.
fn facts(field: &Value) -> Vec<String> {
    let mut facts = Vec::new();
    match &field["default"] {
        Value::String(text) if !text.is_empty() => facts.push(format!("`{text}`")),
        Value::Number(number) => facts.push(format!("`{number}`")),
        Value::Bool(flag) => facts.push(format!("`{flag}`")),
        _ => {}
    }
    let values = field["enum"].as_array().into_iter().flatten();
    facts.extend(values.filter_map(|v| Some(format!("`{}`", v.as_str()?))));
    for limit in ["minimum", "maximum", "maxLength", "maxItems"] {
        if let Some(number) = field[limit].as_f64() {
            facts.push(number.to_string());
        }
    }
    facts
}

#[test]
fn every_field_of_the_spec_is_documented_with_its_default_values_and_limits() {
    let document = read("docs/function-app.md");
    let rows: Vec<Row<'_>> = rows(&document)
        .into_iter()
        .filter(|row| row.header == "field")
        .collect();
    crd_fields("spec", |fields| {
        for (path, field) in &fields {
            let row = rows
                .iter()
                .find(|row| row.words.contains(&path.as_str()))
                .unwrap_or_else(|| panic!("docs/function-app.md has no row for `{path}`"));
            for fact in facts(field) {
                assert!(
                    row.text.contains(&fact),
                    "docs/function-app.md, `{path}`: {fact} is missing in: {}",
                    row.text
                );
            }
        }
        let stale: Vec<_> = rows
            .iter()
            .flat_map(|row| &row.words)
            .filter(|word| !fields.contains_key(**word) && !word.starts_with("metadata."))
            .collect();
        assert!(stale.is_empty(), "in docs/function-app.md only: {stale:?}");
    });
}

#[test]
fn every_field_of_the_status_is_documented() {
    let document = read("docs/conditions.md");
    let documented: BTreeSet<&str> = rows(&document)
        .into_iter()
        .filter(|row| row.header == "field")
        .flat_map(|row| row.words)
        .collect();
    crd_fields("status", |fields| {
        let declared: BTreeSet<&str> = fields.keys().map(String::as_str).collect();
        let different: Vec<_> = declared.symmetric_difference(&documented).collect();
        assert!(
            different.is_empty(),
            "only in the CRD or only in docs/conditions.md: {different:?}"
        );
    });
}

#[test]
fn every_library_has_its_reason() {
    let manifest = read("Cargo.toml");
    let libraries = between(&manifest, "[workspace.dependencies]", "\n[").expect("the section");
    let decision = read("docs/adr/0002-libraries.md");
    let documented = documented(&decision);
    let names: BTreeSet<&str> = libraries
        .lines()
        .filter_map(|line| Some(line.split_once(" = ")?.0))
        .filter(|name| !name.starts_with("maniple-"))
        .collect();
    assert!(names.len() > 40, "Cargo.toml is not read: {names:?}");
    let missing: Vec<_> = names.difference(&documented).collect();
    assert!(
        missing.is_empty(),
        "not in docs/adr/0002-libraries.md: {missing:?}"
    );
}

/// Prose of a document: no fenced code and no code spans, where brackets mean something else.
fn prose(document: &str) -> String {
    let mut text = String::new();
    let mut fenced = false;
    for line in document.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            text.extend(line.split('`').step_by(2));
            text.push('\n');
        }
    }
    text
}

/// Anchors of the headings, as the usual renderers make them.
fn anchors(document: &str) -> BTreeSet<String> {
    document
        .lines()
        .filter(|line| line.starts_with('#'))
        .map(|line| {
            line.trim_start_matches('#')
                .trim()
                .chars()
                .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
                .map(|c| match c {
                    ' ' => '-',
                    c => c.to_ascii_lowercase(),
                })
                .collect()
        })
        .collect()
}

#[test]
fn every_relative_link_leads_somewhere() {
    let mut checked = 0;
    let mut broken = Vec::new();
    for file in files(&root(), ".md") {
        let document = fs::read_to_string(&file).expect("the repository can be read");
        let prose = prose(&document);
        for target in prose
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next())
            .filter(|target| !target.contains("://") && !target.starts_with("mailto:"))
        {
            checked += 1;
            let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
            let place = match path {
                "" => file.clone(),
                path => file.with_file_name("").join(path),
            };
            let found = match (place.exists(), anchor) {
                (exists, "") => exists,
                (false, _) => false,
                (true, anchor) => {
                    fs::read_to_string(&place).is_ok_and(|text| anchors(&text).contains(anchor))
                }
            };
            if !found {
                broken.push(format!("{}: {target}", file.display()));
            }
        }
    }
    assert!(checked > 50, "the documents are not read: {checked} links");
    assert!(broken.is_empty(), "links that lead nowhere: {broken:#?}");
}

#[test]
fn every_make_target_that_is_named_exists() {
    let makefile = read("Makefile");
    let targets: BTreeSet<&str> = makefile
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(name, _)| name)
        .collect();
    let mut unknown = Vec::new();
    for file in files(&root(), ".md") {
        let document = fs::read_to_string(&file).expect("the repository can be read");
        let lines = document
            .lines()
            .filter_map(|line| line.strip_prefix("make "));
        let spans = code_spans(&document)
            .into_iter()
            .filter_map(|span| span.strip_prefix("make "));
        for target in lines.chain(spans).filter_map(|rest| rest.split(' ').next()) {
            if !targets.contains(target) {
                unknown.push(format!("{}: make {target}", file.display()));
            }
        }
    }
    assert!(unknown.is_empty(), "not in the Makefile: {unknown:#?}");
}

#[test]
fn decisions_have_numbers_of_their_own() {
    let mut numbers = BTreeMap::new();
    for file in files(&root().join("docs/adr"), ".md") {
        let name = file
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let Some(number) = name
            .get(..4)
            .filter(|n| n.bytes().all(|b| b.is_ascii_digit()))
        else {
            assert_eq!(
                name, "README.md",
                "a decision's name begins with four digits"
            );
            continue;
        };
        if let Some(other) = numbers.insert(number.to_owned(), name.clone()) {
            panic!("{name} and {other} have the same number");
        }
    }
    assert!(numbers.len() >= 10, "{numbers:?}");
}
