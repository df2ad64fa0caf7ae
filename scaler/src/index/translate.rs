//! From a FunctionApp and its settings to the terms of the decision core. Pure, and the only place where both are known.

use super::key::{AppKey, GroupKey};
use super::plan::{
    AppPlan, GroupPlan, HttpPlan, InputPlan, Problem, QueuePlan, SnapshotPlan, TimerPlan,
    TimerStatusPlan,
};
use super::settings::{MissingSetting, ResolvedSettings};
use super::workload::WorkloadKey;
use maniple_core::concurrency::ConcurrencyOptions;
use maniple_core::decision::{GroupSpec, SourceKind, SourceSpec};
use maniple_core::host_config::HostConfig;
use maniple_core::names::{NameError, Settings as Names, resolve};
use maniple_core::queue::{QueueOptions, processors};
use maniple_core::timer::{TICKS_PER_SECOND, Timer, TimerError, parse_timespan};
use maniple_crds::function_app::{
    Binding, Function, FunctionAppSpec, Host, ScalingMode, ZoneRedundancy,
};
use maniple_crds::group::{self, Group, GroupName, InvalidDirection};
use maniple_crds::names;
use maniple_sources::storage::{Account, ConnectionError, Service, Settings as Connections};
use maniple_sources::storage_queue::QueueTarget;
use serde_json::{Value, json};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

/// Always-ready instances of every group of a zone-redundant app (Azure docs, "Reliability in Azure Functions").
const ZONE_REDUNDANT_FLOOR: u32 = 2;

/// Function timeout of Flex Consumption when host.json sets none (Azure docs, "Function app timeout duration").
const FUNCTION_TIMEOUT: Duration = Duration::from_mins(30);

/// Why an app has no plan at all. The operator shows the same.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum TranslateError {
    /// A binding that the host refuses.
    #[error("functions[{index}]: {source}")]
    Direction {
        /// Index of the function.
        index: usize,
        /// What is wrong.
        source: InvalidDirection,
    },
}

impl TranslateError {
    /// Stable class of the error.
    pub fn category(&self) -> &'static str {
        match self {
            Self::Direction { .. } => "binding-direction",
        }
    }
}

/// The plan of an app.
///
/// An app without a list of functions has no groups yet: its functions are discovered and put into the list by others.
///
/// # Errors
/// When the groups of the app cannot be told.
pub fn translate(
    key: &AppKey,
    generation: i64,
    spec: &FunctionAppSpec,
    settings: &ResolvedSettings,
) -> Result<AppPlan, TranslateError> {
    let functions = spec.functions.as_deref().unwrap_or_default();
    // As the operator does it, or a group would be decided here that has no Deployment.
    let disabled = |f: &_| group::is_disabled(f, |name| settings.get(name));
    let groups = group::groups_without(functions, disabled)
        .map_err(|(index, source)| TranslateError::Direction { index, source })?;
    let app = App::new(key, spec, settings);
    Ok(AppPlan {
        generation,
        groups: groups
            .iter()
            .map(|group| Arc::new(app.group(group)))
            .collect(),
        awaited: spec.functions.is_none().then(|| app.http()),
    })
}

/// What all groups of an app share.
struct App<'a> {
    key: &'a AppKey,
    spec: &'a FunctionAppSpec,
    settings: &'a ResolvedSettings,
    names: Names,
    connections: Connections,
    host_config: HostConfig,
    host_id: String,
}

impl<'a> App<'a> {
    fn new(key: &'a AppKey, spec: &'a FunctionAppSpec, settings: &'a ResolvedSettings) -> Self {
        let names = settings.for_names();
        let host_json = json!({
            "extensions": spec.host_config.extensions,
            "concurrency": spec.host_config.concurrency,
        });
        Self {
            key,
            spec,
            settings,
            host_config: HostConfig::new(&host_json, &names),
            names,
            connections: settings.for_connections(),
            host_id: names::host_id(&key.namespace, &key.name),
        }
    }

    fn group(&self, group: &Group<'_>) -> GroupPlan {
        let scale = &self.spec.function_app_config.scale_and_concurrency;
        let declared = scale
            .always_ready
            .iter()
            .find(|a| {
                a.name
                    .parse::<GroupName>()
                    .is_ok_and(|name| name == group.name)
            })
            .map_or(0, |a| count(a.instance_count));
        let always_ready = match self.spec.zone_redundancy {
            ZoneRedundancy::Disabled => declared,
            ZoneRedundancy::Enabled => declared.max(ZONE_REDUNDANT_FLOOR),
        };
        let mut sources = Vec::new();
        let mut inputs = Vec::new();
        for function in &group.functions {
            // Without a trigger there is nothing that could wait.
            let Some(binding) = group::trigger(&function.bindings) else {
                continue;
            };
            let (kind, input) = self.source(&group.name, function, binding);
            sources.push(SourceSpec {
                key: function.name.clone(),
                function: function.name.clone(),
                kind,
                instance_cap: self
                    .limit(&function.name)
                    .map(|n| n.saturating_add(always_ready)),
            });
            inputs.push(input);
        }
        GroupPlan {
            key: GroupKey::new(self.key.clone(), &group.name),
            name: group.name.to_string(),
            workload: WorkloadKey::new(
                Arc::clone(&self.key.namespace),
                names::group_object(&self.key.name, &group.name),
            ),
            spec: GroupSpec {
                always_ready,
                max_on_demand: count(scale.maximum_instance_count),
                idle_window: Duration::from_secs(count(self.spec.scaling.idle_seconds).into()),
                // The age of readings is watched where they are read, so that a group at rest is not looked at.
                reading_max_age: Duration::MAX,
                paused: self.spec.scaling.mode == ScalingMode::Paused,
                sources,
            },
            inputs,
            http: (group.name == GroupName::Http).then(|| self.http()),
        }
    }

