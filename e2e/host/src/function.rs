//! A function of the app as this instance sees it: what it is bound to, whether it is served, what is wrong with it.

use maniple_core::timer::Schedule;
use serde_json::{Value, json};

use crate::app::FunctionDefinition;
use crate::environment::Environment;
use crate::group;
use crate::host_json::HostJson;
use crate::http::route::RouteTemplate;
use crate::settings::Settings;
use crate::work::WorkDescription;

/// A function.
#[derive(Debug)]
pub struct Function {
    /// Its name.
    pub name: String,
    /// As in `function.json`, unresolved.
    pub bindings: Vec<Value>,
    /// Its group, as in Flex mode.
    pub group: String,
    /// Loaded by this instance. The others are listed by `/admin/functions` and answer 404.
    pub is_loaded: bool,
    /// Disabled by definition or app setting: no listener, no route; a manual run works.
    pub is_disabled: bool,
    /// Its listener starts on this instance.
    pub is_listening: bool,
    /// What is wrong with it; a function with indexing errors does not run.
    pub errors: Vec<String>,
    /// What starts it.
    pub trigger: Trigger,
    /// What an invocation does.
    pub work: WorkDescription,
}

/// What starts a function, with resolved texts.
#[derive(Debug, Clone)]
pub enum Trigger {
    /// A request.
    Http(HttpTrigger),
    /// A message of a storage queue.
    Queue {
        /// Lower-case name.
        queue: String,
        /// Name of the connection setting.
        connection: String,
    },
    /// A schedule.
    Timer {
        /// When it runs.
        schedule: Schedule,
        /// Keep the status in a blob, as the definition says.
        use_monitor: bool,
        /// Run when the listener starts.
        run_on_startup: bool,
    },
    /// Anything that the stand-in does not listen to, or a function with errors.
    Other,
}

/// An HTTP trigger.
#[derive(Debug, Clone)]
pub struct HttpTrigger {
    /// The route below the prefix.
    pub route: RouteTemplate,
    /// Upper-case methods; empty: every method.
    pub methods: Vec<String>,
    /// "anonymous", "function" (default) or "admin".
    pub auth_level: String,
}

/// What decides how functions of an app look on this instance.
#[derive(Debug, Clone, Copy)]
pub struct Scope<'a> {
    /// The kind of environment.
    pub environment: &'a Environment,
    /// App settings.
    pub settings: &'a Settings,
    /// The effective host.json.
    pub host_json: &'a HostJson,
}

impl Function {
    /// Looks at a definition.
    pub fn new(definition: &FunctionDefinition, scope: Scope<'_>) -> Self {
        let name = definition.name.clone();
        let mut errors = Vec::new();
        let mut is_loaded = scope.host_json.functions().is_none_or(|names| {
            names
                .iter()
                .any(|loaded| loaded.eq_ignore_ascii_case(&name))
        });
        if !is_valid_name(&name) {
            errors.push(format!("'{name}' is not a valid function name."));
            is_loaded = false;
        }
        let group = group::group_of(&name, &definition.bindings).unwrap_or_else(|error| {
            errors.push(error.to_string());
            format!("function:{name}")
        });
        if scope.environment.is_flex_consumption() && is_polling_blob(&definition.bindings) {
            errors.push(format!(
                "The Flex Consumption SKU only supports EventGrid as the source for BlobTrigger functions. \
                 Please update function '{name}' to use EventGrid."
            ));
        }
        let is_disabled = definition.disabled || is_disabled_by_setting(&name, scope.settings);
        let trigger = match group::trigger(&definition.bindings) {
            Some(binding) => trigger_of(&name, binding, scope.settings).unwrap_or_else(|error| {
                errors.push(format!(
                    "Microsoft.Azure.WebJobs.Host: Error indexing method 'Functions.{name}'. {error}"
                ));
                Trigger::Other
            }),
            None => Trigger::Other,
        };
        let is_in_group = !scope.environment.is_group_filter_active()
            || scope
                .environment
                .target_group()
                .is_some_and(|target| group::is_started(&group, target));
        Self {
            is_listening: is_loaded && !is_disabled && errors.is_empty() && is_in_group,
            bindings: definition.bindings.clone(),
            work: definition.work.clone(),
            name,
            group,
            is_loaded,
            is_disabled,
            errors,
            trigger,
        }
    }

    /// Answers requests to its route. Flex groups filter listeners only, never routes.
    pub fn is_routed(&self) -> bool {
        self.is_loaded && !self.is_disabled && self.errors.is_empty()
    }

