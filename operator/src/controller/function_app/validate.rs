//! Pure: checks what the API server cannot check and works out the groups.

use super::dereference::References;
use maniple_crds::function_app::{Driver, Function, Host, ScalingMode, ZoneRedundancy};
use maniple_crds::names::{DRIVER_KEDA, DRIVER_NATIVE};
use maniple_crds::{FunctionApp, GroupName, group, reasons::reason, settings};
use std::collections::{BTreeMap, BTreeSet};

/// Something wrong with the spec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    /// Field, for example `spec.functions[2].name`.
    pub path: String,
    /// Reason of the condition.
    pub reason: &'static str,
    /// What is wrong and what to do.
    pub message: String,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.path, self.message)
    }
}

/// One group that may be built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ValidGroup {
    /// Name of the group.
    pub name: GroupName,
    /// Functions of the group, sorted, for status.
    pub functions: Vec<String>,
    /// Functions that an instance of the group loads: its own and the guests of other groups.
    pub loads: Vec<String>,
    /// Instances that always run.
    pub always_ready: i32,
    /// Most on-demand instances beside them.
    pub max_on_demand: i32,
    /// True when KEDA writes the replica count, false when the scaler does.
    pub keda: bool,
}

impl ValidGroup {
    /// Value of the driver annotation.
    pub(super) fn driver(&self) -> &'static str {
        if self.keda {
            DRIVER_KEDA
        } else {
            DRIVER_NATIVE
        }
    }
}

/// An app that may be built.
#[derive(Clone, Debug)]
pub(super) struct ValidApp {
    /// Its groups, in a stable order.
    pub groups: Vec<ValidGroup>,
    /// Changes when a value behind `appSettings[].valueFrom` changes; reveals nothing of it.
    pub settings_digest: String,
}

/// Checks the app against what it refers to.
///
/// # Errors
/// Everything that is wrong, not only the first.
pub(super) fn validate(
    app: &FunctionApp,
    references: &References,
) -> Result<ValidApp, Vec<Problem>> {
    let mut problems = Vec::new();
    check_settings(app, references, &mut problems);
    check_hosts(references, &mut problems);
    let groups = groups(app, references, &mut problems);
    if problems.is_empty() {
        Ok(ValidApp {
            groups,
            settings_digest: references.settings_digest.clone(),
        })
    } else {
        Err(problems)
    }
}

fn invalid(problems: &mut Vec<Problem>, path: impl Into<String>, message: impl Into<String>) {
    problems.push(Problem {
        path: path.into(),
        reason: reason::INVALID_SPEC,
        message: message.into(),
    });
}

fn check_settings(app: &FunctionApp, references: &References, problems: &mut Vec<Problem>) {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for (index, setting) in app.spec.app_settings.iter().enumerate() {
        let path = format!("spec.appSettings[{index}]");
        if app.spec.host == Host::AzureFunctions
            && let Some(why) = settings::refusal(&setting.name)
        {
            invalid(
                problems,
                format!("{path}.name"),
                format!("`{}` is refused: {why}; remove it", setting.name),
            );
        }
        if let Some(first) = seen.insert(setting.name.to_ascii_lowercase(), index) {
            let message = format!(
                "`{}` differs from spec.appSettings[{first}].name only in letter case, which the host does not tell apart; remove one",
                setting.name
            );
            invalid(problems, format!("{path}.name"), message);
        }
    }
    for missing in &references.missing {
        problems.push(Problem {
            path: missing.path.clone(),
            reason: reason::REFERENCE_MISSING,
            message: missing.message.clone(),
        });
    }
}

fn check_hosts(references: &References, problems: &mut Vec<Problem>) {
    for conflict in &references.host_conflicts {
        problems.push(Problem {
            path: conflict.path.clone(),
            reason: reason::HOST_CONFLICT,
            message: format!(
                "`{}` is taken by the older FunctionApp {}; use another host or path prefix",
                conflict.route, conflict.owner
            ),
        });
    }
}

