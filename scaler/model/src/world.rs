//! The state of the world and what may happen in it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{Ipv4Addr, SocketAddr};

use maniple_core::slots::{
    data_role::{DataRole, Effect, InstanceSpec, Settings},
    front_end::FrontEnd,
    message::{
        Epoch, FrontEndId, FrontEndPod, GroupId, InstanceUid, MemberRecord, Rank, Session, Tier,
        ToDataRole, ToFrontEnd,
    },
    pool::SlotPool,
};

use crate::{
    action::{Action, Packet},
    pool::PlainPool,
    setup::{Setup, Wrong},
};

/// The one group of the world.
pub fn group() -> GroupId {
    GroupId::new("g")
}

/// A front end process.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FrontEndNode {
    /// Its control state.
    pub control: FrontEnd,
    /// Its words.
    pub pool: PlainPool,
    /// How far it is.
    pub life: NodeLife,
    /// Requests still to arrive.
    pub arrivals: u8,
    /// The stream that it follows.
    pub follows: Option<(usize, u8)>,
}

/// Life of a front end process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NodeLife {
    /// Not started.
    Unborn,
    /// Serves.
    Up,
    /// Takes no new requests and returns what it holds.
    Leaving,
    /// Ended in order.
    Left,
    /// Died, not yet proved.
    Crashed,
    /// Died and proved.
    Proved,
}

impl NodeLife {
    /// Whether the process runs.
    pub fn runs(self) -> bool {
        matches!(self, Self::Up | Self::Leaving)
    }
}

/// A data role process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct DataRoleNode {
    /// Its books, when it leads or believes so.
    pub role: Option<DataRole>,
    /// Whether it has ended.
    pub ended: bool,
    /// Writes to the cluster under way, in order.
    pub writes: VecDeque<Effect>,
    /// Stream of the session of each front end.
    pub streams: BTreeMap<usize, (Session, u8)>,
}

/// The truth about an instance.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct InstanceNode {
    /// Whether it exists.
    pub present: bool,
    /// Whether it was deleted.
    pub deleted: bool,
    /// The claim on the pod.
    pub claim: Option<Epoch>,
    /// The drain mark on the pod.
    pub draining: bool,
    /// The cap in force.
    pub cap: u16,
    /// The highest cap that was ever in force.
    pub bound: u16,
    /// Requests running, by front end.
    pub running: Vec<u16>,
    /// Requests sent and not arrived, by front end.
    pub wire: Vec<u16>,
    /// Requests running whose front end is gone.
    pub orphans: u16,
}

impl InstanceNode {
    /// Everything that runs there.
    pub fn total(&self) -> u16 {
        self.running.iter().sum::<u16>() + self.orphans
    }
}

/// A queue of one stream and direction.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Message {
    /// Towards the front end.
    Down(ToFrontEnd),
    /// Towards the data role.
    Up(ToDataRole),
}

/// The state.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct World {
    /// Front ends.
    pub fes: Vec<FrontEndNode>,
    /// Data roles.
    pub drs: Vec<DataRoleNode>,
    /// Instances.
    pub instances: Vec<InstanceNode>,
    /// The record: epoch and members.
    pub record: (Epoch, BTreeMap<FrontEndId, MemberRecord>),
    /// Newest stream between two processes and whether it is up.
    pub links: BTreeMap<(usize, usize), (u8, bool)>,
    /// Messages under way by front end, data role, stream, direction.
    pub net: BTreeMap<(usize, usize, u8, bool), VecDeque<Message>>,
    /// Budgets left.
    pub left: Budgets,
    /// The first broken invariant.
    pub broken: Option<&'static str>,
}

/// Events that may still happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub struct Budgets {
    pub idle_returns: u8,
    pub cancels: u8,
    pub cuts: u8,
    pub front_end_crashes: u8,
    pub data_role_crashes: u8,
    pub depositions: u8,
    pub removals: u8,
    pub cap_changes: u8,
    pub duplicates: u8,
    pub leaves: u8,
}

/// The member at index `fe`.
pub fn member(fe: usize) -> MemberRecord {
    MemberRecord {
        id: FrontEndId(fe as u128),
        pod: FrontEndPod {
            uid: fe as u128,
            restarts: 0,
        },
    }
}

/// The uid of the instance at index `i`.
pub fn uid(i: usize) -> InstanceUid {
    InstanceUid(i as u128)
}