    fn http(&self) -> HttpPlan {
        let http = &self.spec.http;
        let seconds = |n: i32| Duration::from_secs(count(n).into());
        let request_timeout = seconds(http.request_timeout_seconds);
        let administered = self.spec.host == Host::AzureFunctions;
        let function_timeout = match self.spec.host_config.function_timeout.as_deref() {
            Some(text) if administered => function_timeout(text),
            None if administered => Some(FUNCTION_TIMEOUT),
            // The limit of the front end is the only one that is known.
            _ => Some(request_timeout),
        };
        HttpPlan {
            concurrency: small(self.spec.function_app_config.http_concurrency()).max(1),
            port: small(self.spec.port),
            hosts: http.hosts.clone(),
            path_prefixes: http.path_prefixes.clone(),
            request_timeout,
            function_timeout,
            drain_limit: seconds(self.spec.scaling.drain_minutes.saturating_mul(60)),
            room: count(http.waiting_room.max_requests),
            patience: seconds(http.waiting_room.max_seconds),
            protocol: http.app_protocol,
            administered,
        }
    }

    /// `scaling.functionLimits` of a function.
    fn limit(&self, function: &str) -> Option<u32> {
        let limits = &self.spec.scaling.function_limits;
        limits
            .iter()
            .find(|limit| limit.name.eq_ignore_ascii_case(function))
            .map(|limit| count(limit.maximum_instance_count))
    }

    fn source(
        &self,
        group: &GroupName,
        function: &Function,
        binding: &Binding,
    ) -> (SourceKind, InputPlan) {
        let trigger = binding.kind();
        if *group == GroupName::Http {
            let concurrency = self.spec.function_app_config.http_concurrency();
            let concurrency = NonZeroU32::new(count(concurrency)).unwrap_or(NonZeroU32::MIN);
            return (SourceKind::Http { concurrency }, InputPlan::Nothing);
        }
        if trigger.eq_ignore_ascii_case("queueTrigger") {
            return self.queue(function, binding);
        }
        if trigger.eq_ignore_ascii_case("timerTrigger") {
            let input = match self.timer(function, binding) {
                Ok(timer) => InputPlan::Timer(timer),
                Err(problem) => InputPlan::Broken(problem),
            };
            return (SourceKind::Timer, input);
        }
        let kind = SourceKind::Unsupported {
            trigger: trigger.to_owned(),
        };
        (kind, InputPlan::Nothing)
    }

    fn queue(&self, function: &Function, binding: &Binding) -> (SourceKind, InputPlan) {
        let (target, problem) = match self.queue_options() {
            Ok(options) => (options.target(), None),
            Err(problem) => (NonZeroU32::MIN, Some(problem)),
        };
        let input = match (problem, self.queue_plan(function, binding)) {
            (Some(problem), _) | (None, Err(problem)) => InputPlan::Broken(problem),
            (None, Ok(plan)) => InputPlan::Queue(plan),
        };
        (SourceKind::StorageQueue { target }, input)
    }

    fn queue_options(&self) -> Result<QueueOptions, Problem> {
        let limit = u64::from(count(self.spec.function_app_config.milli_cpu()));
        QueueOptions::read(&self.host_config, processors(Some(limit), &self.names)).map_err(
            |error| Problem {
                category: error.category(),
                message: error.to_string(),
            },
        )
    }

    fn queue_plan(&self, function: &Function, binding: &Binding) -> Result<QueuePlan, Problem> {
        let queue = binding.text("queueName").unwrap_or_default();
        let queue = self.resolve(queue)?;
        if queue.is_empty() {
            return Err(Problem {
                category: "queue-name",
                message: format!(
                    "function {}: the queue trigger has no queueName; add it to the binding",
                    function.name
                ),
            });
        }
        let connection = binding.text("connection");
        if let Some(missing) = self.settings.missing_for_connection(connection) {
            return Err(unknown_setting(missing));
        }
        let target = QueueTarget::resolve(&self.connections, connection, &queue)
            .map_err(|error| connection_problem(&error))?;
        let options = ConcurrencyOptions::read(&self.host_config).map_err(|error| Problem {
            category: error.category(),
            message: error.to_string(),
        })?;
        let learned = options
            .reads_snapshot()
            .then(|| self.host_storage().ok())
            .flatten();
        Ok(QueuePlan {
            target,
            learned: learned.map(|account| SnapshotPlan {
                account,
                host_id: self.host_id.clone(),
                // Name of the method that the script host makes for every function of another language.
                function_id: format!("Host.Functions.{}", function.name),
                options,
            }),
        })
    }

