//! To the wire.

use super::{AdminPaths, RouteSpec, UpstreamProtocol};
use maniple_core::slots::message::{
    DataRoleSays, FrontEndSays, GroupDemand, Handle, Header, Hello, InstanceInfo, Sync, Tier,
    ToDataRole, ToFrontEnd,
};
use maniple_front::cold::StartAges;
use maniple_proto::slots as proto;
use maniple_proto::slots::from_data_role::Body as DataRoleBody;
use maniple_proto::slots::from_front_end::Body as FrontEndBody;
use std::time::Duration;

pub(super) fn from_front_end(message: &ToDataRole) -> proto::FromFrontEnd {
    let Header {
        epoch,
        session,
        seq,
        ack,
    } = message.header;
    let body = match &message.body {
        FrontEndSays::Hello(said) => FrontEndBody::Hello(hello(said)),
        FrontEndSays::Sync(said) => FrontEndBody::Sync(sync(said)),
        FrontEndSays::Bye => FrontEndBody::Bye(proto::Bye {}),
        FrontEndSays::Stale => FrontEndBody::Stale(proto::Stale {}),
    };
    proto::FromFrontEnd {
        epoch: epoch.0,
        session: session.0,
        seq: seq.0,
        ack: ack.0,
        body: Some(body),
    }
}

pub(super) fn from_data_role(message: &ToFrontEnd) -> proto::FromDataRole {
    let Header {
        epoch,
        session,
        seq,
        ack,
    } = message.header;
    let body = match &message.body {
        DataRoleSays::Lead { features } => DataRoleBody::Lead(proto::Lead {
            features: *features,
        }),
        DataRoleSays::Instance(info) => DataRoleBody::Instance(instance(info)),
        DataRoleSays::Gone { uid } => DataRoleBody::Gone(proto::InstanceGone {
            uid: Some(id(uid.0)),
        }),
        DataRoleSays::Grant(slots) => DataRoleBody::Grant(proto::Grant {
            slots: counts(slots),
        }),
        DataRoleSays::Recall { group, want, must } => DataRoleBody::Recall(proto::Recall {
            group: group.as_str().to_owned(),
            want: *want,
            must: *must,
        }),
        DataRoleSays::Trim { handle, excess } => DataRoleBody::Trim(proto::Trim {
            handle: handle.0,
            excess: (*excess).into(),
        }),
        DataRoleSays::Drain { handle } => DataRoleBody::Drain(proto::Drain { handle: handle.0 }),
        DataRoleSays::Handover => DataRoleBody::Handover(proto::Handover {}),
    };
    proto::FromDataRole {
        epoch: epoch.0,
        session: session.0,
        seq: seq.0,
        ack: ack.0,
        body: Some(body),
    }
}

pub(super) fn start(message: &ToFrontEnd, ages: &StartAges) -> proto::FromDataRole {
    let mut message = from_data_role(message);
    if let Some(DataRoleBody::Instance(instance)) = &mut message.body {
        instance.start = Some(proto::StartAges {
            decided_us: ages.decided.map(microseconds),
            seen_us: microseconds(ages.seen),
            addressed_us: microseconds(ages.addressed),
        });
    }
    message
}

fn microseconds(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

pub(super) fn routes(epoch: u64, routes: &[RouteSpec]) -> proto::FromDataRole {
    let routes = routes.iter().map(route).collect();
    proto::FromDataRole {
        epoch,
        session: 0,
        seq: 0,
        ack: 0,
        body: Some(DataRoleBody::Routes(proto::Routes { routes })),
    }
}

fn route(route: &RouteSpec) -> proto::Route {
    let protocol = match route.protocol {
        UpstreamProtocol::Http1 => proto::UpstreamProtocol::Http1,
        UpstreamProtocol::H2c => proto::UpstreamProtocol::H2c,
    };
    let admin = match route.admin {
        AdminPaths::Closed => proto::AdminPaths::Closed,
        AdminPaths::Open => proto::AdminPaths::Open,
    };
    proto::Route {
        host: route.host.clone(),
        path_prefix: route.path_prefix.clone(),
        group: route.group.as_str().to_owned(),
        request_timeout_ms: milliseconds(route.request_timeout),
        run_limit_ms: route.run_limit.map(milliseconds),
        waiting_room: Some(proto::WaitingRoom {
            max_requests: route.room,
            max_ms: milliseconds(route.patience),
        }),
        upstream_protocol: protocol.into(),
        admin_paths: admin.into(),
        namespace: route.namespace.clone(),
        app: route.app.clone(),
    }
}

fn milliseconds(time: Duration) -> u32 {
    u32::try_from(time.as_millis()).unwrap_or(u32::MAX)
}

fn id(value: u128) -> proto::Id {
    proto::Id {
        high: (value >> 64) as u64,
        low: value as u64,
    }
}

fn hello(said: &Hello) -> proto::Hello {
    proto::Hello {
        incarnation: Some(id(said.member.id.0)),
        pod_uid: Some(id(said.member.pod.uid)),
        restarts: said.member.pod.restarts,
        features: said.features,
        slots: said
            .slots
            .iter()
            .map(|slots| proto::HeldSlots {
                uid: Some(id(slots.uid.0)),
                held: slots.held.into(),
                busy: slots.busy.into(),
            })
            .collect(),
        demand: said.demand.iter().map(demand).collect(),
    }
}

fn sync(said: &Sync) -> proto::Sync {
    proto::Sync {
        released: counts(&said.released),
        demand: said.demand.iter().map(demand).collect(),
        shed: said.shed.iter().map(|handle| handle.0).collect(),
    }
}

fn demand(said: &GroupDemand) -> proto::GroupDemand {
    proto::GroupDemand {
        group: said.group.as_str().to_owned(),
        waiting: said.waiting,
        busy: said.busy,
        oldest_wait_ms: said.oldest_wait_ms,
        samples: said.samples.clone(),
    }
}

fn counts(slots: &[(Handle, u16)]) -> Vec<proto::SlotCount> {
    slots
        .iter()
        .map(|(handle, count)| proto::SlotCount {
            handle: handle.0,
            count: (*count).into(),
        })
        .collect()
}

fn instance(info: &InstanceInfo) -> proto::Instance {
    proto::Instance {
        handle: info.handle.0,
        uid: Some(id(info.uid.0)),
        address: info.address.to_string(),
        group: info.group.as_str().to_owned(),
        cap: info.cap.into(),
        always_ready: info.rank.tier == Tier::AlwaysReady,
        age: info.rank.age,
        start: None,
    }
}
