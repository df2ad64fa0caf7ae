//! Scaling groups in Flex mode: which listeners an instance starts.
//!
//! Kept apart from the operator's implementation on purpose: a mistake in one must not hide a mistake in the other.

use serde_json::Value;

/// A binding that no host would accept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BindingError {
    /// The direction is not `in`, `out` or `inout`.
    #[error("'{0}' is not a valid binding direction.")]
    Direction(String),
}

/// The value of a property of a binding; names ignore case.
pub fn property<'a>(binding: &'a Value, name: &str) -> Option<&'a Value> {
    binding
        .as_object()?
        .iter()
        .find(|(key, _)| key.eq_ignore_ascii_case(name))
        .map(|(_, value)| value)
}

/// The text of a property of a binding.
pub fn text<'a>(binding: &'a Value, name: &str) -> Option<&'a str> {
    property(binding, name)?.as_str()
}

/// Whether data flows into the function. No direction counts as `in`.
pub fn is_input(binding: &Value) -> Result<bool, BindingError> {
    match text(binding, "direction") {
        None => Ok(true),
        Some(direction) if direction.eq_ignore_ascii_case("in") => Ok(true),
        Some(direction)
            if direction.eq_ignore_ascii_case("out") || direction.eq_ignore_ascii_case("inout") =>
        {
            Ok(false)
        }
        Some(direction) => Err(BindingError::Direction(direction.to_owned())),
    }
}

/// Whether a binding is of this type.
pub fn is_type(binding: &Value, name: &str) -> bool {
    text(binding, "type").is_some_and(|value| value.eq_ignore_ascii_case(name))
}

fn is_any_type(binding: &Value, names: &[&str]) -> bool {
    names.iter().any(|name| is_type(binding, name))
}

/// Whether this is a blob trigger that hears of blobs through Event Grid.
pub fn is_event_grid_blob(binding: &Value) -> bool {
    is_type(binding, "blobTrigger")
        && text(binding, "source").is_some_and(|source| source.eq_ignore_ascii_case("EventGrid"))
}

/// The group of a function: `http`, `durable`, `blob` or `function:<name>`.
pub fn group_of(name: &str, bindings: &[Value]) -> Result<String, BindingError> {
    for binding in bindings {
        if !is_input(binding)? {
            continue;
        }
        if is_any_type(
            binding,
            &[
                "httpTrigger",
                "eventGridTrigger",
                "signalRTrigger",
                "assistantSkillTrigger",
            ],
        ) {
            return Ok("http".to_owned());
        }
        if is_any_type(
            binding,
            &["orchestrationTrigger", "activityTrigger", "entityTrigger"],
        ) {
            return Ok("durable".to_owned());
        }
        if is_event_grid_blob(binding) {
            return Ok("blob".to_owned());
        }
    }
    Ok(format!("function:{name}"))
}

/// Whether a function of `group` starts its listener on an instance of `target`. An instance of `http`
/// also starts the listeners of `blob`, because the notifications arrive there.
pub fn is_started(group: &str, target: &str) -> bool {
    group.eq_ignore_ascii_case(target)
        || (group.eq_ignore_ascii_case("blob") && target.eq_ignore_ascii_case("http"))
}

/// The binding that starts the function: the first input binding whose type ends in "trigger".
pub fn trigger(bindings: &[Value]) -> Option<&Value> {
    bindings.iter().find(|binding| {
        is_input(binding).unwrap_or(false)
            && text(binding, "type")
                .is_some_and(|kind| kind.to_ascii_lowercase().ends_with("trigger"))
    })
}

/// The binding that is sent to the platform: the first of any direction whose type ends in "trigger".
pub fn sync_trigger(bindings: &[Value]) -> Option<&Value> {
    bindings.iter().find(|binding| {
        text(binding, "type").is_some_and(|kind| kind.to_ascii_lowercase().ends_with("trigger"))
    })
}