    fn timer(&self, function: &Function, binding: &Binding) -> Result<TimerPlan, Problem> {
        for name in ["TZ", "WEBSITE_TIME_ZONE"] {
            if let Some(missing) = self.settings.missing(name) {
                return Err(unknown_setting(missing));
            }
        }
        let schedule = binding.text("schedule").unwrap_or_default();
        let flag = |name: &str, default| binding.get(name).map_or(Some(default), flag);
        let (Some(use_monitor), Some(run_on_startup)) =
            (flag("useMonitor", true), flag("runOnStartup", false))
        else {
            return Err(Problem {
                category: "timer-binding",
                message: format!(
                    "function {}: useMonitor and runOnStartup of the timer trigger must be true or false",
                    function.name
                ),
            });
        };
        let timer =
            Timer::new(schedule, &self.names, use_monitor, run_on_startup).map_err(|error| {
                if let TimerError::Name { source, .. } = &error
                    && let Some(missing) = self.missing_name(source)
                {
                    return unknown_setting(missing);
                }
                Problem {
                    category: error.category(),
                    message: format!("function {}: {error}", function.name),
                }
            })?;
        // Only the Azure Functions host writes a status, and not for timers that it keeps awake anyway.
        let keeps_status = self.spec.host == Host::AzureFunctions && timer.always_on().is_none();
        let status = match keeps_status.then(|| self.host_storage()) {
            None | Some(Err(StorageProblem::Absent)) => TimerStatusPlan::None,
            Some(Err(StorageProblem::Broken(problem))) => TimerStatusPlan::Broken(problem),
            Some(Ok(account)) => TimerStatusPlan::Blob {
                account,
                host_id: self.host_id.clone(),
                function: function.name.clone(),
            },
        };
        Ok(TimerPlan { timer, status })
    }

    /// The blob service in which the host keeps its state.
    fn host_storage(&self) -> Result<Account, StorageProblem> {
        if let Some(missing) = self.settings.missing_for_connection(None) {
            return Err(StorageProblem::Broken(unknown_setting(missing)));
        }
        Account::resolve(&self.connections, None, Service::Blob).map_err(|error| match error {
            ConnectionError::Missing { .. } => StorageProblem::Absent,
            error => StorageProblem::Broken(connection_problem(&error)),
        })
    }

    /// Replaces `%setting%`.
    fn resolve(&self, text: &str) -> Result<String, Problem> {
        resolve(text, &self.names).map_err(|error| match self.missing_name(&error) {
            Some(missing) => unknown_setting(missing),
            None => Problem {
                category: error.category(),
                message: format!("'{text}': {error}"),
            },
        })
    }

    /// The unknown setting behind an error of a `%setting%`.
    fn missing_name(&self, error: &NameError) -> Option<&MissingSetting> {
        match error {
            NameError::Missing { name } => self.settings.missing(name),
            NameError::Unclosed { .. } => None,
        }
    }
}

enum StorageProblem {
    /// The app has no storage account for its host.
    Absent,
    Broken(Problem),
}

fn unknown_setting(missing: &MissingSetting) -> Problem {
    Problem {
        category: "setting_unknown",
        message: missing.problem.clone(),
    }
}

fn connection_problem(error: &ConnectionError) -> Problem {
    Problem {
        category: error.category(),
        message: error.to_string(),
    }
}

/// A count of the spec. The API server keeps it from being negative.
fn count(n: i32) -> u32 {
    u32::try_from(n).unwrap_or(0)
}

/// A port or a concurrency. The API server keeps both in range.
fn small(n: i32) -> u16 {
    u16::try_from(n).unwrap_or(u16::MAX)
}

/// `functionTimeout` of host.json; none when unbounded. What cannot be read is unbounded: the safe side for requests that may
/// still run.
fn function_timeout(text: &str) -> Option<Duration> {
    let ticks = u64::try_from(parse_timespan(text)?).ok()?;
    Some(Duration::from_secs(
        ticks.div_ceil(TICKS_PER_SECOND.unsigned_abs()),
    ))
}

/// A flag in function.json; the host also takes the words as text.
fn flag(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(flag) => Some(*flag),
        Value::String(text) if text.eq_ignore_ascii_case("true") => Some(true),
        Value::String(text) if text.eq_ignore_ascii_case("false") => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
