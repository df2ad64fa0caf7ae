//! The books of one term, joined with streams, pods and writes.

use super::cluster::Cluster;
use super::outside::{Done, Outside};
use super::peaks::Peaks;
use super::pods::{InstancePod, PodName, group_id};
use super::record::Record;
use super::role::front_end_of;
use super::service::ConnectionId;
use super::starts::PodStart;
use super::view::{DemandEvent, GroupView, PodCounts, RoleView};
use super::wire::{encode_from_data_role, encode_start};
use crate::index::{GroupKey, GroupPlan, HttpPlan, Seen};
use k8s_openapi::api::core::v1::Pod;
use maniple_core::slots::RemovalState;
use maniple_core::slots::data_role::{DataRole, Deposed, Effect, Effects, InstanceSpec, Settings};
use maniple_core::slots::message::{
    DataRoleSays, FrontEndId, FrontEndSays, GroupId, InstanceUid, MemberRecord, Rank, Session,
    Tier, ToDataRole, ToFrontEnd,
};
use maniple_proto::slots::FromDataRole;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Who speaks on a stream.
#[derive(Debug)]
struct Speaker {
    id: FrontEndId,
    session: Session,
    to: mpsc::UnboundedSender<FromDataRole>,
}

/// What is declared for a group.
struct Declared {
    key: GroupKey,
    http: HttpPlan,
    always_ready: usize,
}

#[derive(Debug)]
struct Instance {
    pod: InstancePod,
    claiming: bool,
    /// Whether it is empty and goes first when the count is lowered.
    removable: bool,
    /// What the books were told last.
    told: Option<InstanceSpec>,
    /// None when it had an address before this process saw it.
    start: Option<PodStart>,
}

/// The books of one term.
pub(super) struct Books<C> {
    role: DataRole,
    outside: Outside<C>,
    demand: mpsc::UnboundedSender<DemandEvent>,
    served: bool,
    members: HashMap<FrontEndId, MemberRecord>,
    /// Members of an earlier term whose pods were watched then, until the first list is compared.
    inherited: Vec<MemberRecord>,
    speakers: HashMap<ConnectionId, Speaker>,
    streams: HashMap<FrontEndId, ConnectionId>,
    front_ends: HashMap<PodName, u128>,
    instances: BTreeMap<PodName, Instance>,
    names: HashMap<InstanceUid, PodName>,
    groups: HashMap<GroupId, Declared>,
    wanted: HashMap<GroupId, u32>,
    /// When more instances of a group were last wanted than before.
    rises: HashMap<GroupId, Instant>,
    peaks: HashMap<GroupId, Peaks>,
    told: HashMap<GroupId, GroupView>,
    /// Empty instances that have gone, by group.
    departed: HashMap<GroupId, u64>,
    hellos: u64,
    listing: bool,
}

impl<C: Cluster> Books<C> {
    pub(super) fn new(
        record: Record,
        members: Vec<MemberRecord>,
        settings: Settings,
        outside: Outside<C>,
        demand: mpsc::UnboundedSender<DemandEvent>,
        now_ms: u64,
    ) -> Self {
        let watched = record.members.iter().filter(|member| member.watched);
        let inherited = watched.filter_map(super::record::Member::record).collect();
        let (role, _) =
            DataRole::takeover(outside.epoch, members.iter().copied(), [], settings, now_ms);
        Self {
            role,
            outside,
            demand,
            served: record.served,
            members: members
                .into_iter()
                .map(|member| (member.id, member))
                .collect(),
            inherited,
            speakers: HashMap::new(),
            streams: HashMap::new(),
            front_ends: HashMap::new(),
            instances: BTreeMap::new(),
            names: HashMap::new(),
            groups: HashMap::new(),
            wanted: HashMap::new(),
            rises: HashMap::new(),
            peaks: HashMap::new(),
            told: HashMap::new(),
            departed: HashMap::new(),
            hellos: 0,
            listing: false,
        }
    }

