//! The host id: the name under which all instances of an app share locks, timer status and keys.

use md5::{Digest, Md5};

use crate::environment::Environment;

/// Longest host id, in characters. The host cuts longer names.
pub const MAX_LENGTH: usize = 32;

/// Where a host id comes from and what follows from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostId {
    /// Set by `AzureFunctionsWebHost__hostid` or derived from the name of the app: equal on all instances.
    Shared(String),
    /// Derived from the name of the machine: differs per pod, so every pod runs every timer.
    Local(String),
    /// There is none; the host cannot start.
    None,
}

impl HostId {
    /// The id as text.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Shared(id) | Self::Local(id) => Some(id),
            Self::None => None,
        }
    }
}

/// The host id of an environment.
pub fn host_id(environment: &Environment, machine: &str, script_root: &str) -> HostId {
    let set = [
        "AzureFunctionsWebHost__hostid",
        "AzureFunctionsWebHost__HostId",
    ]
    .iter()
    .find_map(|name| environment.get(name));
    if let Some(id) = set {
        return HostId::Shared(id.to_owned());
    }
    if environment.is_flex_consumption() {
        return match environment.unique_slot_name() {
            Some(name) => HostId::Shared(guid_of(&name)),
            None => HostId::None,
        };
    }
    if environment.is_app_service()
        || environment.is_managed_app_environment()
        || environment.is_kubernetes_managed()
    {
        return match environment.unique_slot_name() {
            Some(name) => HostId::Shared(cut(&name)),
            None => HostId::None,
        };
    }
    if environment.is_linux_consumption_on_atlas() {
        return match environment.get("WEBSITE_HOSTNAME") {
            Some(name) => {
                let label = name.split('.').next().unwrap_or(name);
                HostId::Shared(cut(&label.to_lowercase()))
            }
            None => HostId::None,
        };
    }
    let machine: String = machine.chars().filter(|c| c.is_alphanumeric()).collect();
    let hash = i64::from(stable_hash(script_root)).abs();
    HostId::Local(cut(&format!("{machine}-{hash}").to_lowercase()))
}

fn cut(name: &str) -> String {
    let name: String = name.chars().take(MAX_LENGTH).collect();
    name.trim_end_matches('-').to_owned()
}

/// MD5 of a text, its bytes read as a .NET Guid (the first three fields are little-endian), 32 hex digits.
fn guid_of(text: &str) -> String {
    let mut bytes: [u8; 16] = Md5::digest(text.as_bytes()).into();
    bytes[..4].reverse();
    bytes[4..6].reverse();
    bytes[6..8].reverse();
    crate::hex::encode(&bytes)
}

/// The host's hash of a text that is equal on all platforms and in all processes: 32 bits, over UTF-16 units.
pub fn stable_hash(text: &str) -> i32 {
    text.encode_utf16().fold(23_i32, |hash, unit| {
        hash.wrapping_mul(31).wrapping_add(i32::from(unit))
    })
}

/// The id with which an instance takes the lock of the primary host: it depends on the machine name alone.
pub fn primary_lock_owner(machine: &str) -> String {
    format!("{:0>32}", format!("{:X}", stable_hash(machine)))
}
