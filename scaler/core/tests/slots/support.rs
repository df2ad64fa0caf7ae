//! One set of books, and front ends that speak to it.

use std::net::{Ipv4Addr, SocketAddr};

use maniple_core::slots::{
    data_role::{DataRole, Effect, Effects, InstanceSpec, Settings},
    message::{
        DataRoleSays, Epoch, FrontEndId, FrontEndPod, FrontEndSays, GroupDemand, GroupId, Handle,
        Header, HeldSlots, Hello, InstanceUid, MemberRecord, Rank, Seq, Session, Sync, Tier,
        ToDataRole,
    },
};

pub(crate) const EPOCH: Epoch = Epoch(7);

pub(crate) fn group() -> GroupId {
    GroupId::new("g")
}

pub(crate) fn member(fe: u128) -> MemberRecord {
    MemberRecord {
        id: FrontEndId(fe),
        pod: FrontEndPod {
            uid: fe,
            restarts: 0,
        },
    }
}

pub(crate) fn spec(uid: u128, cap: u16, claim: Option<Epoch>) -> InstanceSpec {
    InstanceSpec {
        uid: InstanceUid(uid),
        group: group(),
        address: SocketAddr::from((Ipv4Addr::LOCALHOST, 80 + uid as u16)),
        cap,
        rank: Rank {
            tier: Tier::OnDemand,
            age: uid as u64,
        },
        claim,
        draining: false,
        function_timeout_ms: Some(1_000),
    }
}

pub(crate) fn role(members: &[u128], instances: &[InstanceSpec]) -> DataRole {
    let settings = Settings {
        ahead_percent: 0,
        ..Settings::default()
    };
    DataRole::takeover(
        EPOCH,
        members.iter().map(|fe| member(*fe)),
        instances.iter().cloned(),
        settings,
        0,
    )
    .0
}

pub(crate) fn demand(waiting: u32, busy: u32) -> GroupDemand {
    GroupDemand {
        group: group(),
        waiting,
        busy,
        oldest_wait_ms: 0,
        samples: Vec::new(),
    }
}

pub(crate) fn message(session: u64, seq: u64, ack: u64, body: FrontEndSays) -> ToDataRole {
    ToDataRole {
        header: Header {
            epoch: EPOCH,
            session: Session(session),
            seq: Seq(seq),
            ack: Seq(ack),
        },
        body,
    }
}

pub(crate) fn hello(
    role: &mut DataRole,
    fe: u128,
    session: u64,
    held: &[(u128, u16)],
    waiting: u32,
) -> Effects {
    let slots = held
        .iter()
        .map(|&(uid, held)| HeldSlots {
            uid: InstanceUid(uid),
            held,
            busy: held,
        })
        .collect();
    let busy = held.iter().map(|(_, held)| u32::from(*held)).sum();
    let said = Hello {
        member: member(fe),
        features: 0,
        slots,
        demand: vec![demand(waiting, busy)],
    };
    role.on_message(
        FrontEndId(fe),
        &message(session, 1, 0, FrontEndSays::Hello(said)),
        0,
    )
    .unwrap()
}

/// A Sync of session 1.
pub(crate) fn sync(
    role: &mut DataRole,
    fe: u128,
    (seq, ack): (u64, u64),
    released: &[(u32, u16)],
    want: Option<GroupDemand>,
) -> Effects {
    let released = released
        .iter()
        .map(|&(handle, n)| (Handle(handle), n))
        .collect();
    let said = Sync {
        released,
        demand: want.into_iter().collect(),
        shed: Vec::new(),
    };
    role.on_message(
        FrontEndId(fe),
        &message(1, seq, ack, FrontEndSays::Sync(said)),
        0,
    )
    .unwrap()
}

/// `(front end, instance by handle, slots)` of every grant.
pub(crate) fn grants(effects: &Effects) -> Vec<(u128, u32, u16)> {
    let mut all = Vec::new();
    for effect in effects {
        if let Effect::Send { to, message } = effect
            && let DataRoleSays::Grant(slots) = &message.body
        {
            all.extend(slots.iter().map(|(handle, n)| (to.0, handle.0, *n)));
        }
    }
    all
}

/// `(front end, want, must)` of every recall.
pub(crate) fn recalls(effects: &Effects) -> Vec<(u128, u32, u32)> {
    effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Send { to, message } => match &message.body {
                DataRoleSays::Recall { want, must, .. } => Some((to.0, *want, *must)),
                _ => None,
            },
            _ => None,
        })
        .collect()
}

pub(crate) fn writes(effects: &Effects) -> Vec<Effect> {
    effects
        .iter()
        .filter(|effect| !matches!(effect, Effect::Send { .. }))
        .cloned()
        .collect()
}