    pub(super) fn epoch(&self) -> u64 {
        self.role.epoch().0
    }

    /// Everything that the first lists show is told: from now on it counts.
    pub(super) fn begin(&mut self, now_ms: u64) {
        let present: BTreeSet<u128> = self.front_ends.values().copied().collect();
        for member in std::mem::take(&mut self.inherited) {
            // Its pod was seen when it joined, and went while nobody watched.
            if !present.contains(&member.pod.uid) {
                self.dead(member, now_ms);
            }
        }
        self.tell_role();
        self.tell_all(now_ms);
    }

    fn tell_role(&self) {
        let role = if self.served {
            RoleView::Counting
        } else {
            RoleView::Uncounted
        };
        let _ = self.demand.send(DemandEvent::Role(role));
    }

    /// The first word on a stream.
    pub(super) fn welcome(&self, to: &mpsc::UnboundedSender<FromDataRole>) {
        let _ = to.send(encode_from_data_role(&self.role.lead()));
    }

    /// A message of a front end.
    pub(super) fn said(
        &mut self,
        connection: ConnectionId,
        to: &mpsc::UnboundedSender<FromDataRole>,
        message: &ToDataRole,
        now_ms: u64,
    ) -> Result<(), Deposed> {
        let session = message.header.session;
        let mut touched: Vec<GroupId> = Vec::new();
        let mut all = false;
        let from = match &message.body {
            FrontEndSays::Hello(hello) => {
                let id = hello.member.id;
                let before = self
                    .streams
                    .get(&id)
                    .and_then(|known| self.speakers.get(known));
                if before.is_some_and(|before| before.session >= session) {
                    return Ok(());
                }
                if let Some(older) = self.streams.insert(id, connection)
                    && older != connection
                {
                    self.speakers.remove(&older);
                }
                let to = to.clone();
                self.speakers
                    .insert(connection, Speaker { id, session, to });
                self.hellos += 1;
                all = true;
                let known = |uid: &InstanceUid| self.names.contains_key(uid);
                if hello.slots.iter().any(|slots| !known(&slots.uid)) {
                    self.list();
                }
                id
            }
            body => {
                if let FrontEndSays::Sync(sync) = body {
                    touched.extend(sync.demand.iter().map(|demand| demand.group.clone()));
                }
                match self.speakers.get(&connection) {
                    Some(speaker) => speaker.id,
                    // A Stale comes without a Hello before it; nothing else does.
                    None => FrontEndId(0),
                }
            }
        };
        let effects = self.role.on_message(from, message, now_ms)?;
        self.act(effects);
        if all {
            self.tell_all(now_ms);
        } else {
            for group in touched {
                self.tell(&group, now_ms);
            }
        }
        Ok(())
    }

    /// A stream ended.
    pub(super) fn closed(&mut self, connection: ConnectionId, now_ms: u64) {
        if let Some(speaker) = self.speakers.remove(&connection) {
            self.streams.remove(&speaker.id);
            self.role
                .on_disconnected(speaker.id, speaker.session, now_ms);
            self.tell_all(now_ms);
        }
    }

    /// A pod of a front end.
    pub(super) fn front_end_pod(&mut self, seen: Seen<Pod>, now_ms: u64) {
        let gone = match (&seen, front_end_of(&seen)) {
            (_, Some((name, state))) if !state.ended => {
                self.front_ends.insert(name, state.uid);
                return;
            }
            (_, Some((name, state))) => {
                self.front_ends.remove(&name);
                Some(state.uid)
            }
            // A forced deletion looks the same while its container may run on: the time that its requests are waited for is the guard.
            (Seen::Gone { namespace, name }, _) => self.front_ends.remove(&PodName {
                namespace: namespace.clone(),
                name: name.clone(),
            }),
            _ => None,
        };
        let Some(gone) = gone else {
            return;
        };
        let dead: Vec<_> = self
            .members
            .values()
            .filter(|m| m.pod.uid == gone)
            .copied()
            .collect();
        for member in dead {
            self.dead(member, now_ms);
        }
    }

