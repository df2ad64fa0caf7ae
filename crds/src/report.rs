//! What the scaler tells the operator about the groups of one app: the answer of `GET /v1/apps/{namespace}/{name}`.

use crate::function_app::SourceStatus;
use serde::{Deserialize, Serialize};

/// Reason of a group whose trigger has no source yet: it keeps one instance.
pub const UNSUPPORTED: &str = "Unsupported";

/// The groups of one app as the scaler sees them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AppReport {
    /// Generation of the FunctionApp that the scaler has taken in.
    pub generation: i64,
    /// One entry for each group.
    pub groups: Vec<GroupReport>,
}

/// One group as the scaler sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GroupReport {
    /// Name of the group.
    pub name: String,
    /// Instances that the last decision asks for; absent when no decision could be made yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub desired: Option<u32>,
    /// Reason of the decision, one word.
    pub reason: String,
    /// Reason in words and numbers.
    pub message: String,
    /// What the decision was made from.
    #[serde(default)]
    pub sources: Vec<SourceStatus>,
}
