//! The data role that lends slots to the front end under test: the rules of the core over a real stream, with instances that never change.

use std::{collections::HashMap, net::SocketAddr, pin::Pin, sync::Arc, time::Instant};

use anyhow::{Context as _, Result};
use maniple_core::slots::{
    data_role::{DataRole, Effect, Effects, InstanceSpec, Settings},
    message::{
        DataRoleSays, Epoch, FrontEndId, FrontEndPod, FrontEndSays, GroupDemand, GroupId, Handle,
        Header, HeldSlots, Hello, InstanceUid, MemberRecord, Rank, Seq, Session, Sync, Tier,
        ToDataRole, ToFrontEnd,
    },
};
use maniple_proto::slots::{
    self as proto, FromDataRole, FromFrontEnd,
    from_data_role::Body as Says,
    from_front_end::Body as Said,
    slots_server::{Slots, SlotsServer},
};
use parking_lot::Mutex;
use tokio::{net::TcpListener, sync::mpsc};
use tokio_stream::{
    Stream,
    wrappers::{ReceiverStream, TcpListenerStream},
};
use tonic::{Request, Response, Status, Streaming};

const EPOCH: Epoch = Epoch(1);

/// A group with its instances, reached by path prefixes.
#[derive(Clone, Debug)]
pub(super) struct Group {
    pub(super) name: &'static str,
    pub(super) prefixes: &'static [&'static str],
    /// Requests at a time of each instance.
    pub(super) concurrency: u16,
    pub(super) instances: Vec<SocketAddr>,
}

struct State {
    role: DataRole,
    streams: HashMap<FrontEndId, mpsc::Sender<Result<FromDataRole, Status>>>,
    routes: proto::Routes,
    started: Instant,
}

#[derive(Clone)]
struct Service(Arc<Mutex<State>>);

/// Lends the slots of `groups` on a loopback port, which is returned. Their requests name `host`.
///
/// # Errors
/// When no port is free.
pub(super) async fn start(host: &str, groups: &[Group]) -> Result<SocketAddr> {
    let mut specs = Vec::new();
    for group in groups {
        for address in &group.instances {
            let number = specs.len() as u64 + 1;
            specs.push(InstanceSpec {
                uid: InstanceUid(number.into()),
                group: GroupId::new(group.name),
                address: *address,
                cap: group.concurrency,
                rank: Rank {
                    tier: Tier::OnDemand,
                    age: number,
                },
                claim: Some(EPOCH),
                draining: false,
                function_timeout_ms: Some(230_000),
            });
        }
    }
    let routes = groups.iter().flat_map(|group| {
        let prefixes = group.prefixes.iter();
        prefixes.map(|prefix| route(host, prefix, group))
    });
    let (role, _) = DataRole::takeover(EPOCH, [], specs, Settings::default(), 0);
    let state = State {
        role,
        streams: HashMap::new(),
        routes: proto::Routes {
            routes: routes.collect(),
        },
        started: Instant::now(),
    };
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?;
    let service = SlotsServer::new(Service(Arc::new(Mutex::new(state))));
    tokio::spawn(
        tonic::transport::Server::builder()
            .add_service(service)
            .serve_with_incoming(TcpListenerStream::new(listener)),
    );
    Ok(address)
}

fn route(host: &str, prefix: &str, group: &Group) -> proto::Route {
    proto::Route {
        host: host.to_owned(),
        path_prefix: prefix.to_owned(),
        group: group.name.to_owned(),
        request_timeout_ms: 230_000,
        run_limit_ms: Some(230_000),
        waiting_room: Some(proto::WaitingRoom {
            max_requests: 10_000,
            max_ms: 60_000,
        }),
        upstream_protocol: proto::UpstreamProtocol::Http1.into(),
        admin_paths: proto::AdminPaths::Closed.into(),
        namespace: "bench".to_owned(),
        app: "app".to_owned(),
    }
}

#[tonic::async_trait]
impl Slots for Service {
    type JoinStream = Pin<Box<dyn Stream<Item = Result<FromDataRole, Status>> + Send>>;

    async fn join(
        &self,
        request: Request<Streaming<FromFrontEnd>>,
    ) -> Result<Response<Self::JoinStream>, Status> {
        let (say, said) = mpsc::channel(1024);
        let lead = {
            let state = self.0.lock();
            encode(&state.role.lead())
        };
        say.send(Ok(lead)).await.ok();
        let service = self.clone();
        tokio::spawn(async move {
            if let Err(error) = service.follow(request.into_inner(), say).await {
                eprintln!("error: the data role lost a front end: {error:#}");
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(said))))
    }
}

impl Service {
    async fn follow(
        &self,
        mut heard: Streaming<FromFrontEnd>,
        say: mpsc::Sender<Result<FromDataRole, Status>>,
    ) -> Result<()> {
        let mut from = None;
        while let Ok(Some(message)) = heard.message().await {
            let message = decode(message)?;
            let mut state = self.0.lock();
            if let FrontEndSays::Hello(hello) = &message.body {
                from = Some(hello.member.id);
                state.streams.insert(hello.member.id, say.clone());
                let routes = FromDataRole {
                    epoch: EPOCH.0,
                    body: Some(Says::Routes(state.routes.clone())),
                    ..FromDataRole::default()
                };
                say.try_send(Ok(routes)).context("routes")?;
            }
            let from = from.context("a message before the Hello")?;
            let now = state.started.elapsed().as_millis() as u64;
            let effects = state.role.on_message(from, &message, now)?;
            state.run(effects, now)?;
        }
        Ok(())
    }
}

