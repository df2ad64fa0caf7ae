//! A front end with everything but its signals, and a data role that follows a script.

use std::{
    collections::HashSet, future::Future, net::SocketAddr, path::Path, pin::Pin, sync::Arc,
    time::Duration,
};

use clap::Parser;
use maniple_core::slots::message::{
    DataRoleSays, Epoch, FrontEndSays, GroupId, Handle, Header, HeldSlots, InstanceInfo,
    InstanceUid, Rank, Seq, Session, Tier, ToDataRole, ToFrontEnd,
};
use maniple_front::server::serve;
use maniple_proto::slots::{
    FromDataRole, FromFrontEnd,
    slots_server::{Slots, SlotsServer as Service},
};
use maniple_runtime::{Component, Metrics, Readiness};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::JoinHandle,
};
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming, service::Routes};

use super::super::{FrontArgs, connector::Connector, identity, process::assemble, replicas};
use crate::{
    grpc::{SlotsArgs, SlotsServer},
    slots::wire::{
        AdminPaths, RouteSpec, UpstreamProtocol, decode_from_front_end, encode_from_data_role,
    },
};

pub(super) type Authority = CertifiedIssuer<'static, KeyPair>;

pub(super) const GROUP: &str = "ns/app/http";
pub(super) const HOST: &str = "app.ns.maniple.local";
pub(super) const CAP: u16 = 4;
pub(super) const INSTANCE: InstanceUid = InstanceUid(7);

/// A slow machine needs this long; a healthy one milliseconds.
pub(super) async fn soon<T>(what: &str, work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), work)
        .await
        .unwrap_or_else(|_| panic!("waited for {what}"))
}

/// One stream as the data role has it.
pub(super) struct Opened {
    pub(super) heard: Streaming<FromFrontEnd>,
    pub(super) say: mpsc::Sender<Result<FromDataRole, Status>>,
}

impl Opened {
    pub(super) async fn hear(&mut self) -> Option<ToDataRole> {
        let message = soon("a message of the front end", self.heard.message()).await;
        message
            .unwrap()
            .map(|message| decode_from_front_end(message).unwrap())
    }

    pub(super) async fn say(&self, epoch: u64, session: u64, seq: u64, body: DataRoleSays) {
        let message = ToFrontEnd {
            header: Header {
                epoch: Epoch(epoch),
                session: Session(session),
                seq: Seq(seq),
                ack: Seq(0),
            },
            body,
        };
        self.say
            .send(Ok(encode_from_data_role(&message)))
            .await
            .unwrap();
    }

    /// Leads and returns the session and what the front end says that it holds.
    pub(super) async fn lead(&mut self, epoch: u64) -> (u64, Vec<HeldSlots>) {
        self.say(epoch, 0, 1, DataRoleSays::Lead { features: 0 })
            .await;
        let message = self.hear().await.unwrap();
        assert_eq!(message.header.epoch, Epoch(epoch));
        let FrontEndSays::Hello(hello) = message.body else {
            panic!("no Hello but {message:?}");
        };
        (message.header.session.0, hello.slots)
    }
}

/// Hands every stream to the test.
pub(super) struct Script(mpsc::UnboundedSender<Opened>);

#[tonic::async_trait]
impl Slots for Script {
    type JoinStream = Pin<Box<dyn Stream<Item = Result<FromDataRole, Status>> + Send>>;

    async fn join(
        &self,
        request: Request<Streaming<FromFrontEnd>>,
    ) -> Result<Response<Self::JoinStream>, Status> {
        let (say, said) = mpsc::channel(16);
        let heard = request.into_inner();
        self.0.send(Opened { heard, say }).ok();
        Ok(Response::new(Box::pin(ReceiverStream::new(said))))
    }
}

/// Certificates of one CA: `ca.crt`, `tls.crt` and `tls.key` in a folder.
pub(super) fn certificates(authority: &Authority, folder: &Path) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["scaler.test".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, authority).unwrap();
    std::fs::write(folder.join("ca.crt"), authority.pem()).unwrap();
    std::fs::write(folder.join("tls.crt"), certificate.pem()).unwrap();
    std::fs::write(folder.join("tls.key"), key.serialize_pem()).unwrap();
}

