//! What is seen before the first lists of a term are complete.

use super::pods::{PodName, name_of};
use crate::index::Seen;
use k8s_openapi::api::core::v1::Pod;
use std::collections::HashMap;

/// What the first lists of a term show.
#[derive(Default)]
pub(super) struct FirstLists {
    pub(super) seen_instances: HashMap<PodName, Pod>,
    pub(super) seen_front_ends: Vec<Seen<Pod>>,
    pub(super) instances: bool,
    pub(super) front_ends: bool,
}

impl FirstLists {
    pub(super) fn instance(&mut self, seen: Seen<Pod>) {
        match seen {
            Seen::Object(pod) => drop(self.seen_instances.insert(name_of(&pod), *pod)),
            Seen::Gone { namespace, name } => {
                let name = PodName { namespace, name };
                self.seen_instances.remove(&name);
            }
            Seen::Listed => self.instances = true,
            Seen::Unreadable { .. } => {}
        }
    }

    pub(super) fn front_end(&mut self, seen: Seen<Pod>) {
        self.front_ends |= matches!(seen, Seen::Listed);
        self.seen_front_ends.push(seen);
    }
}
