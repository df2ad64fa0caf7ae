//! Clients that send requests and tell what became of each of them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Request, header};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Longest time for a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// Longest time for an answer. Beyond every limit of the front end.
const ANSWER: Duration = Duration::from_secs(150);
/// Header by which the stand-in remembers a request.
const NAME: &str = "x-standin-request";

/// Where requests go in: the Service, or one front end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Door {
    /// Name of the pod, or `service`.
    pub name: String,
    /// Address of HTTP.
    pub address: SocketAddr,
}

/// The doors that are open now. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Doors {
    open: Arc<Mutex<Vec<Door>>>,
}

impl Doors {
    /// Replaces the list.
    pub fn set(&self, doors: Vec<Door>) {
        *self.open.lock() = doors;
    }

    /// One of them.
    pub fn any(&self) -> Option<Door> {
        let open = self.open.lock();
        (!open.is_empty()).then(|| open[fastrand::usize(..open.len())].clone())
    }
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A whole answer.
    Answered {
        /// Status code.
        status: u16,
        /// Instance that answered.
        instance: Option<String>,
        /// Requests that the instance ran when it began this one, this one included.
        in_flight: Option<u64>,
        /// Whether the answer names a time to come back.
        retry_after: bool,
        /// Body of answers that no instance gave.
        own: String,
    },
    /// Nothing was sent: no connection, or the connection was closed before the request was written.
    NotSent(String),
    /// It was sent, and the answer did not come or broke off.
    Broken(String),
    /// The client went away on purpose.
    Left,
}

/// One request.
#[derive(Clone, Debug)]
pub struct Sent {
    /// Its name, which the stand-in remembers.
    pub name: String,
    /// Door that it went through.
    pub door: String,
    /// When the client began.
    pub started: Instant,
    /// When it knew the outcome.
    pub ended: Instant,
    /// Time that the function was asked to take.
    pub work: Duration,
    /// What became of it.
    pub outcome: Outcome,
}

impl Sent {
    /// Answered by an instance, well.
    pub fn is_answered(&self) -> bool {
        matches!(
            &self.outcome,
            Outcome::Answered {
                status: 200,
                instance: Some(_),
                ..
            }
        )
    }

    /// Time beyond the work: connection, wait for a slot, proxying.
    pub fn waited(&self) -> Duration {
        self.ended
            .duration_since(self.started)
            .saturating_sub(self.work)
    }
}

/// What a client does.
#[derive(Clone, Debug)]
pub struct Habit {
    /// Host of the app.
    pub host: String,
    /// Path of the function.
    pub path: String,
    /// Time that the function takes: from, to.
    pub work: (Duration, Duration),
    /// Requests on one connection.
    pub reuse: u32,
    /// Per cent of the requests whose client goes away in the middle.
    pub leaves_percent: u32,
}

/// One client, with at most one request at a time.
pub struct Client {
    habit: Habit,
    doors: Doors,
    connection: Option<Connection>,
}

struct Connection {
    door: String,
    sender: SendRequest<Empty<Bytes>>,
    left: u32,
}

impl Client {
    /// A client without a connection.
    pub fn new(habit: Habit, doors: Doors) -> Self {
        Self {
            habit,
            doors,
            connection: None,
        }
    }

    /// Sends one request and waits for what becomes of it; none while no door is open.
    pub async fn request(&mut self) -> Option<Sent> {
        let (from, to) = self.habit.work;
        let work = Duration::from_millis(fastrand::u64(
            from.as_millis() as u64..=to.as_millis() as u64,
        ));
        let name = format!("{:016x}", fastrand::u64(..));
        let started = Instant::now();
        let mut door = String::new();
        let leaves = fastrand::u32(..100) < self.habit.leaves_percent;
        let exchange = self.exchange(&name, work, &mut door);
        let outcome = if leaves {
            match tokio::time::timeout(work / 2, exchange).await {
                Ok(outcome) => outcome?,
                Err(_) => Outcome::Left,
            }
        } else {
            match tokio::time::timeout(ANSWER, exchange).await {
                Ok(outcome) => outcome?,
                Err(_) => Outcome::Broken(format!("no answer within {} s", ANSWER.as_secs())),
            }
        };
        let is_whole = matches!(outcome, Outcome::Answered { .. });
        if !is_whole {
            self.connection = None;
        }
        Some(Sent {
            name,
            door,
            started,
            ended: Instant::now(),
            work,
            outcome,
        })
    }

