//! Which front ends there are, and what proves that one is dead.

use super::books::Books;
use super::cluster::Cluster;
use super::pods::{FrontEndState, PodName, name_of};
use super::record::{Member, Record};
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
    /// Processes whose containers have ended.
    ended: BTreeSet<FrontEndId>,
    /// Members that were proved dead in this term.
    dead: BTreeSet<FrontEndId>,
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
            ended: BTreeSet::new(),
            dead: BTreeSet::new(),
        }
    }

    pub(super) fn joined(&mut self, member: MemberRecord) {
        self.members.insert(member.id, member);
    }

    pub(super) fn left(&mut self, id: FrontEndId) {
        self.members.remove(&id);
        self.dead.remove(&id);
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
        if let Some((name, state)) = front_end_of(seen) {
            if state.ended {
                self.front_ends.pods.remove(&name);
                for member in self.front_ends.of_pod(state.uid) {
                    self.dead(member, "pod-ended", now_ms);
                }
            } else {
                self.front_ends.pods.insert(name, state.uid);
            }
            // They stand in the status for as long as the pod is there, also before the record names the front end.
            for id in state.ended_processes {
                self.front_ends.ended.insert(id);
                self.process_ended(id, now_ms);
            }
        } else if let Seen::Gone { namespace, name } = seen {
            let name = PodName {
                namespace: namespace.clone(),
                name: name.clone(),
            };
            let gone = self.front_ends.pods.remove(&name);
            for member in gone
                .map(|uid| self.front_ends.of_pod(uid))
                .unwrap_or_default()
            {
                tracing::warn!(front_end = ?member.id, "slots: the pod of a front end was forced away, which does not prove that it has ended; its slots stay with it until it has been silent for a minute");
                self.metrics.death("none");
                let effects = self.role.on_lost(member.id, now_ms);
                self.act(effects);
            }
        }
    }

    /// What is known of the end of a process, once it is a member.
    pub(super) fn process_ended(&mut self, id: FrontEndId, now_ms: u64) {
        if self.front_ends.ended.contains(&id)
            && let Some(member) = self.front_ends.members.get(&id).copied()
        {
            self.dead(member, "process-ended", now_ms);
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
        if !self.front_ends.dead.insert(member.id) {
            return;
        }
        tracing::info!(front_end = ?member.id, proof, "slots: a front end is gone, its slots rest until its requests have ended");
        self.metrics.death(proof);
        let effects = self.role.on_dead(member.id, now_ms);
        self.act(effects);
        self.tell_all(now_ms);
    }
}

fn front_end_of(seen: &Seen<Pod>) -> Option<(PodName, FrontEndState)> {
    match seen {
        Seen::Object(pod) => Some((name_of(pod), FrontEndState::read(pod)?)),
        _ => None,
    }
}
