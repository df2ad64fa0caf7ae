//! An HTTP server with fixed answers, for what a healthy storage service never says: throttling, silence, nonsense.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Gives the same answer to every request until it is changed.
pub struct Answers {
    pub port: u16,
    answer: watch::Sender<Arc<[u8]>>,
    requests: Arc<AtomicUsize>,
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
        let requests = Arc::<AtomicUsize>::default();
        let counted = requests.clone();
        let server = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (answer, counted) = (receiver.clone(), counted.clone());
                tokio::spawn(async move {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        match stream.read_u8().await {
                            Ok(byte) => head.push(byte),
                            Err(_) => return,
                        }
                    }
                    counted.fetch_add(1, Ordering::SeqCst);
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

    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
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
