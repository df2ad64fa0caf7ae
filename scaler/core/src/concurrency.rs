//! The dynamic-concurrency snapshot: what the hosts of an app have learned about the concurrency of each function.
//!
//! Source: `ScaleManager` and `BlobStorageConcurrencyStatusRepository` of the WebJobs SDK.

use std::num::NonZeroU32;

use jiff::fmt::temporal::Pieces;
use serde_json::{Map, Value};

use crate::host_config::{HostConfig, HostConfigError};

/// `concurrency` of host.json, as far as scaling looks at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConcurrencyOptions {
    /// Hosts adapt their concurrency. Default: no.
    pub dynamic: bool,
    /// Hosts store what they have learned. Default: yes.
    pub snapshots: bool,
}

/// The concurrency of one function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Concurrency {
    /// The static target of host.json rules.
    Static,
    /// Learned. The number is passed on as it is stored, also when it makes no sense.
    Dynamic(i32),
    /// The snapshot is there but has no list of functions, or names this one without a value. The original then leaves the
    /// function out of the decision.
    LeftOut,
}

impl ConcurrencyOptions {
    /// Reads the options.
    ///
    /// # Errors
    /// For values that are no flags.
    pub fn read(config: &HostConfig) -> Result<Self, HostConfigError> {
        Ok(Self {
            dynamic: config
                .flag("concurrency.dynamicConcurrencyEnabled")?
                .unwrap_or(false),
            snapshots: config
                .flag("concurrency.snapshotPersistenceEnabled")?
                .unwrap_or(true),
        })
    }

    /// Whether the snapshot is to be read at all.
    pub fn reads_snapshot(self) -> bool {
        self.dynamic && self.snapshots
    }

    /// Path of the snapshot inside the container `azure-webjobs-hosts`.
    pub fn blob_path(host_id: &str) -> String {
        format!("concurrency/{host_id}/concurrencyStatus.json")
    }

    /// What the snapshot says about a function. `blob` is `None` when it is missing or cannot be read. The function id is
    /// compared with regard to case.
    pub fn choose(self, blob: Option<&[u8]>, function_id: &str) -> Concurrency {
        if !self.reads_snapshot() {
            return Concurrency::Static;
        }
        // A text that the host cannot parse is as good as no text.
        blob.and_then(|text| read(text, function_id))
            .unwrap_or(Concurrency::Static)
    }
}

impl Concurrency {
    /// The target that follows. On purpose different: where the original raises an exception (values below one) or leaves
    /// the function out, the static target is used, which is known and safe.
    pub fn target(self, fixed: NonZeroU32) -> NonZeroU32 {
        match self {
            Self::Dynamic(learned) => u32::try_from(learned)
                .ok()
                .and_then(NonZeroU32::new)
                .unwrap_or(fixed),
            Self::Static | Self::LeftOut => fixed,
        }
    }
}

/// Reads the snapshot as Newtonsoft.Json reads it into its class: member names without regard to case, numbers also as
/// texts, and one wrong type makes the whole text unreadable (`None`).
fn read(text: &[u8], function_id: &str) -> Option<Concurrency> {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let Value::Object(snapshot) = serde_json::from_slice(text).ok()? else {
        return None;
    };
    if let Some(time) = member(&snapshot, "Timestamp") {
        Pieces::parse(time.as_str()?).ok()?;
    }
    if let Some(cores) = member(&snapshot, "NumberOfCores") {
        number(cores)?;
    }
    let functions = match member(&snapshot, "FunctionSnapshots") {
        None | Some(Value::Null) => return Some(Concurrency::LeftOut),
        Some(Value::Object(functions)) => functions,
        Some(_) => return None,
    };
    let mut found = Concurrency::Static;
    for (name, entry) in functions {
        let concurrency = match entry {
            Value::Null => Concurrency::LeftOut,
            Value::Object(entry) => {
                Concurrency::Dynamic(member(entry, "Concurrency").map_or(Some(0), number)?)
            }
            _ => return None,
        };
        if name == function_id {
            found = concurrency;
        }
    }
    Some(found)
}

fn member<'a>(members: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    members.get(name).or_else(|| {
        members
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    })
}

fn number(value: &Value) -> Option<i32> {
    match value {
        Value::Number(number) => i32::try_from(number.as_i64()?).ok(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}
