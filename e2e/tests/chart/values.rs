//! values.yaml, its schema and the table in README.md say the same.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde_json::{Map, Value};

use crate::document::{assert_section, read};

/// What a `# -- text` comment in values.yaml says about the value below it.
struct Documented {
    path: Vec<String>,
    text: String,
}

/// Reads the comments of values.yaml. Values below a described one belong to it.
fn documented(text: &str) -> Vec<Documented> {
    let mut found: Vec<Documented> = Vec::new();
    let mut open: Vec<(usize, String)> = Vec::new();
    let mut comment: Option<String> = None;
    let mut inside: Option<usize> = None;
    for line in text.lines() {
        let trimmed = line.trim_start();
        let indent = line.len() - trimmed.len();
        if let Some(said) = trimmed.strip_prefix("# -- ") {
            comment = Some(said.to_owned());
            continue;
        }
        if let Some(more) = trimmed.strip_prefix("# ") {
            if let Some(comment) = &mut comment {
                comment.push(' ');
                comment.push_str(more);
            }
            continue;
        }
        if trimmed.is_empty() {
            assert!(
                comment.is_none(),
                "a comment describes nothing: {comment:?}"
            );
            continue;
        }
        if inside.is_some_and(|outer| indent > outer) {
            assert!(comment.is_none(), "{line}: its parent is described already");
            continue;
        }
        inside = None;
        let (key, _) = trimmed
            .split_once(':')
            .unwrap_or_else(|| panic!("not a key: {line}"));
        open.retain(|(depth, _)| *depth < indent);
        open.push((indent, key.to_owned()));
        if let Some(text) = comment.take() {
            found.push(Documented {
                path: open.iter().map(|(_, key)| key.clone()).collect(),
                text,
            });
            inside = Some(indent);
        }
    }
    found
}

fn defaults() -> Value {
    serde_saphyr::from_str(&read("charts/maniple/values.yaml")).expect("values.yaml is YAML")
}

fn schema() -> Value {
    serde_json::from_str(&read("charts/maniple/values.schema.json")).expect("the schema is JSON")
}

#[test]
fn every_value_is_described_and_the_readme_lists_all() {
    let described = documented(&read("charts/maniple/values.yaml"));
    let mut left = defaults();
    let mut table = String::from("\n| value | default | meaning |\n|---|---|---|\n");
    for Documented { path, text } in &described {
        let pointer = format!("/{}", path.join("/"));
        let default = left
            .pointer_mut(&pointer)
            .unwrap_or_else(|| panic!("{pointer} is described but not there"))
            .take();
        let text = text.replace('|', "\\|");
        writeln!(table, "| `{}` | `{default}` | {text} |", path.join("."))
            .expect("writing to a String does not fail");
    }
    table.push('\n');
    // What was described is null by now; the rest must be the groups around it.
    assert_eq!(undescribed(&left, ""), Vec::<String>::new());
    assert_section("charts/maniple/README.md", "values", &table);
}

fn undescribed(value: &Value, path: &str) -> Vec<String> {
    match value {
        Value::Null => Vec::new(),
        Value::Object(fields) if !fields.is_empty() => fields
            .iter()
            .flat_map(|(key, value)| undescribed(value, &format!("{path}.{key}")))
            .collect(),
        _ => vec![path.to_owned()],
    }
}

#[test]
fn the_schema_knows_exactly_the_values() {
    let schema = schema();
    let described: BTreeSet<String> = documented(&read("charts/maniple/values.yaml"))
        .into_iter()
        .map(|d| format!(".{}", d.path.join(".")))
        .collect();
    compare(&schema, &schema, &defaults(), "", &described);
}

/// Groups of values have the same names in both; described values end the comparison.
fn compare(root: &Value, schema: &Value, value: &Value, path: &str, described: &BTreeSet<String>) {
    if described.contains(path) {
        return;
    }
    let known = resolve(root, schema)["properties"]
        .as_object()
        .unwrap_or_else(|| panic!("{path} has no properties in the schema"));
    let values = value
        .as_object()
        .unwrap_or_else(|| panic!("{path} is no group"));
    let names = |fields: &Map<String, Value>| -> Vec<String> {
        // Helm adds `global` when the chart is part of another one.
        fields
            .keys()
            .filter(|k| !(path.is_empty() && *k == "global"))
            .cloned()
            .collect()
    };
    let (mut known_names, mut value_names) = (names(known), names(values));
    known_names.sort();
    value_names.sort();
    assert_eq!(known_names, value_names, "names below `{path}`");
    for (key, value) in values {
        compare(
            root,
            &known[key],
            value,
            &format!("{path}.{key}"),
            described,
        );
    }
}

