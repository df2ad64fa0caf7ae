//! Front ends over real sockets that share one data role, all in this process.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use maniple_core::slots::{
    data_role::{DataRole, Effect, Effects, InstanceSpec, Settings},
    message::{
        Epoch, FrontEndId, FrontEndPod, GroupId, InstanceUid, MemberRecord, Rank, Tier, ToDataRole,
    },
};
use maniple_front::{
    control::{Control, ControlSettings, StreamEvent, StreamId},
    metrics::Metrics,
    observe::Observer,
    pool::{Group, GroupSettings, Pool},
    proxy::{Proxy, ProxySettings},
    routes::{AdminPaths, Route, RouteRule, RouteTable, Routes},
    server::{ServerSettings, serve},
};
use prometheus_client::registry::Registry;
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

pub(crate) const HOST: &str = "app.example";

pub(crate) fn group() -> GroupId {
    GroupId::new("ns/app/http")
}

/// Settings whose times suit a test.
pub(crate) fn settings() -> GroupSettings {
    GroupSettings {
        patience: Duration::from_secs(10),
        linger: Duration::from_millis(200),
        probe_path: Some("/probe".to_owned()),
        ..GroupSettings::default()
    }
}

fn proxy_settings(observer: Observer) -> ProxySettings {
    ProxySettings {
        cold_start_header: true,
        body_silence: Duration::from_secs(2),
        observer,
        ..ProxySettings::default()
    }
}

/// No periodic report, so that nothing is found out by chance.
fn control_settings() -> ControlSettings {
    ControlSettings {
        rest: Duration::from_secs(3600),
        ..ControlSettings::default()
    }
}

enum Ask {
    Join(FrontEndId, mpsc::Sender<StreamEvent>),
    Cut(FrontEndId),
    Said(FrontEndId, StreamId, ToDataRole),
    Do(Box<dyn FnOnce(&mut DataRole) -> Effects + Send>),
    Look(Box<dyn FnOnce(&DataRole) + Send>),
}

/// The data role and the cluster that it would write to.
pub(crate) struct Hub {
    ask: mpsc::UnboundedSender<Ask>,
}

struct HubState {
    role: DataRole,
    streams: HashMap<FrontEndId, (StreamId, mpsc::Sender<StreamEvent>)>,
    sessions: HashMap<FrontEndId, maniple_core::slots::message::Session>,
    next: u64,
    ask: mpsc::UnboundedSender<Ask>,
}

impl Hub {
    pub(crate) fn start() -> Self {
        let (ask, mut asked) = mpsc::unbounded_channel();
        let (role, _) = DataRole::takeover(Epoch(1), [], [], Settings::default(), 0);
        let mut state = HubState {
            role,
            streams: HashMap::new(),
            sessions: HashMap::new(),
            next: 0,
            ask: ask.clone(),
        };
        tokio::spawn(async move {
            while let Some(ask) = asked.recv().await {
                state.handle(ask);
            }
        });
        Self { ask }
    }

    fn join(&self, fe: FrontEndId, events: mpsc::Sender<StreamEvent>) {
        self.ask.send(Ask::Join(fe, events)).ok();
    }

    /// Breaks the stream of a front end and opens a new one.
    pub(crate) fn cut(&self, fe: FrontEndId) {
        self.ask.send(Ask::Cut(fe)).ok();
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut DataRole) -> Effects + Send + 'static) {
        self.ask.send(Ask::Do(Box::new(change))).ok();
    }

    pub(crate) async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&DataRole) -> T + Send + 'static,
    ) -> T {
        let (to, from) = oneshot::channel();
        self.ask
            .send(Ask::Look(Box::new(move |role| {
                to.send(look(role)).ok();
            })))
            .ok();
        from.await.unwrap()
    }

    /// Makes an instance known.
    pub(crate) fn add(&self, uid: u128, address: SocketAddr, cap: u16) {
        let spec = InstanceSpec {
            uid: InstanceUid(uid),
            group: group(),
            address,
            cap,
            rank: Rank {
                tier: Tier::OnDemand,
                age: u64::try_from(uid).unwrap(),
            },
            claim: None,
            draining: false,
            function_timeout_ms: Some(230_000),
        };
        self.change(move |role| role.on_instance(spec, 0));
    }
}

impl HubState {
    fn handle(&mut self, ask: Ask) {
        match ask {
            Ask::Join(fe, events) => self.open(fe, events),
            Ask::Cut(fe) => {
                let Some((stream, events)) = self.streams.remove(&fe) else {
                    return;
                };
                events.try_send(StreamEvent::Down { stream }).ok();
                if let Some(session) = self.sessions.get(&fe) {
                    self.role.on_disconnected(fe, *session, 0);
                }
                self.open(fe, events);
            }
            Ask::Said(fe, stream, message) => {
                if self.streams.get(&fe).map(|(known, _)| *known) == Some(stream) {
                    self.sessions.insert(fe, message.header.session);
                    let effects = self
                        .role
                        .on_message(fe, &message, 0)
                        .expect("nobody deposes it");
                    self.run(effects);
                }
            }
            Ask::Do(change) => {
                let effects = change(&mut self.role);
                self.run(effects);
            }
            Ask::Look(look) => look(&self.role),
        }
    }