impl State {
    /// Every write succeeds at once: there is no cluster.
    fn run(&mut self, effects: Effects, now: u64) -> Result<()> {
        for effect in effects {
            let more = match effect {
                Effect::Send { to, message } => {
                    if let Some(stream) = self.streams.get(&to) {
                        stream
                            .try_send(Ok(encode(&message)))
                            .context("the front end does not read")?;
                    }
                    continue;
                }
                Effect::AddMember(member) => self.role.on_member_added(member, now),
                Effect::RemoveMember(id) => self.role.on_member_removed(id, now),
                Effect::Claim(uid) => self.role.on_claim(uid, EPOCH, now),
                Effect::MarkDrain(uid) => self.role.on_drain_marked(uid, now),
                Effect::ConfirmRecord(uid) => self.role.on_record_confirmed(uid),
                Effect::Delete(uid) => self.role.on_instance_gone(uid, now),
            };
            self.run(more, now)?;
        }
        Ok(())
    }
}

fn id(id: Option<proto::Id>) -> Result<u128> {
    let id = id.context("an id is missing")?;
    Ok(u128::from(id.high) << 64 | u128::from(id.low))
}

fn decode(message: FromFrontEnd) -> Result<ToDataRole> {
    let demand = |all: Vec<proto::GroupDemand>| -> Vec<GroupDemand> {
        all.into_iter()
            .map(|demand| GroupDemand {
                group: GroupId::new(&demand.group),
                waiting: demand.waiting,
                busy: demand.busy,
                oldest_wait_ms: demand.oldest_wait_ms,
                samples: demand.samples,
            })
            .collect()
    };
    let body = match message.body.context("a message says nothing")? {
        Said::Hello(hello) => FrontEndSays::Hello(Hello {
            member: MemberRecord {
                id: FrontEndId(id(hello.incarnation)?),
                pod: FrontEndPod {
                    uid: id(hello.pod_uid)?,
                    restarts: hello.restarts,
                },
            },
            features: hello.features,
            slots: hello
                .slots
                .into_iter()
                .map(|slots| {
                    Ok(HeldSlots {
                        uid: InstanceUid(id(slots.uid)?),
                        held: slots.held.try_into()?,
                        busy: slots.busy.try_into()?,
                    })
                })
                .collect::<Result<_>>()?,
            demand: demand(hello.demand),
        }),
        Said::Sync(sync) => FrontEndSays::Sync(Sync {
            released: sync
                .released
                .into_iter()
                .map(|slots| Ok((Handle(slots.handle), slots.count.try_into()?)))
                .collect::<Result<_>>()?,
            demand: demand(sync.demand),
            shed: sync.shed.into_iter().map(Handle).collect(),
        }),
        Said::Bye(_) => FrontEndSays::Bye,
        Said::Stale(_) => FrontEndSays::Stale,
    };
    Ok(ToDataRole {
        header: Header {
            epoch: Epoch(message.epoch),
            session: Session(message.session),
            seq: Seq(message.seq),
            ack: Seq(message.ack),
        },
        body,
    })
}

fn encode(message: &ToFrontEnd) -> FromDataRole {
    let uid = |uid: InstanceUid| {
        Some(proto::Id {
            high: (uid.0 >> 64) as u64,
            low: uid.0 as u64,
        })
    };
    let body = match &message.body {
        DataRoleSays::Lead { features } => Says::Lead(proto::Lead {
            features: *features,
        }),
        DataRoleSays::Instance(info) => Says::Instance(proto::Instance {
            handle: info.handle.0,
            uid: uid(info.uid),
            address: info.address.to_string(),
            group: info.group.as_str().to_owned(),
            cap: info.cap.into(),
            always_ready: info.rank.tier == Tier::AlwaysReady,
            age: info.rank.age,
            start: None,
        }),
        DataRoleSays::Gone { uid: gone } => Says::Gone(proto::InstanceGone { uid: uid(*gone) }),
        DataRoleSays::Grant(slots) => Says::Grant(proto::Grant {
            slots: slots
                .iter()
                .map(|(handle, count)| proto::SlotCount {
                    handle: handle.0,
                    count: (*count).into(),
                })
                .collect(),
        }),
        DataRoleSays::Recall { group, want, must } => Says::Recall(proto::Recall {
            group: group.as_str().to_owned(),
            want: *want,
            must: *must,
        }),
        DataRoleSays::Trim { handle, excess } => Says::Trim(proto::Trim {
            handle: handle.0,
            excess: (*excess).into(),
        }),
        DataRoleSays::Drain { handle } => Says::Drain(proto::Drain { handle: handle.0 }),
        DataRoleSays::Handover => Says::Handover(proto::Handover {}),
    };
    FromDataRole {
        epoch: message.header.epoch.0,
        session: message.header.session.0,
        seq: message.header.seq.0,
        ack: message.header.ack.0,
        body: Some(body),
    }
}
