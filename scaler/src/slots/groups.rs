//! The groups: what is declared of each, what is seen of its instances, and what the engine was told.

use super::pods::{InstancePod, PodName};
use super::role::Aim;
use super::starts::PodStart;
use super::view::{GroupView, PodCounts};
use crate::index::{GroupKey, HttpPlan};
use maniple_core::slots::RemovalState;
use maniple_core::slots::data_role::{DataRole, InstanceSpec};
use maniple_core::slots::gauge::Gauge;
use maniple_core::slots::message::{FrontEndId, GroupDemand, GroupId, InstanceUid, Rank, Tier};
use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use tokio::time::Instant;

/// What is declared for a group.
pub(super) struct Declared {
    pub(super) key: GroupKey,
    pub(super) http: HttpPlan,
    pub(super) always_ready: usize,
}

/// An instance as its pod shows it, with what was written there.
#[derive(Debug)]
pub(super) struct Instance {
    pub(super) pod: InstancePod,
    pub(super) claiming: bool,
    /// Whether it is empty and goes first when the count is lowered.
    pub(super) removable: bool,
    /// What the books were told last.
    told: Option<InstanceSpec>,
    /// None when it had an address before this process saw it.
    pub(super) start: Option<PodStart>,
}

/// One group.
#[derive(Default)]
pub(super) struct Group {
    /// None when its app is gone and its pods are not.
    pub(super) declared: Option<Declared>,
    pub(super) instances: BTreeMap<PodName, Instance>,
    wanted: Option<Aim>,
    /// When more instances were last wanted than before.
    rise: Option<Instant>,
    gauge: Gauge,
    told: Option<GroupView>,
    /// Empty instances that have gone.
    departed: u64,
}

impl Group {
    /// The number that was decided.
    pub(super) fn want(&mut self, aim: Option<Aim>) {
        let before = std::mem::replace(&mut self.wanted, aim);
        let desired = |aim: Option<Aim>| aim.map_or(0, |aim| aim.desired);
        if desired(aim) > desired(before) {
            self.rise = Some(Instant::now());
        }
    }

    /// Whether its count is written here.
    pub(super) fn is_ours(&self) -> bool {
        self.wanted.is_some()
    }

    /// What the books have to hear of its instances. Ranks depend on all of them.
    pub(super) fn arrange(&mut self, group: &GroupId) -> Vec<InstanceSpec> {
        let Some(declared) = &self.declared else {
            return Vec::new();
        };
        let mut all: Vec<_> = self.instances.iter_mut().collect();
        all.sort_by(|(a, left), (b, right)| (left.pod.created, a).cmp(&(right.pod.created, b)));
        let mut changed = Vec::new();
        for (place, (_, instance)) in all.into_iter().enumerate() {
            let pod = &instance.pod;
            let Some(ip) = pod.ip else {
                continue;
            };
            let tier = if place < declared.always_ready {
                Tier::AlwaysReady
            } else {
                Tier::OnDemand
            };
            let limit = declared.http.function_timeout;
            let spec = InstanceSpec {
                uid: pod.uid,
                group: group.clone(),
                address: SocketAddr::new(ip, declared.http.port),
                cap: declared.http.concurrency,
                rank: Rank {
                    tier,
                    age: pod.created,
                },
                claim: pod.claim,
                draining: pod.marked || pod.terminating,
                function_timeout_ms: limit.map(|limit| limit.as_millis() as u64),
            };
            if instance.told.as_ref() != Some(&spec) {
                instance.told = Some(spec.clone());
                changed.push(spec);
            }
        }
        changed
    }

    /// Its pods.
    pub(super) fn count(&self, role: &DataRole) -> PodCounts {
        let mut counts = PodCounts {
            rest_ready: true,
            departed: self.departed,
            ..PodCounts::default()
        };
        for instance in self.instances.values().filter(|i| !i.pod.terminating) {
            counts.live += 1;
            if instance.removable {
                counts.removable += 1;
                continue;
            }
            counts.rest_ready &= instance.pod.ready;
            let removal = role.removal(instance.pod.uid);
            if removal.is_some_and(|state| state != RemovalState::Serving) || instance.pod.marked {
                counts.draining += 1;
            }
        }
        counts
    }

