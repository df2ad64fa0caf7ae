//! The parts of the process over real connections, against a data role that follows a script.

use std::{future::Future, net::SocketAddr, path::Path, pin::Pin, sync::Arc, time::Duration};

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

use super::{FrontArgs, connector::Connector, identity, process::assemble, replicas};
use crate::{
    grpc::{SlotsArgs, SlotsServer},
    slots::wire::{
        AdminPaths, RouteSpec, UpstreamProtocol, decode_from_front_end, encode_from_data_role,
        encode_routes,
    },
};

mod rotation;

type Authority = CertifiedIssuer<'static, KeyPair>;

const GROUP: &str = "ns/app/http";
const HOST: &str = "app.ns.maniple.local";
const CAP: u16 = 4;
const INSTANCE: InstanceUid = InstanceUid(7);

/// A slow machine needs this long; a healthy one milliseconds.
async fn soon<T>(what: &str, work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), work)
        .await
        .unwrap_or_else(|_| panic!("waited for {what}"))
}

/// One stream as the data role has it.
struct Opened {
    heard: Streaming<FromFrontEnd>,
    say: mpsc::Sender<Result<FromDataRole, Status>>,
}

impl Opened {
    async fn hear(&mut self) -> Option<ToDataRole> {
        let message = soon("a message of the front end", self.heard.message()).await;
        message
            .unwrap()
            .map(|message| decode_from_front_end(message).unwrap())
    }