    fn dead(&mut self, member: MemberRecord, now_ms: u64) {
        tracing::info!(front_end = ?member.id, "slots: a front end is gone, its slots rest until its requests have ended");
        let effects = self.role.on_dead(member.id, now_ms);
        self.act(effects);
        self.tell_all(now_ms);
    }

    /// The plan of a group.
    pub(super) fn plan(&mut self, plan: &GroupPlan, now_ms: u64) {
        let Some(http) = &plan.http else {
            return;
        };
        let app = &plan.key.app;
        let group = group_id(&app.namespace, &app.name, plan.key.group());
        let declared = Declared {
            key: plan.key.clone(),
            http: http.clone(),
            always_ready: plan.spec.always_ready as usize,
        };
        self.groups.insert(group.clone(), declared);
        self.arrange(&group, now_ms);
        self.tell(&group, now_ms);
    }

    /// There is no such group any more. Its instances stay in the books until their pods are gone.
    pub(super) fn unplan(&mut self, key: &GroupKey) {
        let group = group_id(&key.app.namespace, &key.app.name, key.group());
        self.groups.remove(&group);
        self.wanted.remove(&group);
        self.rises.remove(&group);
        self.peaks.remove(&group);
        self.told.remove(&group);
    }

    /// The number that was decided.
    pub(super) fn want(&mut self, group: &GroupKey, desired: Option<u32>, now_ms: u64) {
        let group = group_id(&group.app.namespace, &group.app.name, group.group());
        let before = match desired {
            Some(desired) => self.wanted.insert(group.clone(), desired),
            None => self.wanted.remove(&group),
        };
        if desired > Some(before.unwrap_or(0)) {
            self.rises.insert(group.clone(), Instant::now());
        }
        self.shrink(&group, now_ms);
    }

