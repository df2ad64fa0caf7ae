//! What a front end tells of its requests, and when.

use std::net::{Ipv4Addr, SocketAddr};

use maniple_core::slots::{
    front_end::FrontEnd,
    joint::{GRID_MS, MOST_SAMPLES},
    message::{
        DataRoleSays, Epoch, FrontEndId, FrontEndPod, FrontEndSays, GroupDemand, GroupId, Handle,
        Header, InstanceInfo, InstanceUid, MemberRecord, Rank, Seq, Session, Tier, ToFrontEnd,
    },
};
use maniple_slot_model::pool::PlainPool;

const UID: InstanceUid = InstanceUid(7);

fn group() -> GroupId {
    GroupId::new("g")
}

struct Side {
    control: FrontEnd,
    pool: PlainPool,
    heard: u64,
}

impl Side {
    /// Holds two slots, and both are in use.
    fn busy() -> Self {
        let pod = FrontEndPod {
            uid: 1,
            restarts: 0,
        };
        let id = FrontEndId(1);
        let mut side = Self {
            control: FrontEnd::new(MemberRecord { id, pod }),
            pool: PlainPool::default(),
            heard: 0,
        };
        let lead = side.message(0, DataRoleSays::Lead { features: 0 });
        side.control.on_lead(&lead, &mut side.pool);
        side.hear(DataRoleSays::Instance(InstanceInfo {
            handle: Handle(1),
            uid: UID,
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 80)),
            group: group(),
            cap: 2,
            rank: Rank {
                tier: Tier::OnDemand,
                age: 1,
            },
        }));
        side.hear(DataRoleSays::Grant(vec![(Handle(1), 2)]));
        side.pool.arrive(&group());
        side.pool.arrive(&group());
        side
    }

    fn message(&mut self, session: u64, body: DataRoleSays) -> ToFrontEnd {
        self.heard += 1;
        let header = Header {
            epoch: Epoch(1),
            session: Session(session),
            seq: Seq(self.heard),
            ack: Seq(0),
        };
        ToFrontEnd { header, body }
    }

    fn hear(&mut self, body: DataRoleSays) {
        let message = self.message(1, body);
        self.control.on_message(&message, &mut self.pool);
    }

    /// What it says of the group now.
    fn told(&mut self, rest: bool) -> Option<GroupDemand> {
        let said = self.control.flush(&mut self.pool, rest)?;
        let FrontEndSays::Sync(sync) = said.body else {
            return None;
        };
        sync.demand.into_iter().find(|d| d.group == group())
    }

    fn sample(&mut self, point: u64) {
        self.control.sample(point * GRID_MS, &self.pool);
    }
}

#[test]
fn samples_are_told_once_and_gaps_are_filled_up() {
    let mut side = Side::busy();
    for point in [100, 101, 104] {
        side.sample(point);
    }
    let told = side.told(true).expect("two run");
    assert_eq!((told.busy, told.samples), (2, vec![2; 5]));
    side.sample(100_000);
    let told = side.told(true).expect("two run");
    assert_eq!(told.samples, vec![2; MOST_SAMPLES]);
    side.pool.complete(UID);
    side.pool.complete(UID);
    side.sample(100_001);
    let told = side.told(true).expect("what it said last was more");
    assert_eq!((told.busy, told.samples), (0, vec![0]));
    for point in 100_002..100_100 {
        side.sample(point);
        assert_eq!(side.told(true), None);
    }
    // What ran between two reports is told, though it is over.
    side.pool.arrive(&group());
    side.sample(100_100);
    side.pool.complete(UID);
    let told = side.told(true).expect("one ran");
    assert_eq!((told.busy, told.samples), (0, vec![1]));
}

#[test]
fn where_others_wait_what_runs_is_told_at_once() {
    let mut side = Side::busy();
    assert_eq!(side.told(false), None, "nobody waits");
    let recall = |want| DataRoleSays::Recall {
        group: group(),
        want,
        must: 0,
    };
    side.hear(recall(1));
    let told = side
        .told(false)
        .expect("it has nothing to give, and says so");
    assert_eq!((told.waiting, told.busy), (0, 2));
    assert_eq!(side.told(false), None, "it has said so");
    side.pool.complete(UID);
    let told = side.told(false).expect("a slot goes back");
    assert_eq!(told.busy, 1);
}
