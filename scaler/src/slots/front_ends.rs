//! Which front ends there are, and what proves that one is dead.

use super::books::Books;
use super::cluster::Cluster;
use super::pods::PodName;
use super::record::{Member, Record};
use super::role::front_end_of;
use crate::index::Seen;
use k8s_openapi::api::core::v1::Pod;
use maniple_core::slots::message::{FrontEndId, MemberRecord};
use std::collections::{BTreeSet, HashMap};

/// The front ends of the record and their pods.
pub(super) struct FrontEnds {
    members: HashMap<FrontEndId, MemberRecord>,
    /// Members of an earlier term whose pods were watched then, until the first list is compared.
    inherited: Vec<MemberRecord>,
    pods: HashMap<PodName, u128>,
}

impl FrontEnds {
    pub(super) fn new(record: &Record, members: Vec<MemberRecord>) -> Self {
        let watched = record.members.iter().filter(|member| member.watched);
        Self {
            inherited: watched.filter_map(Member::record).collect(),
            members: members
                .into_iter()
                .map(|member| (member.id, member))
                .collect(),
            pods: HashMap::new(),
        }
    }

    pub(super) fn joined(&mut self, member: MemberRecord) {
        self.members.insert(member.id, member);
    }

    pub(super) fn left(&mut self, id: FrontEndId) {
        self.members.remove(&id);
    }

    pub(super) fn members(&self) -> &HashMap<FrontEndId, MemberRecord> {
        &self.members
    }

    /// Whether the pod of a member is among those watched.
    pub(super) fn watches(&self, member: MemberRecord) -> bool {
        self.pods.values().any(|uid| *uid == member.pod.uid)
    }

    fn of_pod(&self, uid: u128) -> Vec<MemberRecord> {
        let members = self.members.values().filter(|member| member.pod.uid == uid);
        members.copied().collect()
    }
}

impl<C: Cluster> Books<C> {
    /// A pod of a front end.
    pub(super) fn front_end_pod(&mut self, seen: &Seen<Pod>, now_ms: u64) {
        let gone = match (seen, front_end_of(seen)) {
            (_, Some((name, state))) if !state.ended => {
                self.front_ends.pods.insert(name, state.uid);
                return;
            }
            (_, Some((name, state))) => {
                self.front_ends.pods.remove(&name);
                Some(state.uid)
            }
            // A forced deletion looks the same while its container may run on: the time that its requests are waited for is the guard.
            (Seen::Gone { namespace, name }, _) => self.front_ends.pods.remove(&PodName {
                namespace: namespace.clone(),
                name: name.clone(),
            }),
            _ => None,
        };
        for member in gone
            .map(|uid| self.front_ends.of_pod(uid))
            .unwrap_or_default()
        {
            self.dead(member, "pod-ended", now_ms);
        }
    }

    /// Members whose pods were seen when they joined, and went while nobody watched.
    pub(super) fn missed_deaths(&mut self, now_ms: u64) {
        let present: BTreeSet<u128> = self.front_ends.pods.values().copied().collect();
        for member in std::mem::take(&mut self.front_ends.inherited) {
            if !present.contains(&member.pod.uid) {
                self.dead(member, "pod-missing", now_ms);
            }
        }
    }

    fn dead(&mut self, member: MemberRecord, proof: &'static str, now_ms: u64) {
        tracing::info!(front_end = ?member.id, proof, "slots: a front end is gone, its slots rest until its requests have ended");
        self.metrics.death(proof);
        let effects = self.role.on_dead(member.id, now_ms);
        self.act(effects);
        self.tell_all(now_ms);
    }
}