    /// A pod of an instance, or that it is gone.
    pub(super) fn pod(&mut self, name: PodName, pod: Option<Pod>, now_ms: u64) {
        let pod = pod
            .as_ref()
            .and_then(InstancePod::read)
            .filter(|pod| !pod.ended);
        let before = self
            .instances
            .get(&name)
            .map(|known| (known.pod.uid, known.pod.group.clone()));
        if let Some((uid, group)) = before
            && pod.as_ref().is_none_or(|pod| pod.uid != uid)
        {
            let gone = self.instances.remove(&name);
            if gone.is_some_and(|gone| gone.removable && !gone.pod.terminating) {
                *self.departed.entry(group.clone()).or_default() += 1;
            }
            self.names.remove(&uid);
            let effects = self.role.on_instance_gone(uid, now_ms);
            self.act(effects);
            self.arrange(&group, now_ms);
            self.tell(&group, now_ms);
        }
        let Some(mut pod) = pod else {
            return;
        };
        let (uid, group) = (pod.uid, pod.group.clone());
        self.names.insert(uid, name.clone());
        let known = self.instances.remove(&name);
        // What was written here may not have come back yet.
        if let Some(known) = &known {
            pod.claim = pod.claim.or(known.pod.claim);
            pod.marked |= known.pod.marked;
        }
        if known
            .as_ref()
            .is_some_and(|known| known.removable && !known.pod.terminating && pod.terminating)
        {
            *self.departed.entry(group.clone()).or_default() += 1;
        }
        let (young, decided) = (pod.ip.is_none(), self.rises.get(&group).copied());
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
            // Long before it has an address, so that no request waits for this write.
            instance.claiming = true;
            self.outside.claim(uid, name.clone());
        }
        self.instances.insert(name, instance);
        self.arrange(&group, now_ms);
        self.tell(&group, now_ms);
    }

    /// Tells the books of every instance of a group that changed. Ranks depend on all of them.
    fn arrange(&mut self, group: &GroupId, now_ms: u64) {
        let Some(declared) = self.groups.get(group) else {
            return;
        };
        let mut all: Vec<_> = self
            .instances
            .iter_mut()
            .filter(|(_, instance)| instance.pod.group == *group)
            .collect();
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
        for spec in changed {
            let effects = self.role.on_instance(spec, now_ms);
            self.act(effects);
        }
    }

    /// Time passed.
    pub(super) fn tick(&mut self, now_ms: u64) {
        let effects = self.role.tick(now_ms);
        self.act(effects);
        let groups: Vec<GroupId> = self.groups.keys().cloned().collect();
        for group in groups {
            self.tell(&group, now_ms);
            self.role.end_peak_window(&group);
            self.shrink(&group, now_ms);
        }
    }

    /// The outcome of a write.
    pub(super) fn done(&mut self, done: Done, now_ms: u64) {
        let effects = match done {
            Done::Added(member) => {
                self.members.insert(member.id, member);
                if !self.served {
                    self.served = true;
                    self.tell_role();
                }
                let effects = self.role.on_member_added(member, now_ms);
                self.act(effects);
                self.tell_all(now_ms);
                return;
            }
            Done::Removed(id) => {
                self.members.remove(&id);
                self.role.on_member_removed(id, now_ms)
            }
            Done::Confirmed(uid) => self.role.on_record_confirmed(uid),
            Done::Claimed(uid, claim) => {
                if let Some(instance) = self.instance_mut(uid) {
                    instance.pod.claim.get_or_insert(claim);
                    instance.claiming = false;
                }
                self.role.on_claim(uid, claim, now_ms)
            }
            Done::Marked(uid) => {
                if let Some(instance) = self.instance_mut(uid) {
                    instance.pod.marked = true;
                }
                self.role.on_drain_marked(uid, now_ms)
            }
            Done::CostLowered(uid) => {
                if let Some(instance) = self.instance_mut(uid) {
                    instance.removable = true;
                }
                Effects::new()
            }
            Done::Listed { present, hellos } => {
                self.listing = false;
                if hellos == self.hellos {
                    self.role.on_listed(&present, now_ms)
                } else {
                    self.list();
                    Effects::new()
                }
            }
            Done::Gone => Effects::new(),
        };
        self.act(effects);
        self.tell_all(now_ms);
    }

    fn instance_mut(&mut self, uid: InstanceUid) -> Option<&mut Instance> {
        self.instances.get_mut(self.names.get(&uid)?)
    }

    fn list(&mut self) {
        if !self.listing {
            self.listing = true;
            self.outside.list(self.hellos);
        }
    }

    fn act(&mut self, effects: Effects) {
        for effect in effects {
            match effect {
                Effect::Send { to, message } => {
                    let stream = self.streams.get(&to).and_then(|id| self.speakers.get(id));
                    if let Some(stream) = stream.filter(|s| s.session == message.header.session) {
                        let _ = stream.to.send(self.encode(&message));
                    }
                }
                Effect::AddMember(member) => {
                    let watched = self.front_ends.values().any(|uid| *uid == member.pod.uid);
                    if !watched {
                        tracing::warn!(front_end = ?member.id, "slots: the pod of this front end is not among those watched, its end will not be seen");
                    }
                    self.outside.add_member(member, watched);
                }
                Effect::RemoveMember(id) => self.outside.remove_member(id),
                Effect::ConfirmRecord(uid) => self.outside.confirm(uid),
                Effect::Claim(uid) => {
                    if let Some(name) = self.names.get(&uid).cloned()
                        && let Some(instance) = self.instances.get_mut(&name)
                        && !instance.claiming
                    {
                        instance.claiming = true;
                        self.outside.claim(uid, name);
                    }
                }
                Effect::MarkDrain(uid) => {
                    if let Some(name) = self.names.get(&uid).cloned() {
                        self.outside.mark(uid, name);
                    }
                }
                Effect::Delete(uid) => {
                    if let Some(name) = self.names.get(&uid).cloned() {
                        self.outside.lower_cost(uid, name);
                    }
                }
            }
        }
    }

    fn encode(&self, message: &ToFrontEnd) -> FromDataRole {
        let ages = match &message.body {
            DataRoleSays::Instance(info) => self.names.get(&info.uid),
            _ => None,
        };
        let ages = ages.and_then(|name| self.instances.get(name)?.start?.ages());
        match ages {
            Some(ages) => encode_start(message, &ages),
            None => encode_from_data_role(message),
        }
    }

    /// Lets go what is more than wanted: unready ones first, then empty ones, the youngest first.
    fn shrink(&mut self, group: &GroupId, now_ms: u64) {
        let Some(&desired) = self.wanted.get(group) else {
            return;
        };
        let counts = self.count(group);
        let serving = counts.live - counts.draining - counts.removable;
        let surplus = serving.saturating_sub(desired) as usize;
        if surplus == 0 {
            return;
        }
        let mut candidates: Vec<_> = self
            .of(group)
            .filter(|instance| !instance.pod.terminating)
            .map(|instance| (instance, instance.pod.uid))
            .filter(|(_, uid)| self.role.removal(*uid) == Some(RemovalState::Serving))
            .map(|(instance, uid)| {
                let rank = self.role.instance(uid).map(|spec| spec.rank);
                (instance.pod.ready, Reverse((rank, uid)), uid)
            })
            .collect();
        candidates.sort_unstable();
        let idle: Vec<_> = candidates
            .iter()
            .map(|(.., uid)| *uid)
            .filter(|uid| self.role.leased(*uid) == 0)
            .take(surplus)
            .collect();
        let leaving = if idle.is_empty() && counts.draining == 0 {
            // All are busy: the youngest one finishes what it has.
            let youngest = candidates.first().map(|(.., uid)| *uid);
            youngest.into_iter().collect()
        } else {
            idle
        };
        for uid in leaving {
            let effects = self.role.remove(uid, now_ms);
            self.act(effects);
        }
        self.tell(group, now_ms);
    }

    fn of<'a>(&'a self, group: &'a GroupId) -> impl Iterator<Item = &'a Instance> {
        let all = self.instances.values();
        all.filter(move |instance| instance.pod.group == *group)
    }

    fn count(&self, group: &GroupId) -> PodCounts {
        let mut counts = PodCounts {
            rest_ready: true,
            departed: self.departed.get(group).copied().unwrap_or(0),
            ..PodCounts::default()
        };
        for instance in self.of(group).filter(|i| !i.pod.terminating) {
            counts.live += 1;
            if instance.removable {
                counts.removable += 1;
                continue;
            }
            counts.rest_ready &= instance.pod.ready;
            let removal = self.role.removal(instance.pod.uid);
            if removal.is_some_and(|state| state != RemovalState::Serving) || instance.pod.marked {
                counts.draining += 1;
            }
        }
        counts
    }

    fn tell_all(&mut self, now_ms: u64) {
        let groups: Vec<GroupId> = self.groups.keys().cloned().collect();
        for group in groups {
            self.tell(&group, now_ms);
        }
    }

    /// Tells the engine what is new of a group.
    fn tell(&mut self, group: &GroupId, now_ms: u64) {
        let Some(declared) = self.groups.get(group) else {
            return;
        };
        let demand = self.role.demand(group, now_ms);
        let peaks = self.peaks.entry(group.clone()).or_default();
        let view = GroupView {
            current: demand.current,
            peak: peaks.put(demand.peak.max(demand.current), now_ms),
            incomplete: demand.incomplete,
            pods: self.count(group),
        };
        if self.told.get(group) != Some(&view) {
            self.told.insert(group.clone(), view);
            let _ = self
                .demand
                .send(DemandEvent::Group(declared.key.clone(), view));
        }
    }
}