pub(super) fn authority() -> Authority {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A replica of the scaler that hands its streams over.
pub(super) async fn replica(folder: &Path) -> (SocketAddr, mpsc::UnboundedReceiver<Opened>) {
    let args = SlotsArgs {
        slots_address: Some(([127, 0, 0, 1], 0).into()),
        slots_tls_cert: Some(folder.join("tls.crt")),
        slots_tls_key: Some(folder.join("tls.key")),
        slots_tls_client_ca: Some(folder.join("ca.crt")),
        ..SlotsArgs::default()
    };
    let server = SlotsServer::bind(&args).await.unwrap().unwrap();
    let address = server.local_address().unwrap();
    let (streams, opened) = mpsc::unbounded_channel();
    let routes = Routes::new(Service::new(Script(streams)));
    tokio::spawn(server.serve(routes, CancellationToken::new()));
    (address, opened)
}

/// A front end with everything but its signals.
pub(super) struct FrontEnd {
    pub(super) address: SocketAddr,
    pub(super) metrics: Metrics,
    pub(super) readiness: Readiness,
    pub(super) leave: CancellationToken,
    pub(super) left: JoinHandle<()>,
    pub(super) close: CancellationToken,
    pub(super) closed: JoinHandle<()>,
}

impl FrontEnd {
    /// Of the replica at `scaler`.
    pub(super) async fn start(scaler: SocketAddr, folder: &Path) -> Self {
        Self::with_names(folder, move || Ok(HashSet::from([scaler]))).await
    }

    /// Of the replicas that `look` finds.
    pub(super) async fn with_names(
        folder: &Path,
        look: impl Fn() -> std::io::Result<HashSet<SocketAddr>> + Send + Sync + 'static,
    ) -> Self {
        maniple_runtime::install_tls_provider();
        let file = |name: &str| folder.join(name).display().to_string();
        let args = FrontArgs::parse_from([
            "front".to_owned(),
            "--slots-server=scaler.test:9091".to_owned(),
            "--slots-server-name=scaler.test".to_owned(),
            format!("--slots-server-ca={}", file("ca.crt")),
            format!("--slots-client-cert={}", file("tls.crt")),
            format!("--slots-client-key={}", file("tls.key")),
        ]);
        let (metrics, readiness) = (
            Metrics::new(Component::new("front", "0")),
            Readiness::default(),
        );
        let connector = Arc::new(Connector::new(args.scaler.clone()).await.unwrap());
        let member = identity::new(&args).unwrap();
        let unready = readiness.pending("routes");
        let parts = assemble(&args, member, connector, &metrics, unready)
            .await
            .unwrap();
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (leave, close) = (CancellationToken::new(), CancellationToken::new());
        tokio::spawn(serve(
            listener,
            parts.proxy,
            args.server(),
            CancellationToken::new(),
        ));
        Self {
            address,
            metrics,
            readiness,
            left: tokio::spawn(parts.control.run(parts.heard, leave.clone())),
            leave,
            closed: tokio::spawn({
                let (link, close) = (parts.link, close.clone());
                async move {
                    let look = || std::future::ready(look());
                    replicas::follow_by("scaler.test:9091", look, link, close).await;
                }
            }),
            close,
        }
    }

    /// Status line and body of one request.
    pub(super) async fn get(&self, host: &str, path: &str) -> String {
        let exchange = async {
            let mut stream = TcpStream::connect(self.address).await.unwrap();
            let request =
                format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).await.unwrap();
            text
        };
        soon("a response", exchange).await
    }
}

pub(super) async fn instance() -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let app = axum::Router::new().fallback(|| async { "done" });
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}

pub(super) fn info(handle: u32, address: SocketAddr) -> InstanceInfo {
    InstanceInfo {
        handle: Handle(handle),
        uid: INSTANCE,
        address,
        group: GroupId::new(GROUP),
        cap: CAP,
        rank: Rank {
            tier: Tier::OnDemand,
            age: 1,
        },
    }
}

pub(super) fn route() -> RouteSpec {
    RouteSpec {
        host: HOST.to_owned(),
        path_prefix: "/".to_owned(),
        group: GroupId::new(GROUP),
        request_timeout: Duration::from_secs(230),
        run_limit: Some(Duration::from_secs(230)),
        room: 10,
        patience: Duration::from_secs(60),
        protocol: UpstreamProtocol::Http1,
        admin: AdminPaths::Closed,
        namespace: "ns".to_owned(),
        app: "app".to_owned(),
    }
}
