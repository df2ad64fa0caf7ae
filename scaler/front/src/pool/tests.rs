//! What the control state reports when it looks at changes only, beside what it reports when it looks at everything.

use std::{
    net::SocketAddr,
    sync::Arc,
    task::{Poll, Waker},
};

use maniple_core::slots::{
    front_end::{FrontEnd, LeadAnswer},
    message::{
        DataRoleSays, Epoch, FrontEndId, FrontEndPod, FrontEndSays, GroupId, Handle, Header,
        InstanceInfo, InstanceUid, MemberRecord, Rank, Seq, Session, Tier, ToDataRole, ToFrontEnd,
    },
    pool::{Changes, SlotPool},
    word::{Bar, SlotWord},
};
use proptest::prelude::*;

use super::{Group, Pool, Slot, gate::Ticket, now_ms};

const GROUPS: usize = 3;
const INSTANCES: u128 = 6;

/// The same pool without its account of changes.
struct LooksEverywhere(Pool);

impl SlotPool for LooksEverywhere {
    fn upsert(&mut self, instance: &InstanceInfo) {
        self.0.upsert(instance);
    }
    fn remove(&mut self, uid: InstanceUid) {
        self.0.remove(uid);
    }
    fn grant(&mut self, uid: InstanceUid, count: u16) {
        self.0.grant(uid, count);
    }
    fn drain(&mut self, uid: InstanceUid) {
        self.0.drain(uid);
    }
    fn trim(&mut self, uid: InstanceUid, excess: u16) {
        self.0.trim(uid, excess);
    }
    fn release(&mut self, uid: InstanceUid, count: u16) -> u16 {
        self.0.release(uid, count)
    }
    fn take_returned(&mut self, uid: InstanceUid) -> u16 {
        self.0.take_returned(uid)
    }
    fn word(&self, uid: InstanceUid) -> SlotWord {
        self.0.word(uid)
    }
    fn set_recall(&mut self, group: &GroupId, want: u32, must: u32) {
        self.0.set_recall(group, want, must);
    }
    fn cap_recall(&mut self, group: &GroupId, want: u32, must: u32) {
        self.0.cap_recall(group, want, must);
    }
    fn waiting(&self, group: &GroupId) -> u32 {
        self.0.waiting(group)
    }
    fn load(&self, group: &GroupId) -> u32 {
        self.0.load(group)
    }
    fn oldest_wait_ms(&self, group: &GroupId) -> u32 {
        self.0.oldest_wait_ms(group)
    }
    fn take_shed(&mut self) -> Vec<InstanceUid> {
        self.0.take_shed()
    }
    fn take_changes(&mut self) -> Changes {
        self.0.take_changes();
        Changes::All
    }
}

fn group_id(number: usize) -> GroupId {
    GroupId::new(&format!("ns/app{number}/http"))
}

/// A front end with its pool, its requests and those that wait.
struct Side<P> {
    pool: Pool,
    view: P,
    state: FrontEnd,
    heard: u64,
    running: Vec<Slot>,
    waiting: Vec<(Arc<Group>, Ticket)>,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Start(usize),
    End(usize),
    Enter(usize),
    Leave(usize),
    Grant(u8, u16),
    Drain(u8),
    Trim(u8, u16),
    Recall(usize, u32),
    Gone(u8),
    NewSession,
    Flush,
    Rest,
}

fn step() -> impl Strategy<Value = Step> {
    let instance = || 0..u8::try_from(INSTANCES).unwrap();
    prop_oneof![
        4 => (0..GROUPS).prop_map(Step::Start),
        4 => any::<usize>().prop_map(Step::End),
        3 => (0..GROUPS).prop_map(Step::Enter),
        2 => any::<usize>().prop_map(Step::Leave),
        3 => (instance(), 1u16..4).prop_map(|(i, n)| Step::Grant(i, n)),
        1 => instance().prop_map(Step::Drain),
        1 => (instance(), 0u16..4).prop_map(|(i, n)| Step::Trim(i, n)),
        2 => (0..GROUPS, 0u32..4).prop_map(|(g, n)| Step::Recall(g, n)),
        1 => instance().prop_map(Step::Gone),
        1 => Just(Step::NewSession),
        6 => Just(Step::Flush),
        1 => Just(Step::Rest),
    ]
}

impl<P: SlotPool> Side<P> {
    fn new(view: impl FnOnce(Pool) -> P) -> Self {
        let pool = Pool::new();
        for number in 0..GROUPS {
            pool.configure(&group_id(number), super::GroupSettings::default());
        }
        let member = MemberRecord {
            id: FrontEndId(1),
            pod: FrontEndPod {
                uid: 1,
                restarts: 0,
            },
        };
        let mut side = Self {
            view: view(pool.clone()),
            pool,
            state: FrontEnd::new(member),
            heard: 0,
            running: Vec::new(),
            waiting: Vec::new(),
        };
        side.lead();
        side
    }