    async fn say(&self, epoch: u64, session: u64, seq: u64, body: DataRoleSays) {
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
    async fn lead(&mut self, epoch: u64) -> (u64, Vec<HeldSlots>) {
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
struct Script(mpsc::UnboundedSender<Opened>);

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
fn certificates(authority: &Authority, folder: &Path) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["scaler.test".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, authority).unwrap();
    std::fs::write(folder.join("ca.crt"), authority.pem()).unwrap();
    std::fs::write(folder.join("tls.crt"), certificate.pem()).unwrap();
    std::fs::write(folder.join("tls.key"), key.serialize_pem()).unwrap();
}

fn authority() -> Authority {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A replica of the scaler that hands its streams over.
async fn replica(folder: &Path) -> (SocketAddr, mpsc::UnboundedReceiver<Opened>) {
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
struct FrontEnd {
    address: SocketAddr,
    metrics: Metrics,
    readiness: Readiness,
    leave: CancellationToken,
    left: JoinHandle<()>,
    close: CancellationToken,
    closed: JoinHandle<()>,
}

impl FrontEnd {
    async fn start(scaler: SocketAddr, folder: &Path) -> Self {
        maniple_runtime::install_tls_provider();
        let file = |name: &str| folder.join(name).display().to_string();
        let args = FrontArgs::parse_from([
            "front".to_owned(),
            format!("--slots-server={scaler}"),
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
            closed: tokio::spawn(replicas::follow(
                args.scaler.slots_server,
                parts.link,
                close.clone(),
            )),
            close,
        }
    }

    /// Status line and body of one request.
    async fn get(&self, host: &str, path: &str) -> String {
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

async fn instance() -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let app = axum::Router::new().fallback(|| async { "done" });
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}

fn info(handle: u32, address: SocketAddr) -> InstanceInfo {
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

fn route() -> RouteSpec {
    RouteSpec {
        host: HOST.to_owned(),
        path_prefix: "/".to_owned(),
        group: GroupId::new(GROUP),
        request_timeout: Duration::from_secs(230),
        room: 10,
        patience: Duration::from_secs(60),
        protocol: UpstreamProtocol::Http1,
        admin: AdminPaths::Closed,
        namespace: "ns".to_owned(),
        app: "app".to_owned(),
    }
}

#[tokio::test]
async fn requests_run_in_lent_slots_through_a_broken_stream_until_everything_is_given_back() {
    let folder = tempfile::tempdir().unwrap();
    certificates(&authority(), folder.path());
    let (address, mut streams) = replica(folder.path()).await;
    let front = FrontEnd::start(address, folder.path()).await;

    let mut stream = soon("a stream", streams.recv()).await.unwrap();
    let (session, held) = stream.lead(3).await;
    assert_eq!(held, []);
    assert!(!front.readiness.is_ready(), "there are no routes yet");
    let early = front.get(HOST, "/api/x").await;
    assert!(early.starts_with("HTTP/1.1 503"), "{early}");
    stream
        .say
        .send(Ok(encode_routes(3, &[route()])))
        .await
        .unwrap();
    soon("routes in force", front.readiness.until(true)).await;

    let runs_at = instance().await;
    // The first request tells of itself, and is answered once a slot is lent.
    let (answer, ()) = tokio::join!(front.get(HOST, "/api/x"), async {
        let FrontEndSays::Sync(sync) = stream.hear().await.unwrap().body else {
            panic!("the demand is told first");
        };
        assert_eq!(sync.demand[0].waiting, 1);
        stream
            .say(3, session, 1, DataRoleSays::Instance(info(1, runs_at)))
            .await;
        let grant = DataRoleSays::Grant(vec![(Handle(1), CAP)]);
        stream.say(3, session, 2, grant).await;
    });
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.ends_with("done"), "{answer}");
    assert!(
        front
            .get(HOST, "/admin/host/status")
            .await
            .starts_with("HTTP/1.1 404")
    );
    assert!(
        front
            .get("other.example", "/")
            .await
            .starts_with("HTTP/1.1 404")
    );
    let text = front.metrics.encode();
    let line = format!("maniple_front_slots{{group=\"{GROUP}\",state=\"free\"}} {CAP}");
    assert!(text.contains(&line), "{text}");

    // The stream breaks: held slots serve, and the next Hello names them.
    drop(stream);
    assert!(front.get(HOST, "/api/x").await.starts_with("HTTP/1.1 200"));
    let mut stream = soon("a second stream", streams.recv()).await.unwrap();
    let (next, held) = stream.lead(3).await;
    assert!(next > session, "{next}");
    assert_eq!(
        held,
        [HeldSlots {
            uid: INSTANCE,
            held: CAP,
            busy: 0
        }]
    );
    // A data role of before has no say any more.
    stream.say.send(Ok(encode_routes(2, &[]))).await.unwrap();
    // Handles are those of the session, so that the instance is named again.
    let again = DataRoleSays::Instance(info(9, runs_at));
    stream.say(3, next, 1, again).await;
    assert!(front.get(HOST, "/api/x").await.starts_with("HTTP/1.1 200"));

    // Leaving: all slots, then the Bye, then the end of the stream.
    front.leave.cancel();
    let mut released = 0;
    loop {
        match stream.hear().await.expect("the Bye comes first").body {
            FrontEndSays::Sync(sync) => {
                released += sync.released.iter().map(|(_, count)| count).sum::<u16>();
            }
            FrontEndSays::Bye => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(released, CAP);
    assert!(stream.hear().await.is_none());
    soon("the control task", front.left).await.unwrap();
    front.close.cancel();
    drop(stream);
    soon("the streams", front.closed).await.unwrap();
}

#[tokio::test]
async fn neither_side_talks_to_one_of_another_authority() {
    let (folder, rogue) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let trusted = authority();
    certificates(&trusted, folder.path());
    certificates(&authority(), rogue.path());
    let (address, mut streams) = replica(folder.path()).await;

    // A front end that distrusts the scaler, and one that trusts it and shows a certificate of somebody else.
    for trusts in [false, true] {
        if trusts {
            std::fs::write(rogue.path().join("ca.crt"), trusted.pem()).unwrap();
        }
        let front = FrontEnd::start(address, rogue.path()).await;
        let refused = async {
            while !front
                .metrics
                .encode()
                .contains("maniple_front_stream_failures_total{")
            {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        soon("a refusal", refused).await;
        assert!(!front.readiness.is_ready());
        assert!(front.metrics.encode().contains("maniple_front_streams 0"));
        front.close.cancel();
        soon("the streams", front.closed).await.unwrap();
    }
    assert!(streams.try_recv().is_err(), "a stream was opened");
}

#[test]
fn plain_text_has_to_be_asked_for() {
    let parse = |args: &[&str]| {
        FrontArgs::try_parse_from(["front", "--slots-server=scaler:9091"].iter().chain(args))
    };
    assert!(parse(&[]).is_err());
    assert!(parse(&["--slots-insecure"]).is_ok());
    assert!(parse(&["--slots-insecure", "--slots-server-ca=ca.crt"]).is_err());
    for wrong in ["scaler", ":9091", "scaler:0", "scaler:http"] {
        let args = ["front", "--slots-insecure", "--slots-server", wrong];
        assert!(FrontArgs::try_parse_from(args).is_err(), "{wrong}");
    }
}