    fn open(&mut self, fe: FrontEndId, events: mpsc::Sender<StreamEvent>) {
        self.next += 1;
        let stream = StreamId(self.next);
        let (to, mut said) = mpsc::channel(64);
        let ask = self.ask.clone();
        tokio::spawn(async move {
            while let Some(message) = said.recv().await {
                ask.send(Ask::Said(fe, stream, message)).ok();
            }
        });
        events.try_send(StreamEvent::Up { stream, to }).ok();
        events
            .try_send(StreamEvent::Message {
                stream,
                message: self.role.lead(),
            })
            .ok();
        self.streams.insert(fe, (stream, events));
    }

    fn run(&mut self, effects: Effects) {
        for effect in effects {
            let more = match effect {
                Effect::Send { to, message } => {
                    if let Some((stream, events)) = self.streams.get(&to) {
                        events
                            .try_send(StreamEvent::Message {
                                stream: *stream,
                                message,
                            })
                            .expect("the control task reads");
                    }
                    continue;
                }
                Effect::AddMember(member) => self.role.on_member_added(member, 0),
                Effect::RemoveMember(id) => self.role.on_member_removed(id, 0),
                Effect::Claim(uid) => self.role.on_claim(uid, Epoch(1), 0),
                Effect::MarkDrain(uid) => self.role.on_drain_marked(uid, 0),
                Effect::ConfirmRecord(uid) => self.role.on_record_confirmed(uid),
                Effect::Delete(uid) => self.role.on_instance_gone(uid, 0),
            };
            self.run(more);
        }
    }
}

/// A front end with its own port.
pub(crate) struct Front {
    pub(crate) id: FrontEndId,
    pub(crate) address: SocketAddr,
    pub(crate) pool: Pool,
    pub(crate) stop: CancellationToken,
    pub(crate) served: JoinHandle<()>,
    pub(crate) control: JoinHandle<()>,
    pub(crate) stop_control: CancellationToken,
    pub(crate) proxy: Arc<Proxy>,
    pub(crate) numbers: Metrics,
    registry: Registry,
}

impl Front {
    pub(crate) async fn start(hub: &Hub, number: u128, settings: GroupSettings) -> Self {
        Self::with(
            hub,
            number,
            settings,
            AdminPaths::Closed,
            ServerSettings::default(),
        )
        .await
    }

    pub(crate) async fn with(
        hub: &Hub,
        number: u128,
        settings: GroupSettings,
        admin: AdminPaths,
        server: ServerSettings,
    ) -> Self {
        Self::make(hub, number, settings, admin, server, Observer::default()).await
    }

    pub(crate) async fn observed(hub: &Hub, number: u128, observer: Observer) -> Self {
        let (admin, server) = (AdminPaths::Closed, ServerSettings::default());
        Self::make(hub, number, settings(), admin, server, observer).await
    }

    async fn make(
        hub: &Hub,
        number: u128,
        settings: GroupSettings,
        admin: AdminPaths,
        server: ServerSettings,
        observer: Observer,
    ) -> Self {
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        let (pool, routes) = (Pool::new(), Routes::new());
        let target = pool.configure(&group(), settings);
        let route = Route {
            group: target,
            admin,
            metrics: metrics.group(group().as_str()),
        };
        routes.replace(RouteTable::new([RouteRule {
            host: HOST.to_owned(),
            prefix: "/".to_owned(),
            route,
        }]));
        let id = FrontEndId(number);
        let member = MemberRecord {
            id,
            pod: FrontEndPod {
                uid: number,
                restarts: 0,
            },
        };
        let (events, received) = mpsc::channel(4096);
        let stop_control = CancellationToken::new();
        let control = Control::new(member, pool.clone(), control_settings());
        let control = tokio::spawn(control.run(received, stop_control.clone()));
        hub.join(id, events);
        let listener = TcpListener::bind((IpAddr::from([127, 0, 0, 1]), 0))
            .await
            .unwrap();
        let address = listener.local_addr().unwrap();
        let proxy = Arc::new(Proxy::new(
            routes,
            proxy_settings(observer),
            metrics.clone(),
        ));
        let stop = CancellationToken::new();
        let serving = tokio::spawn(serve(listener, proxy.clone(), server, stop.clone()));
        Self {
            id,
            address,
            pool,
            stop,
            served: serving,
            control,
            stop_control,
            proxy,
            numbers: metrics,
            registry,
        }
    }

    pub(crate) fn group(&self) -> Arc<Group> {
        self.pool.group(&group()).unwrap()
    }

    /// All metrics as text.
    pub(crate) fn metrics(&self) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        text
    }
}

/// Waits until `done` says so; fails with `what` after 10 s.
pub(crate) async fn until(what: &str, mut done: impl AsyncFnMut() -> bool) {
    let limit = tokio::time::Instant::now() + Duration::from_secs(10);
    while !done().await {
        assert!(tokio::time::Instant::now() < limit, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