    /// What a front end saw of itself since its last report.
    pub(super) fn reported(&mut self, from: FrontEndId, report: &GroupDemand, now_ms: u64) {
        self.gauge.put(from, report, now_ms);
    }

    /// When requests that are too many for the instances have to be looked at again.
    pub(super) fn surge_due_ms(&self, now_ms: u64) -> Option<u64> {
        self.gauge.due_ms(now_ms)
    }

    /// What is new for the engine.
    pub(super) fn news(
        &mut self,
        group: &GroupId,
        role: &DataRole,
        now_ms: u64,
    ) -> Option<(GroupKey, GroupView)> {
        let key = &self.declared.as_ref()?.key;
        let reading = self.gauge.read(role, group, now_ms);
        let view = GroupView {
            current: reading.current,
            peak: reading.peak,
            incomplete: reading.incomplete,
            pods: self.count(role),
        };
        if self.told == Some(view) {
            return None;
        }
        self.told = Some(view);
        Some((key.clone(), view))
    }

    /// Instances that are more than wanted and may leave now: unready ones first, then empty ones, the youngest first. When all are
    /// busy and none leaves yet, the youngest one finishes what it has.
    pub(super) fn surplus(&self, role: &DataRole) -> Vec<InstanceUid> {
        let Some(wanted) = self.wanted else {
            return Vec::new();
        };
        let counts = self.count(role);
        // While a new version comes there are more pods than the count says, and which of them stay is not decided here.
        if counts.live > wanted.most && wanted.desired > 0 {
            return Vec::new();
        }
        let serving = counts.live - counts.draining - counts.removable;
        let surplus = serving.saturating_sub(wanted.desired) as usize;
        if surplus == 0 {
            return Vec::new();
        }
        let serving = |uid: &InstanceUid| role.removal(*uid) == Some(RemovalState::Serving);
        let pods = self.instances.values().map(|instance| &instance.pod);
        let mut candidates: Vec<_> = pods
            .filter(|pod| !pod.terminating && serving(&pod.uid))
            .map(|pod| {
                let rank = role.instance(pod.uid).map(|spec| spec.rank);
                (pod.ready, Reverse((rank, pod.uid)), pod.uid)
            })
            .collect();
        candidates.sort_unstable();
        let candidates = candidates.into_iter().map(|(.., uid)| uid);
        let idle: Vec<_> = candidates
            .clone()
            .filter(|uid| role.leased(*uid) == 0)
            .take(surplus)
            .collect();
        if idle.is_empty() && counts.draining == 0 {
            candidates.take(1).collect()
        } else {
            idle
        }
    }
}

/// All groups.
#[derive(Default)]
pub(super) struct Groups {
    groups: HashMap<GroupId, Group>,
    pods: HashMap<PodName, (GroupId, InstanceUid)>,
    names: HashMap<InstanceUid, PodName>,
}

/// What a look at a pod showed.
#[derive(Debug, Default)]
pub(super) struct PodNews {
    /// An instance that is gone.
    pub(super) gone: Option<(GroupId, InstanceUid)>,
    /// The group of the instance that is there.
    pub(super) there: Option<GroupId>,
    /// Whether an empty instance has just gone.
    pub(super) departed: bool,
    /// An instance that nobody has claimed yet.
    pub(super) unclaimed: Option<InstanceUid>,
}

impl Groups {
    pub(super) fn get(&self, group: &GroupId) -> Option<&Group> {
        self.groups.get(group)
    }

    pub(super) fn get_mut(&mut self, group: &GroupId) -> Option<&mut Group> {
        self.groups.get_mut(group)
    }

    /// The group, made when there is none.
    pub(super) fn entry(&mut self, group: &GroupId) -> &mut Group {
        self.groups.entry(group.clone()).or_default()
    }

