//! Front ends, the data role and clients in virtual time: the production state of both sides, messages that take their time, and clients that send
//! the next request through any front end when the last one is answered.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::{Ipv4Addr, SocketAddr},
    ops::RangeInclusive,
};

use fastrand::Rng;
use maniple_core::slots::{
    data_role::{DataRole, Effect, Effects, InstanceSpec, Settings},
    front_end::{FrontEnd, LeadAnswer, Urgency},
    gauge::Gauge,
    joint::GRID_MS,
    message::{
        Epoch, FrontEndId, FrontEndPod, FrontEndSays, GroupDemand, GroupId, InstanceUid,
        MemberRecord, Rank, Tier, ToDataRole, ToFrontEnd,
    },
};
use maniple_slot_model::pool::PlainPool;

const EPOCH: Epoch = Epoch(1);
const MS: u64 = 1_000;
/// As in the control task of a front end.
const BATCH: u64 = 5 * MS;
const REST: u64 = 1_000 * MS;
/// From the decision to the first slot of a new instance.
const START: u64 = 700 * MS;

/// One run.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) clients: usize,
    pub(crate) cap: u16,
    pub(crate) front_ends: usize,
    /// In milliseconds.
    pub(crate) service: RangeInclusive<u64>,
    pub(crate) instances: usize,
    pub(crate) seed: u64,
}

#[derive(Clone, Debug)]
enum Event {
    Arrive {
        client: usize,
    },
    Complete {
        fe: usize,
        uid: InstanceUid,
        client: usize,
    },
    Look {
        fe: usize,
    },
    Sample {
        fe: usize,
    },
    Up {
        fe: usize,
        message: ToDataRole,
    },
    Down {
        fe: usize,
        message: ToFrontEnd,
    },
    Tick,
    Surge,
    Instance,
}

struct Fe {
    control: FrontEnd,
    pool: PlainPool,
    line: VecDeque<usize>,
    flushed: u64,
    rested: u64,
    /// Its clock is ahead by this.
    clock: u64,
    up: u64,
    down: u64,
}

/// Everything.
pub(crate) struct Town {
    case: Case,
    rng: Rng,
    now: u64,
    events: BTreeMap<(u64, u64), Event>,
    count: u64,
    fes: Vec<Fe>,
    role: DataRole,
    gauge: Gauge,
    next_uid: u128,
    instances: BTreeSet<InstanceUid>,
    leaving: BTreeSet<InstanceUid>,
    starting: usize,
    /// Clients above this one stop when they are answered.
    clients: usize,
    pub(crate) answered: u64,
    /// What was decided, whenever it changed: time in milliseconds and count.
    pub(crate) decided: Vec<(u64, usize)>,
}

fn group() -> GroupId {
    GroupId::new("g")
}

fn member(fe: usize) -> MemberRecord {
    let id = fe as u128 + 1;
    MemberRecord {
        id: FrontEndId(id),
        pod: FrontEndPod {
            uid: id,
            restarts: 0,
        },
    }
}

impl Town {
    pub(crate) fn new(case: &Case) -> Self {
        let (role, _) = DataRole::takeover(EPOCH, [], [], Settings::default(), 0);
        let mut rng = Rng::with_seed(case.seed);
        let fes = (0..case.front_ends).map(|fe| Fe {
            control: FrontEnd::new(member(fe)),
            pool: PlainPool::default(),
            line: VecDeque::new(),
            flushed: 0,
            rested: rng.u64(0..REST),
            clock: rng.u64(0..1_000 * MS),
            up: 0,
            down: 0,
        });
        let fes = fes.collect();
        let mut town = Self {
            case: case.clone(),
            now: 2_000 * MS,
            rng,
            events: BTreeMap::new(),
            count: 0,
            fes,
            role,
            gauge: Gauge::default(),
            next_uid: 1,
            instances: BTreeSet::new(),
            leaving: BTreeSet::new(),
            starting: case.instances,
            clients: 0,
            answered: 0,
            decided: Vec::new(),
        };
        for fe in 0..case.front_ends {
            let lead = town.role.lead();
            let node = &mut town.fes[fe];
            let LeadAnswer::Follow(hello) = node.control.on_lead(&lead, &mut node.pool) else {
                unreachable!("the first Lead is followed")
            };
            town.send_up(fe, hello);
            let at = town.rng.u64(0..GRID_MS * MS);
            town.after(at, Event::Sample { fe });
        }
        for _ in 0..case.instances {
            town.after(10 * MS, Event::Instance);
        }
        town.after(1_000 * MS, Event::Tick);
        town.now += 20 * MS;
        town.run_to(town.now);
        town.ask_for(case.clients);
        town
    }