fn groups(
    app: &FunctionApp,
    references: &References,
    problems: &mut Vec<Problem>,
) -> Vec<ValidGroup> {
    let Some(functions) = &app.spec.functions else {
        problems.push(Problem {
            path: "spec.functions".into(),
            reason: reason::FUNCTIONS_UNKNOWN,
            message: "the functions are not listed, and this version cannot ask the host for them; list them with their bindings".into(),
        });
        return Vec::new();
    };
    let disabled = |f: &Function| group::is_disabled(f, |name| references.setting(app, name));
    let mut names: BTreeMap<String, usize> = BTreeMap::new();
    for (index, function) in functions.iter().enumerate() {
        let path = format!("spec.functions[{index}]");
        if let Some(first) = names.insert(function.name.to_ascii_lowercase(), index) {
            let message = format!(
                "`{}` is the name of spec.functions[{first}] too (letter case does not count); rename one",
                function.name
            );
            invalid(problems, format!("{path}.name"), message);
        }
        if !disabled(function) && group::trigger(&function.bindings).is_none() {
            let message = "no input binding has a type that ends in `Trigger`; add the trigger or set disabled";
            invalid(problems, format!("{path}.bindings"), message);
        }
    }
    let groups = match group::groups_without(functions, disabled) {
        Ok(groups) => groups,
        Err((index, error)) => {
            invalid(
                problems,
                format!("spec.functions[{index}].bindings"),
                error.to_string(),
            );
            return Vec::new();
        }
    };
    // A disabled function keeps its group known: its always-ready instances wait for the day when it is enabled again.
    let known: BTreeSet<GroupName> = functions
        .iter()
        .filter_map(|f| group::group_of(&f.name, &f.bindings).ok())
        .collect();
    let floors = floors(app, &known, problems);
    for (index, limit) in app.spec.scaling.function_limits.iter().enumerate() {
        if !names.contains_key(&limit.name.to_ascii_lowercase()) {
            let message = format!(
                "the app has no function `{}`; use a name of spec.functions",
                limit.name
            );
            invalid(
                problems,
                format!("spec.scaling.functionLimits[{index}].name"),
                message,
            );
        }
    }
    groups
        .into_iter()
        .map(|group| {
            let mut own: Vec<String> = group.functions.iter().map(|f| f.name.clone()).collect();
            own.sort_unstable();
            let mut loads = own.clone();
            loads.extend(group.guests.iter().map(|f| f.name.clone()));
            loads.sort_unstable();
            let always_ready = floors.get(&group.name).copied().unwrap_or(0);
            ValidGroup {
                keda: writes_by_keda(
                    app.spec.scaling.driver,
                    &group.name,
                    references.keda_installed,
                ),
                always_ready: if app.spec.zone_redundancy == ZoneRedundancy::Enabled {
                    // Azure keeps two in every group, whatever is configured (reliability in Azure Functions).
                    always_ready.max(2)
                } else {
                    always_ready
                },
                max_on_demand: app
                    .spec
                    .function_app_config
                    .scale_and_concurrency
                    .maximum_instance_count,
                functions: own,
                loads,
                name: group.name,
            }
        })
        .collect()
}

fn floors(
    app: &FunctionApp,
    known: &BTreeSet<GroupName>,
    problems: &mut Vec<Problem>,
) -> BTreeMap<GroupName, i32> {
    let mut floors = BTreeMap::new();
    for (index, entry) in app
        .spec
        .function_app_config
        .scale_and_concurrency
        .always_ready
        .iter()
        .enumerate()
    {
        let path = format!("spec.functionAppConfig.scaleAndConcurrency.alwaysReady[{index}].name");
        let name = match entry.name.parse::<GroupName>() {
            Ok(name) => name,
            Err(error) => {
                invalid(problems, path, error.to_string());
                continue;
            }
        };
        if !known.contains(&name) {
            let groups = known
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(", ");
            let message =
                format!("no function of the app is in group `{name}`; its groups are: {groups}");
            invalid(problems, path, message);
        } else if floors.insert(name.clone(), entry.instance_count).is_some() {
            invalid(
                problems,
                path,
                format!("group `{name}` stands twice (letter case does not count); remove one"),
            );
        }
    }
    floors
}

/// Whether KEDA writes the counts of a group. HTTP always scales natively when the driver is `Auto`: the HPA's clock of 15 s
/// is too slow for requests.
fn writes_by_keda(driver: Driver, group: &GroupName, installed: bool) -> bool {
    match driver {
        Driver::Keda => true,
        Driver::Native => false,
        Driver::Auto => installed && *group != GroupName::Http,
    }
}

/// The groups of an app that is refused, as they ran last: from its status and its Deployments.
pub(super) fn running(
    app: &FunctionApp,
    driver: impl Fn(&GroupName) -> Option<String>,
) -> Vec<ValidGroup> {
    let groups = app.status.iter().flat_map(|s| &s.groups);
    groups
        .filter_map(|group| {
            let name: GroupName = group.name.parse().ok()?;
            Some(ValidGroup {
                keda: driver(&name).as_deref() == Some(DRIVER_KEDA),
                functions: group.functions.clone(),
                loads: group.functions.clone(),
                always_ready: group.always_ready,
                max_on_demand: 0,
                name,
            })
        })
        .collect()
}

/// True when the counts are to be left as they are.
pub(super) fn is_paused(app: &FunctionApp) -> bool {
    app.spec.scaling.mode == ScalingMode::Paused
}
