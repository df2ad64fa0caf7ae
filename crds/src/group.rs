//! Groups: which functions run and scale together.
//!
//! The rule is the one of the Azure Functions host (`FunctionMetadata.GetFunctionGroup`): the input bindings are walked in
//! order and the first one that belongs to a shared group decides; a function without such a binding is a group of its own.
//! Everything is compared without regard to letter case.

use crate::function_app::{Binding, Function};
use std::collections::BTreeMap;
use std::fmt;

/// Name of a group, as Azure writes it: `http`, `durable`, `blob` or `function:<name>`.
///
/// The name of a function keeps its letter case for display; two names that differ only in case are the same group.
#[derive(Clone, Debug)]
pub enum GroupName {
    /// HTTP triggers and everything else that arrives over HTTP.
    Http,
    /// Orchestrations, activities and entities.
    Durable,
    /// Blob triggers fed by Event Grid.
    Blob,
    /// One function alone.
    Function(String),
}

impl PartialEq for GroupName {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for GroupName {}

impl PartialOrd for GroupName {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for GroupName {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

impl std::hash::Hash for GroupName {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.key().hash(state);
    }
}

impl fmt::Display for GroupName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http => f.write_str("http"),
            Self::Durable => f.write_str("durable"),
            Self::Blob => f.write_str("blob"),
            Self::Function(name) => write!(f, "function:{name}"),
        }
    }
}

/// A group name that is none.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is not a group: use http, durable, blob or function:<function name>")]
pub struct UnknownGroup(String);

impl std::str::FromStr for GroupName {
    type Err = UnknownGroup;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let lower = text.to_ascii_lowercase();
        match lower.as_str() {
            "http" => Ok(Self::Http),
            "durable" => Ok(Self::Durable),
            "blob" => Ok(Self::Blob),
            _ => match lower.strip_prefix("function:") {
                Some(rest) if !rest.is_empty() => {
                    Ok(Self::Function(text["function:".len()..].to_owned()))
                }
                _ => Err(UnknownGroup(text.to_owned())),
            },
        }
    }
}

impl GroupName {
    /// The name in lower case: what two equal groups have in common.
    pub fn key(&self) -> String {
        self.to_string().to_ascii_lowercase()
    }
}

/// A binding that the host refuses.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is not a binding direction: use in, out or inout")]
pub struct InvalidDirection(String);

/// True for a binding that the host counts as an input; a missing direction is one.
fn is_input(binding: &Binding) -> Result<bool, InvalidDirection> {
    match binding.text("direction") {
        None => Ok(true),
        Some(d) if d.eq_ignore_ascii_case("in") => Ok(true),
        Some(d) if d.eq_ignore_ascii_case("out") || d.eq_ignore_ascii_case("inout") => Ok(false),
        Some(d) => Err(InvalidDirection(d.to_owned())),
    }
}

/// The group of a function.
///
/// # Errors
/// When a binding has a direction that the host does not know: it would refuse the function.
pub fn group_of(name: &str, bindings: &[Binding]) -> Result<GroupName, InvalidDirection> {
    let mut shared = None;
    // Every direction is checked, also behind the deciding binding: the host reads them all.
    for binding in bindings {
        if is_input(binding)? && shared.is_none() {
            shared = shared_group(binding);
        }
    }
    Ok(shared.unwrap_or_else(|| GroupName::Function(name.to_owned())))
}

fn shared_group(binding: &Binding) -> Option<GroupName> {
    match binding.kind().to_ascii_lowercase().as_str() {
        // Event Grid, SignalR and assistant skills are called over HTTP (webhooks of the host).
        "httptrigger" | "eventgridtrigger" | "signalrtrigger" | "assistantskilltrigger" => {
            Some(GroupName::Http)
        }
        "orchestrationtrigger" | "activitytrigger" | "entitytrigger" => Some(GroupName::Durable),
        // As text and without blanks: the number 1 is not Event Grid.
        "blobtrigger"
            if binding
                .text("source")
                .is_some_and(|s| s.eq_ignore_ascii_case("EventGrid")) =>
        {
            Some(GroupName::Blob)
        }
        _ => None,
    }
}

/// The trigger of a function: its first input binding whose type ends in `Trigger`.
pub fn trigger(bindings: &[Binding]) -> Option<&Binding> {
    bindings
        .iter()
        .find(|b| b.is_trigger() && is_input(b).unwrap_or(false))
}

/// One group with its functions.
#[derive(Clone, Debug)]
pub struct Group<'a> {
    /// Name of the group.
    pub name: GroupName,
    /// Functions of the group, in the order of the app. Disabled ones are not among them.
    pub functions: Vec<&'a Function>,
    /// Functions of other groups that an instance of this group must load too: an `http` instance runs the listeners of
    /// the `blob` group, because the notification of Event Grid arrives at an `http` instance.
    pub guests: Vec<&'a Function>,
}