    /// Every group that is declared.
    pub(super) fn declared(&self) -> Vec<GroupId> {
        let declared = self.groups.iter().filter(|(_, g)| g.declared.is_some());
        declared.map(|(group, _)| group.clone()).collect()
    }

    /// The app is gone. Instances stay until their pods are.
    pub(super) fn undeclare(&mut self, group: &GroupId) {
        if let Some(known) = self.groups.get_mut(group) {
            let instances = std::mem::take(&mut known.instances);
            *known = Group {
                instances,
                ..Group::default()
            };
            self.clean(group);
        }
    }

    fn clean(&mut self, group: &GroupId) {
        let empty = |group: &Group| group.declared.is_none() && group.instances.is_empty();
        if self.groups.get(group).is_some_and(empty) {
            self.groups.remove(group);
        }
    }

    pub(super) fn knows(&self, uid: InstanceUid) -> bool {
        self.names.contains_key(&uid)
    }

    pub(super) fn name(&self, uid: InstanceUid) -> Option<&PodName> {
        self.names.get(&uid)
    }

    pub(super) fn group_of(&self, uid: InstanceUid) -> Option<&GroupId> {
        let (group, _) = self.pods.get(self.names.get(&uid)?)?;
        Some(group)
    }

    pub(super) fn instance(&self, uid: InstanceUid) -> Option<&Instance> {
        let name = self.names.get(&uid)?;
        let (group, _) = self.pods.get(name)?;
        self.groups.get(group)?.instances.get(name)
    }

    pub(super) fn instance_mut(&mut self, uid: InstanceUid) -> Option<&mut Instance> {
        let name = self.names.get(&uid)?;
        let (group, _) = self.pods.get(name)?;
        self.groups.get_mut(group)?.instances.get_mut(name)
    }

    /// Takes in a pod, or that there is none of that name.
    pub(super) fn see(&mut self, name: &PodName, pod: Option<InstancePod>) -> PodNews {
        let mut news = PodNews::default();
        let before = self.pods.get(name).cloned();
        if let Some((group, uid)) = before
            && pod.as_ref().is_none_or(|pod| pod.uid != uid)
        {
            self.pods.remove(name);
            self.names.remove(&uid);
            if let Some(known) = self.groups.get_mut(&group) {
                let gone = known.instances.remove(name);
                if gone.is_some_and(|gone| gone.removable && !gone.pod.terminating) {
                    known.departed += 1;
                    news.departed = true;
                }
            }
            self.clean(&group);
            news.gone = Some((group, uid));
        }
        let Some(mut pod) = pod else {
            return news;
        };
        let (uid, id) = (pod.uid, pod.group.clone());
        self.names.insert(uid, name.clone());
        self.pods.insert(name.clone(), (id.clone(), uid));
        let group = self.groups.entry(id.clone()).or_default();
        let known = group.instances.remove(name);
        // What was written here may not have come back yet.
        if let Some(known) = &known {
            pod.claim = pod.claim.or(known.pod.claim);
            pod.marked |= known.pod.marked;
            if known.removable && !known.pod.terminating && pod.terminating {
                group.departed += 1;
                news.departed = true;
            }
        }
        let (young, decided) = (pod.ip.is_none(), group.rise);
        let mut instance = Instance {
            pod,
            claiming: known.as_ref().is_some_and(|known| known.claiming),
            removable: known.as_ref().is_some_and(|known| known.removable),
            start: match &known {
                Some(known) => known.start,
                None => young.then(|| PodStart::new(decided)),
            },
            told: known.and_then(|known| known.told),
        };
        if let (Some(_), Some(start)) = (instance.pod.ip, &mut instance.start) {
            start.addressed();
        }
        if instance.pod.claim.is_none() && !instance.claiming {
            instance.claiming = true;
            news.unclaimed = Some(uid);
        }
        group.instances.insert(name.clone(), instance);
        news.there = Some(id);
        news
    }
}
