//! A data role that lends everything to whoever asks, and instances.

use std::{net::SocketAddr, pin::Pin, sync::Arc, time::Duration};

use axum::{Router, extract::State, routing::get};
use hyper_util::rt::TokioIo;
use maniple_core::slots::message::{
    DataRoleSays, Epoch, FrontEndSays, GroupId, Handle, Header, InstanceInfo, InstanceUid, Rank,
    Seq, Session, Tier, ToFrontEnd,
};
use maniple_front::cold::StartAges;
use maniple_proto::slots::{
    FromDataRole, FromFrontEnd,
    slots_server::{Slots, SlotsServer},
};
use maniple_scaler::slots::wire::{
    AdminPaths, RouteSpec, UpstreamProtocol, decode_from_front_end, encode_from_data_role,
    encode_routes, encode_start,
};
use parking_lot::Mutex;
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
};
use tokio_stream::{
    Stream,
    wrappers::{ReceiverStream, TcpListenerStream},
};
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::{Request, Response, Status, Streaming, transport::Server};

use crate::HOST;

pub(crate) const GROUP: &str = "ns/app/http";
/// Requests at a time of the only instance.
pub(crate) const CAP: u16 = 8;

fn info(address: SocketAddr) -> InstanceInfo {
    InstanceInfo {
        handle: Handle(1),
        uid: InstanceUid(7),
        address,
        group: GroupId::new(GROUP),
        cap: CAP,
        rank: Rank {
            tier: Tier::OnDemand,
            age: 1,
        },
    }
}

fn route() -> RouteSpec {
    RouteSpec {
        host: HOST.to_owned(),
        path_prefix: "/".to_owned(),
        group: GroupId::new(GROUP),
        request_timeout: Duration::from_secs(230),
        run_limit: Some(Duration::from_secs(230)),
        room: 10,
        patience: Duration::from_secs(60),
        protocol: UpstreamProtocol::Http1,
        admin: AdminPaths::Open,
        namespace: "ns".to_owned(),
        app: "app".to_owned(),
    }
}

/// What is known of the instance.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Known {
    pub(crate) address: Option<SocketAddr>,
    pub(crate) ages: Option<StartAges>,
    /// The app is gone.
    pub(crate) unrouted: bool,
}

/// One replica of the scaler, which leads.
pub(crate) struct Scaler {
    pub(crate) address: SocketAddr,
    /// What front ends have said, over all streams.
    pub(crate) said: Arc<Mutex<Vec<FrontEndSays>>>,
    pub(crate) known: watch::Sender<Known>,
    _stop: DropGuard,
}

#[derive(Clone)]
struct Role {
    said: Arc<Mutex<Vec<FrontEndSays>>>,
    known: watch::Receiver<Known>,
    stop: CancellationToken,
}

impl Scaler {
    /// Listens at `address`.
    pub(crate) fn start(address: SocketAddr, instance: Option<SocketAddr>) -> Self {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        // The port of one that has just stopped.
        socket.set_reuseaddr(true).unwrap();
        socket.bind(address).unwrap();
        let listener = socket.listen(16).unwrap();
        let address = listener.local_addr().unwrap();
        let (known, receiver) = watch::channel(Known {
            address: instance,
            ages: None,
            unrouted: false,
        });
        let (said, stop) = (Arc::default(), CancellationToken::new());
        let role = Role {
            said: Arc::clone(&said),
            known: receiver,
            stop: stop.clone(),
        };
        let connections = TcpListenerStream::new(listener);
        let ended = stop.clone();
        tokio::spawn(async move {
            let serving = Server::builder()
                .add_service(SlotsServer::new(role))
                .serve_with_incoming(connections);
            ended.run_until_cancelled(serving).await
        });
        Self {
            address,
            said,
            known,
            _stop: stop.drop_guard(),
        }
    }

    /// Slots given back so far.
    pub(crate) fn released(&self) -> u16 {
        let said = self.said.lock();
        let syncs = said.iter().filter_map(|said| match said {
            FrontEndSays::Sync(sync) => Some(&sync.released),
            _ => None,
        });
        syncs.flatten().map(|(_, count)| count).sum()
    }

