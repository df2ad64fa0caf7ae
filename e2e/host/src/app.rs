//! The app that the stand-in plays: its functions with their bindings, and what each of them does.
//!
//! The definition is `STANDIN_FUNCTIONS` (JSON), else `app.json` in the script root (`AzureWebJobsScriptRoot`,
//! `/home/site/wwwroot`). Bindings are as in `function.json`.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use crate::environment::Environment;
use crate::work::WorkDescription;

/// Where an app lies when nothing else is said.
pub const DEFAULT_SCRIPT_ROOT: &str = "/home/site/wwwroot";

/// An app.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AppDefinition {
    /// All functions of the app, also those that this instance does not serve.
    pub functions: Vec<FunctionDefinition>,
    /// The language that `/admin/functions` reports.
    #[serde(default = "default_language")]
    pub language: String,
    /// host.json, when it is not a file of its own.
    #[serde(default)]
    pub host_json: Option<Value>,
}

fn default_language() -> String {
    "node".to_owned()
}

/// A function of an app.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FunctionDefinition {
    /// Letters, digits, `_` and `-`; begins with a letter.
    pub name: String,
    /// As in `function.json`.
    pub bindings: Vec<Value>,
    /// As in `function.json`.
    #[serde(default)]
    pub disabled: bool,
    /// What an invocation does.
    #[serde(default)]
    pub work: WorkDescription,
}

/// The app definition cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// A file could not be read.
    #[error("cannot read {path}: {source}; set STANDIN_FUNCTIONS or mount an app.json there")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The JSON has another shape.
    #[error(
        "{place} is not an app definition: {source}; it must be a list of functions or an object with functions"
    )]
    Json {
        /// The variable or file.
        place: String,
        /// Why.
        source: serde_json::Error,
    },
    /// Two functions of one name; names ignore case.
    #[error("{place} names the function {name} twice; give every function a name of its own")]
    Twice {
        /// The variable or file.
        place: String,
        /// The name.
        name: String,
    },
}

impl AppError {
    /// A stable name of the kind of error.
    pub fn category(&self) -> &'static str {
        match self {
            Self::Read { .. } => "app-unreadable",
            Self::Json { .. } => "app-malformed",
            Self::Twice { .. } => "app-duplicate-function",
        }
    }
}

/// The folder of the app.
pub fn script_root(environment: &Environment) -> PathBuf {
    environment
        .get("AzureWebJobsScriptRoot")
        .unwrap_or(DEFAULT_SCRIPT_ROOT)
        .into()
}

impl AppDefinition {
    /// Reads the definition that an environment names.
    pub fn load(environment: &Environment) -> Result<Self, AppError> {
        if let Some(text) = environment.get("STANDIN_FUNCTIONS") {
            return Self::parse(text, "STANDIN_FUNCTIONS");
        }
        let path = script_root(environment).join("app.json");
        let text = std::fs::read_to_string(&path).map_err(|source| AppError::Read {
            path: path.clone(),
            source,
        })?;
        Self::parse(&text, &path.display().to_string())
    }

    /// Reads a definition from JSON: the whole object, or only the list of functions.
    pub fn parse(text: &str, place: &str) -> Result<Self, AppError> {
        let json = |source| AppError::Json {
            place: place.to_owned(),
            source,
        };
        let app = if text.trim_start().starts_with('[') {
            Self {
                functions: serde_json::from_str(text).map_err(json)?,
                language: default_language(),
                host_json: None,
            }
        } else {
            serde_json::from_str::<Self>(text).map_err(json)?
        };
        for (at, function) in app.functions.iter().enumerate() {
            let twice = app.functions[..at]
                .iter()
                .any(|other| other.name.eq_ignore_ascii_case(&function.name));
            if twice {
                return Err(AppError::Twice {
                    place: place.to_owned(),
                    name: function.name.clone(),
                });
            }
        }
        Ok(app)
    }
}

/// The text of host.json beside the app: `STANDIN_HOST_JSON`, else the file, else nothing.
pub fn host_json_text(environment: &Environment, script_root: &Path) -> Option<String> {
    environment
        .get("STANDIN_HOST_JSON")
        .map(str::to_owned)
        .or_else(|| std::fs::read_to_string(script_root.join("host.json")).ok())
}
