//! An HTTP server with fixed answers, for what a healthy storage service never says: throttling, silence, nonsense.

use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Gives the same answer to every request until it is changed.
pub struct Answers {
    pub port: u16,
    answer: watch::Sender<Arc<[u8]>>,
    requests: Arc<parking_lot::Mutex<Vec<String>>>,
    server: JoinHandle<()>,
}

impl Answers {
    /// Starts with an answer: status line, headers and body as they go over the wire. An empty one means silence.
    pub async fn start(answer: &[u8]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a free loopback port");
        let port = listener.local_addr().expect("a bound address").port();
        let (sender, receiver) = watch::channel::<Arc<[u8]>>(Arc::from(answer));
        let requests = Arc::<parking_lot::Mutex<Vec<String>>>::default();
        let counted = requests.clone();
        let server = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (answer, counted) = (receiver.clone(), counted.clone());
                tokio::spawn(async move {
                    let Some(request) = read_request(&mut stream).await else {
                        return;
                    };
                    counted.lock().push(request);
                    let answer = answer.borrow().clone();
                    if answer.is_empty() {
                        // Silence: wait until the client gives up.
                        let _ = stream.read_u8().await;
                        return;
                    }
                    let _ = stream.write_all(&answer).await;
                });
            }
        });
        Self {
            port,
            answer: sender,
            requests,
            server,
        }
    }

    pub fn answer_from_now(&self, answer: &[u8]) {
        self.answer.send_replace(Arc::from(answer));
    }

    /// Number of requests so far.
    pub fn requests(&self) -> usize {
        self.requests.lock().len()
    }

    /// The requests so far, head and body.
    pub fn received(&self) -> Vec<String> {
        self.requests.lock().clone()
    }
}

/// Reads one request; `None` when the client has gone.
async fn read_request(stream: &mut TcpStream) -> Option<String> {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        request.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8_lossy(&request).to_ascii_lowercase();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length:"))
        .map_or(0, |length| length.trim().parse().expect("a length"));
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    request.extend(body);
    Some(String::from_utf8_lossy(&request).into_owned())
}

impl Drop for Answers {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// An answer with a body; the connection is closed after it.
pub fn http_answer(status: &str, headers: &str, body: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n{body}",
        body.len()
    )
    .into_bytes()
}