    /// From now on so many clients are at work.
    pub(crate) fn ask_for(&mut self, clients: usize) {
        for client in self.clients..clients {
            let at = self.rng.u64(0..MS);
            self.after(at, Event::Arrive { client });
        }
        self.clients = clients;
    }

    pub(crate) fn now_ms(&self) -> u64 {
        self.now / MS
    }

    pub(crate) fn run_for_ms(&mut self, time: u64) {
        self.run_to(self.now + time * MS);
    }

    fn run_to(&mut self, end: u64) {
        while let Some(entry) = self.events.first_entry()
            && entry.key().0 <= end
        {
            self.now = self.now.max(entry.key().0);
            let event = entry.remove();
            self.handle(event);
        }
        self.now = end;
    }

    fn after(&mut self, time: u64, event: Event) {
        self.at(self.now + time, event);
    }

    fn at(&mut self, time: u64, event: Event) {
        self.count += 1;
        self.events.insert((time, self.count), event);
    }

    /// Messages of a stream do not overtake each other.
    fn delay(rng: &mut Rng, now: u64, last: &mut u64) -> u64 {
        *last = (now + rng.u64(200..2_000)).max(*last);
        *last
    }

    fn send_up(&mut self, fe: usize, message: ToDataRole) {
        let at = Self::delay(&mut self.rng, self.now, &mut self.fes[fe].up);
        self.at(at, Event::Up { fe, message });
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Arrive { client } => {
                let fe = self.rng.usize(0..self.fes.len());
                self.fes[fe].line.push_back(client);
                self.fes[fe].pool.arrive(&group());
                self.look(fe);
            }
            Event::Complete { fe, uid, client } => {
                self.fes[fe].pool.complete(uid);
                self.answered += 1;
                self.look(fe);
                if client < self.clients {
                    let think = self.rng.u64(50..500);
                    self.after(think, Event::Arrive { client });
                }
            }
            Event::Look { fe } => self.look(fe),
            Event::Sample { fe } => {
                let node = &mut self.fes[fe];
                let clock = (self.now + node.clock) / MS;
                node.control.sample(clock, &node.pool);
                self.look(fe);
                self.after(GRID_MS * MS, Event::Sample { fe });
            }
            Event::Down { fe, message } => {
                let node = &mut self.fes[fe];
                node.control.on_message(&message, &mut node.pool);
                self.look(fe);
            }
            Event::Up { fe, message } => self.hear(fe, &message),
            Event::Tick => {
                let effects = self.role.tick(self.now_ms());
                self.act(effects);
                self.decide();
                self.after(1_000 * MS, Event::Tick);
            }
            Event::Surge => self.decide(),
            Event::Instance => {
                self.starting -= 1;
                let uid = InstanceUid(self.next_uid);
                self.next_uid += 1;
                self.instances.insert(uid);
                let spec = InstanceSpec {
                    uid,
                    group: group(),
                    address: SocketAddr::from((Ipv4Addr::LOCALHOST, uid.0 as u16)),
                    cap: self.case.cap,
                    rank: Rank {
                        tier: Tier::OnDemand,
                        age: uid.0 as u64,
                    },
                    claim: Some(EPOCH),
                    draining: false,
                    function_timeout_ms: Some(1_000),
                };
                let effects = self.role.on_instance(spec, self.now_ms());
                self.act(effects);
            }
        }
    }

    /// As the control task does after each event.
    fn look(&mut self, fe: usize) {
        let node = &mut self.fes[fe];
        let started = node.pool.take_started();
        for uid in started {
            let client = self.fes[fe].line.pop_front().expect("who starts had come");
            let service = &self.case.service;
            let time = self.rng.u64(service.start() * MS..=service.end() * MS);
            self.after(time, Event::Complete { fe, uid, client });
        }
        let node = &mut self.fes[fe];
        let rest = self.now >= node.rested + REST;
        let urgency = node.control.urgency(&node.pool);
        let batch = self.now >= node.flushed + BATCH;
        let ready = urgency == Urgency::Now || (urgency == Urgency::Batch && batch);
        if !ready && !rest && !node.control.recalls() {
            if urgency == Urgency::Batch {
                let at = node.flushed + BATCH;
                self.at(at, Event::Look { fe });
            }
            return;
        }
        node.flushed = self.now;
        if rest {
            node.rested = self.now;
        }
        if let Some(message) = node.control.flush(&mut node.pool, rest) {
            self.send_up(fe, message);
        }
    }

    fn hear(&mut self, fe: usize, message: &ToDataRole) {
        let id = member(fe).id;
        let effects = self
            .role
            .on_message(id, message, self.now_ms())
            .expect("there is one data role");
        self.act(effects);
        let demand: &[GroupDemand] = match &message.body {
            FrontEndSays::Hello(hello) => &hello.demand,
            FrontEndSays::Sync(sync) => &sync.demand,
            FrontEndSays::Bye | FrontEndSays::Stale => &[],
        };
        for demand in demand {
            self.gauge.put(id, demand, self.now / MS);
        }
        self.decide();
    }

    fn act(&mut self, effects: Effects) {
        let now = self.now_ms();
        for effect in effects {
            let more = match effect {
                Effect::Send { to, message } => {
                    let fe = to.0 as usize - 1;
                    let at = Self::delay(&mut self.rng, self.now, &mut self.fes[fe].down);
                    self.at(at, Event::Down { fe, message });
                    continue;
                }
                Effect::AddMember(member) => self.role.on_member_added(member, now),
                Effect::RemoveMember(id) => self.role.on_member_removed(id, now),
                Effect::Claim(uid) => self.role.on_claim(uid, EPOCH, now),
                Effect::MarkDrain(uid) => self.role.on_drain_marked(uid, now),
                Effect::ConfirmRecord(uid) => self.role.on_record_confirmed(uid),
                Effect::Delete(uid) => {
                    self.instances.remove(&uid);
                    self.leaving.remove(&uid);
                    self.role.on_instance_gone(uid, now)
                }
            };
            self.act(more);
        }
    }

    /// As the decision does: up to what is there now, down to the peak.
    fn decide(&mut self) {
        let now = self.now_ms();
        let reading = self.gauge.read(&self.role, &group(), now);
        if let Some(due) = self.gauge.due_ms(now) {
            self.at((due * MS).max(self.now), Event::Surge);
        }
        let count = |requests: u32| requests.div_ceil(self.case.cap.into()) as usize;
        let present = self.instances.len() - self.leaving.len() + self.starting;
        let kept = if reading.incomplete {
            present
        } else {
            present.min(count(reading.peak))
        };
        let desired = count(reading.current).max(kept);
        if self.decided.last().is_none_or(|(_, last)| *last != desired) {
            self.decided.push((now, desired));
        }
        for _ in present..desired {
            self.starting += 1;
            self.after(START, Event::Instance);
        }
        if desired < present && self.starting == 0 {
            let serving = self.instances.difference(&self.leaving);
            if let Some(&youngest) = serving.last() {
                self.leaving.insert(youngest);
                let effects = self.role.remove(youngest, now);
                self.act(effects);
            }
        }
    }
}
