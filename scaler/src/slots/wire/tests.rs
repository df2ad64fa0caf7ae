use super::*;
use maniple_core::slots::joint::MOST_SAMPLES;
use maniple_core::slots::message::{
    DataRoleSays, Epoch, FrontEndId, FrontEndPod, FrontEndSays, GroupDemand, Handle, Header,
    HeldSlots, Hello, InstanceInfo, InstanceUid, MemberRecord, Rank, Seq, Session, Sync, Tier,
};
use proptest::collection::vec;
use proptest::prelude::*;
use std::net::SocketAddr;

fn header() -> impl Strategy<Value = Header> {
    any::<[u64; 4]>().prop_map(|[epoch, session, seq, ack]| Header {
        epoch: Epoch(epoch),
        session: Session(session),
        seq: Seq(seq),
        ack: Seq(ack),
    })
}

fn group() -> impl Strategy<Value = GroupId> {
    "[a-z]{1,8}/[a-z]{1,8}/http".prop_map(|name| GroupId::new(&name))
}

fn slots() -> impl Strategy<Value = Vec<(Handle, u16)>> {
    vec(any::<(u32, u16)>().prop_map(|(h, n)| (Handle(h), n)), 0..4)
}

fn demand() -> impl Strategy<Value = Vec<GroupDemand>> {
    let parts = (
        group(),
        any::<[u32; 3]>(),
        vec(any::<u32>(), 0..MOST_SAMPLES),
    );
    let one = parts.prop_map(|(group, [waiting, busy, oldest], samples)| GroupDemand {
        group,
        waiting,
        busy,
        oldest_wait_ms: oldest,
        samples,
    });
    vec(one, 0..4)
}

fn hello() -> impl Strategy<Value = Hello> {
    let held = any::<(u128, u16, u16)>().prop_map(|(uid, held, busy)| HeldSlots {
        uid: InstanceUid(uid),
        held,
        busy,
    });
    (any::<(u128, u128, u32, u64)>(), vec(held, 0..4), demand()).prop_map(
        |((id, uid, restarts, features), slots, demand)| Hello {
            member: MemberRecord {
                id: FrontEndId(id),
                pod: FrontEndPod { uid, restarts },
            },
            features,
            slots,
            demand,
        },
    )
}

fn front_end_says() -> impl Strategy<Value = FrontEndSays> {
    let sync = (slots(), demand(), vec(any::<u32>().prop_map(Handle), 0..3)).prop_map(
        |(released, demand, shed)| {
            FrontEndSays::Sync(Sync {
                released,
                demand,
                shed,
            })
        },
    );
    prop_oneof![
        hello().prop_map(FrontEndSays::Hello),
        sync,
        Just(FrontEndSays::Bye),
        Just(FrontEndSays::Stale),
    ]
}

fn instance() -> impl Strategy<Value = InstanceInfo> {
    (
        any::<(u32, u128, u16, u64, bool)>(),
        any::<SocketAddr>(),
        group(),
    )
        .prop_map(
            |((handle, uid, cap, age, always), address, group)| InstanceInfo {
                handle: Handle(handle),
                uid: InstanceUid(uid),
                // The text of an address has no flow label.
                address: SocketAddr::new(address.ip(), address.port()),
                group,
                cap,
                rank: Rank {
                    tier: if always {
                        Tier::AlwaysReady
                    } else {
                        Tier::OnDemand
                    },
                    age,
                },
            },
        )
}

fn data_role_says() -> impl Strategy<Value = DataRoleSays> {
    prop_oneof![
        any::<u64>().prop_map(|features| DataRoleSays::Lead { features }),
        instance().prop_map(DataRoleSays::Instance),
        any::<u128>().prop_map(|uid| DataRoleSays::Gone {
            uid: InstanceUid(uid)
        }),
        slots().prop_map(DataRoleSays::Grant),
        (group(), any::<(u32, u32)>()).prop_map(|(group, (want, must))| DataRoleSays::Recall {
            group,
            want,
            must
        }),
        any::<(u32, u16)>().prop_map(|(handle, excess)| DataRoleSays::Trim {
            handle: Handle(handle),
            excess
        }),
        any::<u32>().prop_map(|handle| DataRoleSays::Drain {
            handle: Handle(handle)
        }),
        Just(DataRoleSays::Handover),
    ]
}