/// True for an application setting that may disable a function, in any letter case.
pub fn is_disabling_setting(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let rest = name.strip_prefix("azurewebjobs");
    rest.is_some_and(|rest| {
        (rest.starts_with('.') && rest.ends_with(".disabled"))
            || (rest.starts_with('_') && rest.ends_with("_disabled"))
    })
}

/// True when a function is disabled: by its own field, or by one of the application settings `AzureWebJobs.<name>.Disabled`
/// and `AzureWebJobs_<name>_Disabled`, which count when they are `true` in any letter case or `1` (Azure docs, "How to disable
/// functions"; other spellings and other values have no effect on the host).
///
/// `setting` looks a value up by name without regard to letter case.
pub fn is_disabled<'a>(function: &Function, setting: impl Fn(&str) -> Option<&'a str>) -> bool {
    let name = &function.name;
    function.disabled
        || [
            format!("AzureWebJobs.{name}.Disabled"),
            format!("AzureWebJobs_{name}_Disabled"),
        ]
        .iter()
        .filter_map(|name| setting(name))
        .any(|value| value.eq_ignore_ascii_case("true") || value == "1")
}

/// The groups of an app in a stable order. Disabled functions ([`is_disabled`]) form no group: they have no listener.
///
/// # Errors
/// The first function with a binding that the host refuses, with its index.
pub fn groups_without(
    functions: &[Function],
    disabled: impl Fn(&Function) -> bool,
) -> Result<Vec<Group<'_>>, (usize, InvalidDirection)> {
    let mut by_name: BTreeMap<GroupName, Vec<&Function>> = BTreeMap::new();
    for (index, function) in functions.iter().enumerate() {
        let name = group_of(&function.name, &function.bindings).map_err(|e| (index, e))?;
        if !disabled(function) {
            by_name.entry(name).or_default().push(function);
        }
    }
    let blob = by_name.get(&GroupName::Blob).cloned().unwrap_or_default();
    Ok(by_name
        .into_iter()
        .map(|(name, functions)| {
            let guests = if name == GroupName::Http {
                blob.clone()
            } else {
                Vec::new()
            };
            Group {
                name,
                functions,
                guests,
            }
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn function(name: &str, trigger: &str) -> Function {
        let binding = serde_json::from_value(
            json!({"type": trigger, "direction": "in", "source": "EventGrid"}),
        );
        Function {
            name: name.into(),
            disabled: false,
            bindings: vec![binding.unwrap()],
        }
    }

    #[test]
    fn names_compare_without_case_and_round_trip() {
        let a: GroupName = "Function:Orders".parse().unwrap();
        assert_eq!(a, "function:orders".parse().unwrap());
        assert_eq!(a.to_string(), "function:Orders");
        assert_eq!("HTTP".parse::<GroupName>().unwrap().to_string(), "http");
        assert!("function:".parse::<GroupName>().is_err());
        assert!("queue".parse::<GroupName>().is_err());
    }

    #[test]
    fn disabled_functions_form_no_group_and_blob_functions_are_guests_of_http() {
        let mut functions = vec![
            function("h", "httpTrigger"),
            function("b", "blobTrigger"),
            function("q", "queueTrigger"),
        ];
        let names = |f: &[Function]| {
            groups_without(f, |f| f.disabled)
                .unwrap()
                .iter()
                .map(|g| g.name.to_string())
                .collect::<Vec<_>>()
        };
        assert_eq!(names(&functions), ["blob", "function:q", "http"]);
        let all = groups_without(&functions, |f| f.disabled).unwrap();
        let http = all.iter().find(|g| g.name == GroupName::Http).unwrap();
        assert_eq!(
            http.guests
                .iter()
                .map(|f| f.name.as_str())
                .collect::<Vec<_>>(),
            ["b"]
        );
        functions[2].disabled = true;
        assert_eq!(names(&functions), ["blob", "http"]);
    }

    #[test]
    fn settings_disable_a_function_in_two_spellings_and_two_values() {
        let orders = function("Orders", "queueTrigger");
        let disabled = |name: &str, value: &'static str| {
            is_disabled(&orders, |asked| {
                asked.eq_ignore_ascii_case(name).then_some(value)
            })
        };
        for (name, value, expected) in [
            ("AzureWebJobs.orders.Disabled", "TRUE", true),
            ("AzureWebJobs_Orders_Disabled", "1", true),
            ("AzureWebJobs.Orders.Disabled", "yes", false),
            ("AzureWebJobs.Orders.Disabled", "false", false),
            ("AzureWebJobs__Orders__Disabled", "1", false),
            ("AzureWebJobs.Other.Disabled", "1", false),
        ] {
            assert_eq!(disabled(name, value), expected, "{name}={value}");
            assert!(is_disabling_setting(name));
        }
        assert!(!is_disabling_setting("AzureWebJobsStorage"));
        let functions = [orders, function("b", "queueTrigger")];
        let left = groups_without(&functions, |f| f.name == "Orders").unwrap();
        assert_eq!(left.len(), 1);
    }
}
