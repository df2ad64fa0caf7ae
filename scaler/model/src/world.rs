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
};

use crate::{action::Action, pool::PlainPool, setup::Setup};

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