    /// Adds an error that the failure mode asks for.
    pub fn fail(&mut self, error: String) {
        self.errors.push(error);
        self.is_listening = false;
    }

    /// The element of `/admin/functions`.
    pub fn metadata(
        &self,
        base_url: &str,
        route_prefix: &str,
        language: &str,
        root: &str,
    ) -> Value {
        let invoke_url = match &self.trigger {
            Trigger::Http(http) => {
                let path = [route_prefix, http.route.text()].join("/");
                json!(format!("{base_url}/{}", path.trim_matches('/')).to_lowercase())
            }
            _ => Value::Null,
        };
        json!({
            "name": self.name,
            "script_root_path_href": null,
            "script_href": format!("{base_url}/admin/vfs{root}/index.js"),
            "config_href": null,
            "test_data_href": format!("{base_url}/admin/vfs/tmp/FunctionsData/{}.dat", self.name),
            "href": format!("{base_url}/admin/functions/{}", self.name),
            "invoke_url_template": invoke_url,
            "language": language,
            "config": {
                "name": self.name,
                "entryPoint": "",
                "scriptFile": "index.js",
                "language": language,
                "functionDirectory": format!("{root}/src"),
                "bindings": self.bindings,
            },
            "files": null,
            "test_data": "",
            "isDisabled": self.is_disabled,
            "isDirect": false,
            "isProxy": false,
        })
    }
}

/// Letters, digits, `_`, `-`; begins with a letter; at most 128 characters; not "host".
pub fn is_valid_name(name: &str) -> bool {
    name.len() <= 128
        && !name.eq_ignore_ascii_case("host")
        && name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
}

fn is_polling_blob(bindings: &[Value]) -> bool {
    bindings.iter().any(|binding| {
        group::is_type(binding, "blobTrigger")
            && group::is_input(binding).unwrap_or(false)
            && !group::is_event_grid_blob(binding)
    })
}

fn is_disabled_by_setting(name: &str, settings: &Settings) -> bool {
    [
        format!("AzureWebJobs.{name}.Disabled"),
        format!("AzureWebJobs_{name}_Disabled"),
    ]
    .iter()
    .filter_map(|setting| settings.get(setting))
    .any(|value| value == "1" || value.eq_ignore_ascii_case("true"))
}

fn flag(binding: &Value, name: &str, default: bool) -> bool {
    match group::property(binding, name) {
        Some(Value::Bool(value)) => *value,
        Some(Value::String(text)) => text.eq_ignore_ascii_case("true"),
        _ => default,
    }
}

fn trigger_of(name: &str, binding: &Value, settings: &Settings) -> Result<Trigger, String> {
    let resolved = |property: &str| -> Result<Option<String>, String> {
        group::text(binding, property)
            .map(|text| settings.resolve(text).map_err(|error| error.to_string()))
            .transpose()
    };
    if group::is_type(binding, "httpTrigger") {
        let route = resolved("route")?.unwrap_or_else(|| name.to_owned());
        let route = RouteTemplate::parse(&route).map_err(|error| error.to_string())?;
        let methods = group::property(binding, "methods")
            .and_then(Value::as_array)
            .map(|methods| {
                methods
                    .iter()
                    .filter_map(|method| Some(method.as_str()?.to_ascii_uppercase()))
                    .collect()
            })
            .unwrap_or_default();
        return Ok(Trigger::Http(HttpTrigger {
            route,
            methods,
            auth_level: group::text(binding, "authLevel")
                .unwrap_or("function")
                .to_owned(),
        }));
    }
    if group::is_type(binding, "queueTrigger") {
        let queue = resolved("queueName")?.unwrap_or_default().to_lowercase();
        if queue.is_empty() {
            return Err("The queue name is missing.".to_owned());
        }
        let connection = resolved("connection")?
            .filter(|setting| !setting.is_empty())
            .unwrap_or_else(|| "AzureWebJobsStorage".to_owned());
        return Ok(Trigger::Queue { queue, connection });
    }
    if group::is_type(binding, "timerTrigger") {
        let text = resolved("schedule")?.unwrap_or_default();
        let schedule = Schedule::usable(&text).map_err(|error| {
            format!(
                "The schedule expression '{text}' was not recognized as a valid cron expression or timespan string. ({error})"
            )
        })?;
        return Ok(Trigger::Timer {
            schedule,
            use_monitor: flag(binding, "useMonitor", true),
            run_on_startup: flag(binding, "runOnStartup", false),
        });
    }
    Ok(Trigger::Other)
}