impl World {
    /// The world at rest: every member has said Hello, nothing has arrived.
    pub fn new(setup: &Setup) -> Self {
        let all = setup.front_ends + setup.joins;
        let fes = (0..all)
            .map(|fe| FrontEndNode {
                control: {
                    let mut control = FrontEnd::new(member(fe));
                    control.know_group(&group());
                    control
                },
                pool: PlainPool::default(),
                life: if fe < setup.front_ends {
                    NodeLife::Up
                } else {
                    NodeLife::Unborn
                },
                arrivals: setup.arrivals[fe],
                follows: None,
            })
            .collect();
        let instances = (0..setup.instances + setup.late_instances)
            .map(|i| InstanceNode {
                present: i < setup.instances,
                deleted: false,
                claim: None,
                draining: false,
                cap: setup.cap,
                bound: setup.cap.max(setup.new_cap.unwrap_or(0)),
                running: vec![0; all],
                wire: vec![0; all],
                orphans: 0,
            })
            .collect();
        let mut world = Self {
            fes,
            drs: vec![DataRoleNode::default(); setup.data_roles],
            instances,
            record: (
                Epoch(0),
                (0..setup.front_ends)
                    .map(|fe| (member(fe).id, member(fe)))
                    .collect(),
            ),
            links: BTreeMap::new(),
            net: BTreeMap::new(),
            left: Budgets {
                idle_returns: setup.idle_returns,
                cancels: setup.cancels,
                cuts: setup.cuts,
                front_end_crashes: setup.front_end_crashes,
                data_role_crashes: setup.data_role_crashes,
                depositions: setup.depositions,
                removals: setup.removals,
                cap_changes: u8::from(setup.new_cap.is_some()),
                duplicates: setup.duplicates,
                leaves: setup.leaves,
            },
            broken: None,
        };
        let right = Setup {
            wrong: None,
            ..*setup
        };
        world.step(&right, Action::Takeover(0));
        loop {
            let next = world
                .progress(&right)
                .into_iter()
                .find(|a| !matches!(a, Action::Takeover(_)));
            let Some(action) = next else { break };
            world.step(&right, action);
        }
        world
    }

    /// Everything that may happen now.
    pub fn actions(&self, setup: &Setup) -> Vec<Action> {
        let mut actions = self.progress(setup);
        self.events(&mut actions);
        self.faults(setup, &mut actions);
        actions
    }

    /// What happens by itself, sooner or later.
    pub fn progress(&self, setup: &Setup) -> Vec<Action> {
        let mut actions = Vec::new();
        for (fe, node) in self.fes.iter().enumerate() {
            // A Bye that got lost leaves a member that only the end of its pod explains.
            let silent = node.life == NodeLife::Left && self.record.1.contains_key(&member(fe).id);
            if node.life == NodeLife::Crashed || silent {
                actions.push(Action::ProveDead(fe));
            }
            for (i, instance) in self.instances.iter().enumerate() {
                if instance.wire[fe] > 0 {
                    actions.push(Action::Land(fe, i));
                }
            }
            if !node.life.runs() {
                continue;
            }
            self.of_front_end(setup, fe, node, &mut actions);
        }
        for packet in self.packets() {
            let live = self.links.get(&(packet.fe, packet.dr)) == Some(&(packet.stream, true));
            if live && packet.at == 0 {
                actions.push(Action::Deliver(packet));
            }
        }
        for (dr, node) in self.drs.iter().enumerate() {
            if node.role.is_some() && !node.writes.is_empty() {
                actions.push(Action::Write(dr));
            }
            for i in self.present() {
                let known = node.role.as_ref().and_then(|role| role.instance(uid(i)));
                if self.instances[i].draining && known.is_some_and(|spec| !spec.draining) {
                    actions.push(Action::Watch(dr, i));
                }
            }
        }
        for (i, instance) in self.instances.iter().enumerate() {
            if instance.orphans > 0 {
                actions.push(Action::OrphanEnd(i));
            }
            if self.worth_asking(setup, i) {
                actions.push(Action::Outstanding(i));
            }
        }
        if !self.led() {
            actions.extend(self.standbys().map(Action::Takeover));
        }
        actions
    }

    fn of_front_end(
        &self,
        setup: &Setup,
        fe: usize,
        node: &FrontEndNode,
        actions: &mut Vec<Action>,
    ) {
        for (i, instance) in self.instances.iter().enumerate() {
            let word = node.pool.word(uid(i));
            if instance.running[fe] > 0 && word.busy() > 0 {
                actions.push(Action::Complete(fe, i));
            }
            if instance.running[fe] > 0 && word.linger() > 0 {
                actions.push(Action::LingerEnd(fe, i));
            }
        }
        if self.clone_flush(setup, fe).is_some() {
            actions.push(Action::Flush(fe));
        }
        for (dr, other) in self.drs.iter().enumerate() {
            let up = self.links.get(&(fe, dr)).is_some_and(|(_, up)| *up);
            if other.role.is_some() && !up {
                actions.push(Action::Connect(fe, dr));
            }
        }
    }

    fn clone_flush(&self, setup: &Setup, fe: usize) -> Option<ToDataRole> {
        let mut node = self.fes[fe].clone();
        crate::step::flush(setup, &mut node)
    }