fn route() -> impl Strategy<Value = RouteSpec> {
    let names = ("[a-z.]{1,20}", "/[a-z/]{0,10}", "[a-z]{1,9}", "[a-z]{1,9}");
    (names, group(), any::<([u32; 3], Option<u32>, bool, bool)>()).prop_map(
        |(
            (host, path_prefix, namespace, app),
            group,
            ([timeout, room, patience], run, h2, open),
        )| {
            RouteSpec {
                host,
                path_prefix,
                group,
                request_timeout: Duration::from_millis(timeout.into()),
                run_limit: run.map(|limit| Duration::from_millis(limit.into())),
                room,
                patience: Duration::from_millis(patience.into()),
                protocol: if h2 {
                    UpstreamProtocol::H2c
                } else {
                    UpstreamProtocol::Http1
                },
                admin: if open {
                    AdminPaths::Open
                } else {
                    AdminPaths::Closed
                },
                namespace,
                app,
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn a_front_end_is_heard_as_it_spoke(header in header(), body in front_end_says()) {
        let said = ToDataRole { header, body };
        prop_assert_eq!(decode_from_front_end(encode_from_front_end(&said)), Ok(said));
    }

    #[test]
    fn the_data_role_is_heard_as_it_spoke(header in header(), body in data_role_says()) {
        let said = ToFrontEnd { header, body };
        prop_assert_eq!(decode_from_data_role(encode_from_data_role(&said)), Ok(Heard::Slots(said)));
    }

    #[test]
    fn routes_are_heard_as_they_were_told(routes in vec(route(), 0..5)) {
        prop_assert_eq!(decode_from_data_role(encode_routes(3, &routes)), Ok(Heard::Routes(routes)));
    }
}

#[test]
fn the_start_of_an_instance_comes_beside_what_is_said_of_it() {
    let info = InstanceInfo {
        handle: Handle(1),
        uid: InstanceUid(7),
        address: "10.0.0.1:80".parse().unwrap(),
        group: GroupId::new("ns/app/http"),
        cap: 4,
        rank: Rank {
            tier: Tier::OnDemand,
            age: 1,
        },
    };
    let said = ToFrontEnd {
        header: Header {
            epoch: Epoch(3),
            session: Session(1),
            seq: Seq(1),
            ack: Seq(0),
        },
        body: DataRoleSays::Instance(info),
    };
    for decided in [None, Some(Duration::from_micros(325_001))] {
        let ages = StartAges {
            decided,
            seen: Duration::from_millis(305),
            addressed: Duration::ZERO,
        };
        let sent = encode_start(&said, &ages);
        assert_eq!(decode_start(&sent), Some((InstanceUid(7), ages)));
        assert_eq!(decode_from_data_role(sent), Ok(Heard::Slots(said.clone())));
    }
    assert_eq!(decode_start(&encode_from_data_role(&said)), None);
}

#[test]
fn what_is_not_understood_is_refused_and_not_guessed() {
    let empty = proto::FromFrontEnd::default();
    assert_eq!(decode_from_front_end(empty), Err(WireError::Body));
    let hello = proto::from_front_end::Body::Hello(proto::Hello::default());
    let nameless = proto::FromFrontEnd {
        body: Some(hello),
        ..Default::default()
    };
    assert_eq!(
        decode_from_front_end(nameless),
        Err(WireError::Missing("incarnation"))
    );
    let grant = proto::Grant {
        slots: vec![proto::SlotCount {
            handle: 1,
            count: 65_536,
        }],
    };
    let grant = proto::FromDataRole {
        body: Some(proto::from_data_role::Body::Grant(grant)),
        ..Default::default()
    };
    assert_eq!(
        decode_from_data_role(grant),
        Err(WireError::Range("count", 65_536))
    );
}
