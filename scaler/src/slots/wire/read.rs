//! From the wire. What cannot be read is refused as a whole: half of a snapshot would be a lie.

use super::{AdminPaths, Heard, RouteSpec, UpstreamProtocol};
use maniple_core::slots::message::{
    DataRoleSays, Epoch, FrontEndId, FrontEndPod, FrontEndSays, GroupDemand, GroupId, Handle,
    Header, HeldSlots, Hello, InstanceInfo, InstanceUid, MemberRecord, Rank, Seq, Session, Sync,
    Tier, ToDataRole, ToFrontEnd,
};
use maniple_front::cold::StartAges;
use maniple_proto::slots as proto;
use maniple_proto::slots::from_data_role::Body as DataRoleBody;
use maniple_proto::slots::from_front_end::Body as FrontEndBody;
use std::time::Duration;

/// Why a message cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// It says nothing that this version knows.
    #[error(
        "a message of a kind that this version does not know; run front end and scaler of one version"
    )]
    Body,
    /// A part is missing.
    #[error("a message without {0}; run front end and scaler of one version")]
    Missing(&'static str),
    /// A number is out of range.
    #[error("{0} is out of range: {1}; run front end and scaler of one version")]
    Range(&'static str, u64),
    /// An address that is none.
    #[error("'{0}' is no address of the form ip:port; run front end and scaler of one version")]
    Address(String),
}

impl WireError {
    /// Stable name for logs and metrics.
    pub fn category(&self) -> &'static str {
        match self {
            Self::Body => "unknown-message",
            Self::Missing(_) => "missing-part",
            Self::Range(..) => "out-of-range",
            Self::Address(_) => "bad-address",
        }
    }
}

pub(super) fn from_front_end(message: proto::FromFrontEnd) -> Result<ToDataRole, WireError> {
    let header = header(message.epoch, message.session, message.seq, message.ack);
    let body = match message.body.ok_or(WireError::Body)? {
        FrontEndBody::Hello(said) => FrontEndSays::Hello(hello(said)?),
        FrontEndBody::Sync(said) => FrontEndSays::Sync(sync(said)?),
        FrontEndBody::Bye(_) => FrontEndSays::Bye,
        FrontEndBody::Stale(_) => FrontEndSays::Stale,
    };
    Ok(ToDataRole { header, body })
}

pub(super) fn from_data_role(message: proto::FromDataRole) -> Result<Heard, WireError> {
    let header = header(message.epoch, message.session, message.seq, message.ack);
    let body = match message.body.ok_or(WireError::Body)? {
        DataRoleBody::Lead(said) => DataRoleSays::Lead {
            features: said.features,
        },
        DataRoleBody::Instance(said) => DataRoleSays::Instance(instance(said)?),
        DataRoleBody::Gone(said) => DataRoleSays::Gone {
            uid: uid(said.uid)?,
        },
        DataRoleBody::Grant(said) => DataRoleSays::Grant(counts(said.slots)?),
        DataRoleBody::Recall(said) => DataRoleSays::Recall {
            group: GroupId::new(&said.group),
            want: said.want,
            must: said.must,
        },
        DataRoleBody::Trim(said) => DataRoleSays::Trim {
            handle: Handle(said.handle),
            excess: small("excess", said.excess)?,
        },
        DataRoleBody::Drain(said) => DataRoleSays::Drain {
            handle: Handle(said.handle),
        },
        DataRoleBody::Handover(_) => DataRoleSays::Handover,
        DataRoleBody::Routes(said) => {
            let routes = said
                .routes
                .into_iter()
                .map(route)
                .collect::<Result<_, _>>()?;
            return Ok(Heard::Routes(routes));
        }
    };
    Ok(Heard::Slots(ToFrontEnd { header, body }))
}

fn header(epoch: u64, session: u64, seq: u64, ack: u64) -> Header {
    Header {
        epoch: Epoch(epoch),
        session: Session(session),
        seq: Seq(seq),
        ack: Seq(ack),
    }
}

fn small(name: &'static str, value: u32) -> Result<u16, WireError> {
    u16::try_from(value).map_err(|_| WireError::Range(name, value.into()))
}