    /// Whether the last word was heard.
    pub(crate) fn bye(&self) -> bool {
        matches!(self.said.lock().last(), Some(FrontEndSays::Bye))
    }
}

#[tonic::async_trait]
impl Slots for Role {
    type JoinStream = Pin<Box<dyn Stream<Item = Result<FromDataRole, Status>> + Send>>;

    async fn join(
        &self,
        request: Request<Streaming<FromFrontEnd>>,
    ) -> Result<Response<Self::JoinStream>, Status> {
        let (say, said) = mpsc::channel(16);
        let (role, stop) = (self.clone(), self.stop.clone());
        tokio::spawn(async move {
            let lent = role.lend(request.into_inner(), say);
            stop.run_until_cancelled(lent).await
        });
        let said = ReceiverStream::new(said);
        Ok(Response::new(Box::pin(said)))
    }
}

impl Role {
    async fn lend(
        mut self,
        mut heard: Streaming<FromFrontEnd>,
        say: mpsc::Sender<Result<FromDataRole, Status>>,
    ) -> Option<()> {
        let message = |session, seq, body| ToFrontEnd {
            header: Header {
                epoch: Epoch(1),
                session,
                seq: Seq(seq),
                ack: Seq(0),
            },
            body,
        };
        let lead = message(Session(0), 1, DataRoleSays::Lead { features: 0 });
        say.send(Ok(encode_from_data_role(&lead))).await.ok()?;
        say.send(Ok(encode_routes(1, &[route()]))).await.ok()?;
        let hello = heard.message().await.ok()??;
        let hello = decode_from_front_end(hello).unwrap();
        let session = hello.header.session;
        let FrontEndSays::Hello(said) = &hello.body else {
            panic!("no Hello but {hello:?}");
        };
        let held: u16 = said.slots.iter().map(|slots| slots.held).sum();
        self.said.lock().push(hello.body);
        let mut named = false;
        loop {
            let known = *self.known.borrow_and_update();
            if known.unrouted {
                say.send(Ok(encode_routes(1, &[]))).await.ok()?;
            }
            if let (false, Some(address)) = (named, known.address) {
                named = true;
                let named = message(session, 1, DataRoleSays::Instance(info(address)));
                let named = match &known.ages {
                    Some(ages) => encode_start(&named, ages),
                    None => encode_from_data_role(&named),
                };
                say.send(Ok(named)).await.ok()?;
                let grant = DataRoleSays::Grant(vec![(Handle(1), CAP - held)]);
                let grant = encode_from_data_role(&message(session, 2, grant));
                say.send(Ok(grant)).await.ok()?;
            }
            tokio::select! {
                said = heard.message() => {
                    let said = decode_from_front_end(said.ok()??).unwrap();
                    let last = said.body == FrontEndSays::Bye;
                    self.said.lock().push(said.body);
                    if last {
                        return None;
                    }
                }
                changed = self.known.changed() => changed.ok()?,
            }
        }
    }
}

/// An instance. `/hold` answers when `open` is true, `/socket` sends back what comes.
pub(crate) struct Instance {
    pub(crate) address: SocketAddr,
    pub(crate) open: watch::Sender<bool>,
}

impl Instance {
    pub(crate) async fn start() -> Self {
        Self::on(TcpListener::bind(("127.0.0.1", 0)).await.unwrap())
    }

    pub(crate) fn on(listener: TcpListener) -> Self {
        let address = listener.local_addr().unwrap();
        let open = watch::Sender::new(false);
        let hold = |State(open): State<watch::Receiver<bool>>| async move {
            open.clone().wait_for(|open| *open).await.unwrap();
            "held"
        };
        let app = Router::new()
            .route("/hold", get(hold))
            .route("/socket", get(echo))
            .fallback(|| async { "done" })
            .with_state(open.subscribe());
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { address, open }
    }
}

async fn echo(mut request: axum::extract::Request) -> axum::response::Response {
    let client = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let mut client = TokioIo::new(client.await.unwrap());
        let (mut read, mut write) = tokio::io::split(&mut client);
        tokio::io::copy(&mut read, &mut write).await.ok();
    });
    axum::response::Response::builder()
        .status(101)
        .header("connection", "upgrade")
        .header("upgrade", "echo")
        .body(axum::body::Body::empty())
        .unwrap()
}