    /// A data role of a new term leads, and names all instances.
    fn lead(&mut self) -> ToDataRole {
        let lead = ToFrontEnd {
            header: Header {
                epoch: Epoch(self.state.epoch().0 + 1),
                session: Session(0),
                seq: Seq(0),
                ack: Seq(0),
            },
            body: DataRoleSays::Lead { features: 0 },
        };
        let LeadAnswer::Follow(hello) = self.state.on_lead(&lead, &mut self.view) else {
            panic!("a higher term is followed");
        };
        self.heard = 0;
        for number in 0..INSTANCES {
            let group = group_id(usize::try_from(number).unwrap() % GROUPS);
            self.hear(DataRoleSays::Instance(InstanceInfo {
                handle: Handle(u32::try_from(number).unwrap()),
                uid: InstanceUid(number),
                address: SocketAddr::from(([127, 0, 0, 1], 9)),
                group: group.clone(),
                cap: 8,
                rank: Rank {
                    tier: Tier::OnDemand,
                    age: u64::try_from(number).unwrap(),
                },
            }));
            let group = self.pool.group(&group).unwrap();
            for instance in group.instances().iter() {
                group.lift(instance, Bar::Unready);
            }
        }
        hello
    }

    fn hear(&mut self, body: DataRoleSays) {
        self.heard += 1;
        let header = Header {
            epoch: self.state.epoch(),
            session: self.state.session(),
            seq: Seq(self.heard),
            ack: Seq(0),
        };
        self.state
            .on_message(&ToFrontEnd { header, body }, &mut self.view);
    }

    fn take(&mut self, step: Step) -> String {
        match step {
            Step::Start(number) => {
                let group = self.pool.group(&group_id(number)).unwrap();
                self.running.extend(group.try_acquire());
            }
            Step::End(which) if !self.running.is_empty() => {
                let which = which % self.running.len();
                self.running.remove(which).complete();
            }
            Step::Enter(number) => {
                let group = self.pool.group(&group_id(number)).unwrap();
                let ticket = group.gate.enter(100, now_ms()).unwrap();
                group.serve();
                self.waiting.push((group, ticket));
            }
            Step::Leave(which) if !self.waiting.is_empty() => {
                let (group, ticket) = self.waiting.remove(which % self.waiting.len());
                if let Some(instance) = group.gate.leave(&ticket) {
                    Slot::new(group.clone(), instance).unsent();
                }
                group.list();
            }
            Step::Grant(instance, count) => {
                self.hear(DataRoleSays::Grant(vec![(Handle(instance.into()), count)]));
            }
            Step::Drain(instance) => self.hear(DataRoleSays::Drain {
                handle: Handle(instance.into()),
            }),
            Step::Trim(instance, excess) => self.hear(DataRoleSays::Trim {
                handle: Handle(instance.into()),
                excess,
            }),
            Step::Recall(number, want) => self.hear(DataRoleSays::Recall {
                group: group_id(number),
                want,
                must: 0,
            }),
            Step::Gone(instance) => self.hear(DataRoleSays::Gone {
                uid: InstanceUid(instance.into()),
            }),
            Step::NewSession => return normal(Some(self.lead())),
            Step::Flush | Step::Rest => {
                self.state.note(&mut self.view);
                let urgency = self.state.urgency(&self.view);
                let rest = matches!(step, Step::Rest);
                let said = self.state.flush(&mut self.view, rest);
                return format!("{urgency:?} {}", normal(said));
            }
            Step::End(_) | Step::Leave(_) => {}
        }
        self.arrive();
        String::new()
    }

    /// Waiting requests take what was handed to them.
    fn arrive(&mut self) {
        let (running, waiting) = (&mut self.running, std::mem::take(&mut self.waiting));
        for (group, ticket) in waiting {
            match group.gate.poll(&ticket, Waker::noop()) {
                Poll::Ready(instance) => running.push(Slot::new(group.clone(), instance)),
                Poll::Pending => self.waiting.push((group, ticket)),
            }
        }
    }
}

/// Without times, and in one order.
fn normal(said: Option<ToDataRole>) -> String {
    let Some(mut said) = said else {
        return "nothing".to_owned();
    };
    let demand = match &mut said.body {
        FrontEndSays::Sync(sync) => {
            sync.released.sort_unstable();
            sync.shed.sort_unstable();
            &mut sync.demand
        }
        FrontEndSays::Hello(hello) => &mut hello.demand,
        FrontEndSays::Bye | FrontEndSays::Stale => return format!("{said:?}"),
    };
    for demand in demand.iter_mut() {
        demand.oldest_wait_ms = 0;
    }
    demand.sort_unstable_by(|a, b| a.group.cmp(&b.group));
    format!("{said:?}")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn what_changed_is_all_that_has_to_be_looked_at(steps in proptest::collection::vec(step(), 1..120)) {
        let mut changes = Side::new(|pool| pool);
        let mut everything = Side::new(LooksEverywhere);
        for (number, step) in steps.iter().enumerate() {
            let (one, other) = (changes.take(*step), everything.take(*step));
            prop_assert_eq!(one, other, "step {} of {:?}", number, steps);
        }
    }
}