fn id(id: Option<proto::Id>, name: &'static str) -> Result<u128, WireError> {
    let id = id.ok_or(WireError::Missing(name))?;
    Ok(u128::from(id.high) << 64 | u128::from(id.low))
}

fn uid(value: Option<proto::Id>) -> Result<InstanceUid, WireError> {
    id(value, "uid of an instance").map(InstanceUid)
}

fn hello(said: proto::Hello) -> Result<Hello, WireError> {
    let slots = said.slots.into_iter().map(|slots| {
        Ok(HeldSlots {
            uid: uid(slots.uid)?,
            held: small("held", slots.held)?,
            busy: small("busy", slots.busy)?,
        })
    });
    Ok(Hello {
        member: MemberRecord {
            id: FrontEndId(id(said.incarnation, "incarnation")?),
            pod: FrontEndPod {
                uid: id(said.pod_uid, "uid of the front end's pod")?,
                restarts: said.restarts,
            },
        },
        features: said.features,
        slots: slots.collect::<Result<_, _>>()?,
        demand: said.demand.into_iter().map(demand).collect(),
    })
}

fn sync(said: proto::Sync) -> Result<Sync, WireError> {
    Ok(Sync {
        released: counts(said.released)?,
        demand: said.demand.into_iter().map(demand).collect(),
        shed: said.shed.into_iter().map(Handle).collect(),
    })
}

fn demand(said: proto::GroupDemand) -> GroupDemand {
    GroupDemand {
        group: GroupId::new(&said.group),
        waiting: said.waiting,
        busy: said.busy,
        oldest_wait_ms: said.oldest_wait_ms,
        samples: said.samples,
    }
}

fn counts(slots: Vec<proto::SlotCount>) -> Result<Vec<(Handle, u16)>, WireError> {
    slots
        .into_iter()
        .map(|slot| Ok((Handle(slot.handle), small("count", slot.count)?)))
        .collect()
}

fn instance(said: proto::Instance) -> Result<InstanceInfo, WireError> {
    let Ok(address) = said.address.parse() else {
        return Err(WireError::Address(said.address));
    };
    let tier = if said.always_ready {
        Tier::AlwaysReady
    } else {
        Tier::OnDemand
    };
    Ok(InstanceInfo {
        handle: Handle(said.handle),
        uid: uid(said.uid)?,
        address,
        group: GroupId::new(&said.group),
        cap: small("cap", said.cap)?,
        rank: Rank {
            tier,
            age: said.age,
        },
    })
}

pub(super) fn start(message: &proto::FromDataRole) -> Option<(InstanceUid, StartAges)> {
    let Some(DataRoleBody::Instance(said)) = &message.body else {
        return None;
    };
    let start = said.start.as_ref()?;
    let ages = StartAges {
        decided: start.decided_us.map(Duration::from_micros),
        seen: Duration::from_micros(start.seen_us),
        addressed: Duration::from_micros(start.addressed_us),
    };
    Some((uid(said.uid).ok()?, ages))
}

fn route(said: proto::Route) -> Result<RouteSpec, WireError> {
    let protocol = match said.upstream_protocol() {
        proto::UpstreamProtocol::Unspecified | proto::UpstreamProtocol::Http1 => {
            UpstreamProtocol::Http1
        }
        proto::UpstreamProtocol::H2c => UpstreamProtocol::H2c,
    };
    let admin = match said.admin_paths() {
        proto::AdminPaths::Unspecified | proto::AdminPaths::Closed => AdminPaths::Closed,
        proto::AdminPaths::Open => AdminPaths::Open,
    };
    let room = said
        .waiting_room
        .ok_or(WireError::Missing("waiting room of a route"))?;
    Ok(RouteSpec {
        host: said.host,
        path_prefix: said.path_prefix,
        group: GroupId::new(&said.group),
        request_timeout: Duration::from_millis(said.request_timeout_ms.into()),
        run_limit: said
            .run_limit_ms
            .map(|limit| Duration::from_millis(limit.into())),
        room: room.max_requests,
        patience: Duration::from_millis(room.max_ms.into()),
        protocol,
        admin,
        namespace: said.namespace,
        app: said.app,
    })
}