    async fn exchange(
        &mut self,
        name: &str,
        work: Duration,
        through: &mut String,
    ) -> Option<Outcome> {
        let uri = format!("{}?ms={}", self.habit.path, work.as_millis());
        let request = || {
            Request::get(&uri)
                .header(header::HOST, &self.habit.host)
                .header(NAME, name)
                .body(Empty::new())
                .expect("host and path are plain text")
        };
        // A kept connection may have been closed meanwhile: then nothing was sent, and a new one is opened, once.
        if let Some(mut kept) = self.connection.take()
            && kept.left > 0
            && kept.sender.ready().await.is_ok()
        {
            through.clone_from(&kept.door);
            match answer(&mut kept.sender, request()).await {
                Err(error) if error.is_canceled() => {}
                result => return Some(self.done(kept, result)),
            }
        }
        let door = self.doors.any()?;
        through.clone_from(&door.name);
        let mut fresh = match open(&door, self.habit.reuse).await {
            Ok(fresh) => fresh,
            Err(error) => return Some(Outcome::NotSent(format!("{error:#}"))),
        };
        let result = answer(&mut fresh.sender, request()).await;
        Some(self.done(fresh, result))
    }

    fn done(&mut self, mut used: Connection, result: hyper::Result<Outcome>) -> Outcome {
        match result {
            Ok(outcome) => {
                used.left = used.left.saturating_sub(1);
                self.connection = Some(used);
                outcome
            }
            Err(error) if error.is_canceled() => Outcome::NotSent(error.to_string()),
            Err(error) => Outcome::Broken(error.to_string()),
        }
    }
}

async fn open(door: &Door, reuse: u32) -> Result<Connection> {
    let stream = tokio::time::timeout(CONNECT, TcpStream::connect(door.address))
        .await
        .with_context(|| format!("no connection within {} s", CONNECT.as_secs()))??;
    stream.set_nodelay(true)?;
    let (sender, connection) = handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(Connection {
        door: door.name.clone(),
        sender,
        left: reuse,
    })
}

async fn answer(
    sender: &mut SendRequest<Empty<Bytes>>,
    request: Request<Empty<Bytes>>,
) -> hyper::Result<Outcome> {
    let response = sender.send_request(request).await?;
    let text = |name: &str| {
        let value = response.headers().get(name)?.to_str().ok()?;
        Some(value.to_owned())
    };
    let (status, instance) = (response.status().as_u16(), text("x-standin-instance"));
    let in_flight = text("x-standin-in-flight").and_then(|count| count.parse().ok());
    let retry_after = text("retry-after").is_some();
    let body = response.into_body().collect().await?.to_bytes();
    let own = if instance.is_none() {
        String::from_utf8_lossy(&body).into_owned()
    } else {
        String::new()
    };
    Ok(Outcome::Answered {
        status,
        instance,
        in_flight,
        retry_after,
        own,
    })
}

/// Clients, of which as many are active as is said.
pub struct Clients {
    count: usize,
    active: watch::Sender<usize>,
    under_way: Arc<AtomicUsize>,
    sent: Arc<Mutex<Vec<Sent>>>,
    tasks: Vec<JoinHandle<()>>,
}

impl Clients {
    /// Clients that are not active yet.
    pub fn start(count: usize, habit: &Habit, doors: &Doors) -> Self {
        let active = watch::Sender::new(0);
        let under_way = Arc::new(AtomicUsize::new(0));
        let sent = Arc::new(Mutex::new(Vec::new()));
        let tasks = (0..count)
            .map(|index| {
                let (mut active, under_way, sent) =
                    (active.subscribe(), under_way.clone(), sent.clone());
                let mut client = Client::new(habit.clone(), doors.clone());
                tokio::spawn(async move {
                    while active.wait_for(|active| index < *active).await.is_ok() {
                        under_way.fetch_add(1, Ordering::SeqCst);
                        let one = client.request().await;
                        under_way.fetch_sub(1, Ordering::SeqCst);
                        match one {
                            Some(one) => sent.lock().push(one),
                            // No door is open.
                            None => tokio::time::sleep(Duration::from_millis(100)).await,
                        }
                    }
                })
            })
            .collect();
        Self {
            count,
            active,
            under_way,
            sent,
            tasks,
        }
    }

    /// As many clients as there are slots.
    pub fn all(&self) {
        self.active.send_replace(self.count);
    }

    /// So many.
    pub fn so_many(&self, active: usize) {
        self.active.send_replace(active);
    }

    /// Half of them.
    pub fn half(&self) {
        self.active.send_replace(self.count.div_ceil(2));
    }

    /// A random number of them.
    pub fn some(&self) {
        self.active.send_replace(fastrand::usize(1..=self.count));
    }

    /// None.
    pub fn none(&self) {
        self.active.send_replace(0);
    }

    /// Requests under way.
    pub fn busy(&self) -> usize {
        self.under_way.load(Ordering::SeqCst)
    }

    /// What was sent since the last call.
    pub fn take(&self) -> Vec<Sent> {
        std::mem::take(&mut self.sent.lock())
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}