fn resolve<'a>(root: &'a Value, schema: &'a Value) -> &'a Value {
    match schema["$ref"].as_str() {
        Some(reference) => root
            .pointer(reference.trim_start_matches('#'))
            .unwrap_or_else(|| panic!("{reference} leads nowhere")),
        None => schema,
    }
}

#[test]
fn the_schema_is_closed() {
    let mut open = Vec::new();
    look_for_open(&schema(), "", &mut open);
    assert_eq!(
        open,
        Vec::<String>::new(),
        "objects that take unknown names"
    );
}

/// Every object names its fields and takes no others, or is a map with values of one type. Objects without either are
/// those that the API server checks.
fn look_for_open(schema: &Value, path: &str, open: &mut Vec<String>) {
    const CHECKED_BY_THE_SERVER: [&str; 8] = [
        "/properties/global",
        "/definitions/affinity/properties/nodeAffinity",
        "/definitions/affinity/properties/podAffinity",
        "/definitions/affinity/properties/podAntiAffinity",
        "/definitions/environmentVariable/properties/valueFrom/properties/secretKeyRef",
        "/definitions/environmentVariable/properties/valueFrom/properties/configMapKeyRef",
        "/definitions/environmentVariable/properties/valueFrom/properties/fieldRef",
        "/definitions/environmentVariable/properties/valueFrom/properties/resourceFieldRef",
    ];
    match schema {
        Value::Object(fields) => {
            if fields.get("type") == Some(&Value::from("object")) {
                let additional = fields.get("additionalProperties");
                let closed = match additional {
                    Some(Value::Bool(false)) => fields.contains_key("properties"),
                    Some(Value::Object(each)) => each.contains_key("type"),
                    _ => false,
                };
                if !closed && !CHECKED_BY_THE_SERVER.contains(&path) {
                    open.push(path.to_owned());
                }
            }
            for (key, value) in fields {
                look_for_open(value, &format!("{path}/{key}"), open);
            }
        }
        Value::Array(items) => {
            for (index, value) in items.iter().enumerate() {
                look_for_open(value, &format!("{path}/{index}"), open);
            }
        }
        _ => {}
    }
}

#[test]
fn the_chart_carries_the_generated_definitions() {
    for entry in
        std::fs::read_dir(crate::document::file("crds/generated")).expect("the folder exists")
    {
        let name = entry.expect("it can be read").file_name();
        let name = name.to_string_lossy();
        assert_eq!(
            read(&format!("charts/maniple/files/crds/{name}")),
            read(&format!("crds/generated/{name}")),
            "{name}"
        );
    }
}

#[test]
fn guides_set_only_values_that_exist() {
    let defaults = defaults();
    let mut seen = 0;
    for guide in [
        "charts/maniple/README.md",
        "docs/install.md",
        "docs/security.md",
    ] {
        let text = read(guide);
        for assignment in text.split("--set ").skip(1) {
            let (name, _) = assignment
                .trim_start_matches('\'')
                .split_once('=')
                .unwrap_or_else(|| panic!("{guide}: --set without a value"));
            let group = name.split('[').next().unwrap_or(name).replace('.', "/");
            assert!(
                defaults.pointer(&format!("/{group}")).is_some(),
                "{guide}: {name}"
            );
            seen += 1;
        }
    }
    assert!(seen >= 5, "{seen}");
}

#[test]
fn comments_are_read_with_their_paths() {
    let found = documented(
        "# title\n\n# -- one\n# more\na: 1\nb:\n  # -- two\n  c:\n    d: 1\n  # -- three\n  e: []\n",
    );
    let seen: Vec<(String, &str)> = found
        .iter()
        .map(|d| (d.path.join("."), d.text.as_str()))
        .collect();
    assert_eq!(
        seen,
        [
            ("a".to_owned(), "one more"),
            ("b.c".to_owned(), "two"),
            ("b.e".to_owned(), "three")
        ]
    );
}