    /// Whether asking instance `i` would tell a data role something.
    fn worth_asking(&self, setup: &Setup, i: usize) -> bool {
        let instance = &self.instances[i];
        let quiet = instance
            .wire
            .iter()
            .zip(&self.fes)
            .all(|(n, fe)| *n == 0 || fe.life.runs());
        if !instance.present
            || instance.deleted
            || (!quiet && setup.wrong != Some(Wrong::CountWithoutSettle))
        {
            return false;
        }
        if setup.wrong == Some(Wrong::QuarantineWhole) && instance.total() > 0 {
            return false;
        }
        self.drs
            .iter()
            .filter_map(|dr| dr.role.as_ref())
            .any(|role| {
                role.quarantined(0).contains(&uid(i)) && {
                    let mut asked = role.clone();
                    asked.on_outstanding(uid(i), instance.total(), 0, 0);
                    asked != *role
                }
            })
    }

    fn events(&self, actions: &mut Vec<Action>) {
        for (fe, node) in self.fes.iter().enumerate() {
            if node.life == NodeLife::Up && node.arrivals > 0 {
                actions.push(Action::Arrive(fe));
            }
            if node.life == NodeLife::Unborn {
                actions.push(Action::Join(fe));
            }
        }
        for (i, instance) in self.instances.iter().enumerate() {
            if !instance.present {
                actions.push(Action::Appear(i));
            }
        }
    }

    fn faults(&self, setup: &Setup, actions: &mut Vec<Action>) {
        let left = &self.left;
        for (fe, node) in self.fes.iter().enumerate().filter(|(_, n)| n.life.runs()) {
            for i in 0..self.instances.len() {
                let word = node.pool.word(uid(i));
                if left.cancels > 0 && word.busy() > 0 && self.instances[i].running[fe] > 0 {
                    actions.push(Action::Cancel(fe, i));
                }
                if left.idle_returns > 0 && word.free() > 0 {
                    actions.push(Action::IdleReturn(fe, i));
                }
            }
            if left.front_end_crashes > 0 {
                actions.push(Action::CrashFrontEnd(fe));
            }
            if left.leaves > 0 && node.life == NodeLife::Up && node.arrivals == 0 {
                actions.push(Action::Leave(fe));
            }
        }
        if left.cuts > 0 {
            actions.extend(
                self.links
                    .iter()
                    .filter(|(_, (_, up))| *up)
                    .map(|((fe, dr), _)| Action::Cut(*fe, *dr)),
            );
        }
        for packet in self.packets() {
            let live = self.links.get(&(packet.fe, packet.dr)) == Some(&(packet.stream, true));
            if !live {
                actions.push(Action::Deliver(packet));
            }
            if left.duplicates > 0 && (!live || packet.at == 0) {
                actions.push(Action::Duplicate(packet));
            }
        }
        for (dr, node) in self.drs.iter().enumerate() {
            if left.data_role_crashes > 0 && node.role.is_some() {
                actions.push(Action::CrashDataRole(dr));
            }
            if left.removals > 0 && node.role.is_some() {
                actions.push(Action::Remove(dr, 0));
            }
        }
        if left.depositions > 0 && self.led() {
            actions.extend(self.standbys().map(Action::Takeover));
        }
        if left.cap_changes > 0 && setup.new_cap.is_some() {
            actions.push(Action::ChangeCap);
        }
    }

    fn standbys(&self) -> impl Iterator<Item = usize> {
        // Which standby takes over makes no difference: the first.
        self.drs
            .iter()
            .position(|dr| dr.role.is_none() && !dr.ended)
            .into_iter()
    }

    fn packets(&self) -> impl Iterator<Item = Packet> {
        self.net
            .iter()
            .flat_map(|(&(fe, dr, stream, down), queue)| {
                (0..queue.len()).map(move |at| Packet {
                    fe,
                    dr,
                    stream,
                    down,
                    at,
                })
            })
    }

    /// The instance as a data role sees it in the cluster now.
    pub fn spec(&self, i: usize) -> InstanceSpec {
        let node = &self.instances[i];
        InstanceSpec {
            uid: uid(i),
            group: group(),
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 1 + i as u16)),
            cap: node.cap,
            rank: Rank {
                tier: Tier::OnDemand,
                age: i as u64,
            },
            claim: node.claim,
            draining: node.draining,
            function_timeout_ms: None,
        }
    }

    /// Settings of every data role: no times, so that the order of events alone decides.
    pub fn settings(setup: &Setup) -> Settings {
        Settings {
            ahead_percent: setup.ahead_percent,
            settle_ms: 0,
            ..Settings::default()
        }
    }

    /// Whether the data role that the record names runs.
    pub fn led(&self) -> bool {
        self.drs.iter().any(|dr| {
            dr.role
                .as_ref()
                .is_some_and(|role| role.epoch() == self.record.0)
        })
    }

    /// Instances that exist.
    pub fn present(&self) -> BTreeSet<usize> {
        (0..self.instances.len())
            .filter(|&i| self.instances[i].present && !self.instances[i].deleted)
            .collect()
    }
}
