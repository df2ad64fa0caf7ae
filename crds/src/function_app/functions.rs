//! Functions, their bindings, and the parts of `host.json` that set targets.

use crate::schema;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// One function of the app.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
pub struct Function {
    /// Name: letters, digits, `_` and `-`, beginning with a letter; not `host`. Two names may not differ only in letter case.
    #[schemars(length(min = 1, max = 128))]
    #[x_kube(validation = Rule::new("self.matches('^[a-zA-Z][a-zA-Z0-9_-]*$') && !self.matches('^(?i)host$')").message(
        "functions[].name must begin with a letter, hold only letters, digits, '_' and '-', and not be 'host'"
    ))]
    pub name: String,

    /// A disabled function has no listener and does not scale, as `disabled` in `function.json`.
    #[serde(default)]
    pub disabled: bool,

    /// Bindings as in `function.json`; the first trigger among the inputs decides the group.
    #[schemars(length(min = 1, max = 32))]
    pub bindings: Vec<Binding>,
}

/// One binding as in `function.json`. Property names are looked up without regard to letter case, as the host does.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Binding(pub Map<String, Value>);

impl JsonSchema for Binding {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Binding".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schema::binding(generator)
    }

    fn inline_schema() -> bool {
        true
    }
}

impl Binding {
    /// A property by name, in any letter case; an exact match wins.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name).or_else(|| {
            self.0
                .iter()
                .find(|(k, _)| k.eq_ignore_ascii_case(name))
                .map(|(_, v)| v)
        })
    }

    /// A property that is text.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.get(name).and_then(Value::as_str)
    }

    /// `type`, empty when missing.
    pub fn kind(&self) -> &str {
        self.text("type").unwrap_or_default()
    }

    /// True when `type` ends in `Trigger`, in any letter case.
    pub fn is_trigger(&self) -> bool {
        let kind = self.kind().as_bytes();
        kind.len() >= 7 && kind[kind.len() - 7..].eq_ignore_ascii_case(b"trigger")
    }
}

/// Parts of `host.json` that set scaling targets.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct HostConfig {
    /// `extensions` of `host.json`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::free_object")]
    pub extensions: Option<Map<String, Value>>,

    /// `concurrency` of `host.json` (dynamic concurrency).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::free_object")]
    pub concurrency: Option<Map<String, Value>>,

    /// `functionTimeout` of `host.json`: `hh:mm:ss`, or `-1` for none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub function_timeout: Option<String>,

    /// Which value counts where the running host reports another one. Hosts are not asked yet: what is declared here counts.
    pub precedence: HostConfigPrecedence,
}

/// Which value counts where the running host reports another one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum HostConfigPrecedence {
    /// What the host reports.
    #[default]
    Discovered,
    /// What is declared here.
    Declared,
}
