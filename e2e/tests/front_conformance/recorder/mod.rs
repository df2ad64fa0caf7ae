//! An instance on a plain socket that writes down every request as it came, byte by byte, and reads them by the strict rules only.

pub(crate) mod http2;

use std::io::{BufRead, BufReader, ErrorKind, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use anyhow::{Context, Result, bail, ensure};
use parking_lot::Mutex;

/// What a front end adds, the key only to WebSockets over HTTP/2. Everything else came from the client.
const ADDED: [&str; 8] = [
    "forwarded",
    "sec-websocket-key",
    "traceparent",
    "x-arr-log-id",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-request-id",
];

/// One request as an instance read it. Bytes are shown as the characters of the same numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Received {
    /// The request line.
    pub(crate) line: String,
    /// Header lines in lower-case order of names, without what the front end adds.
    pub(crate) headers: Vec<String>,
    /// The decoded body.
    pub(crate) body: String,
    /// Trailer lines.
    pub(crate) trailers: Vec<String>,
}

/// What an instance has seen.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Complete requests.
    pub(crate) requests: Vec<Received>,
    /// Requests that never ended.
    pub(crate) broken: Vec<String>,
    /// What is not HTTP/1.1 to the letter. Nothing may ever be here.
    pub(crate) wrong: Vec<String>,
}

/// The instance.
#[derive(Debug)]
pub(crate) struct Recorder {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Seen>>,
}

impl Recorder {
    /// Starts one. It answers every request with 200 and the request's target as the body.
    pub(crate) fn start() -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let address = listener.local_addr()?;
        let seen = Arc::new(Mutex::new(Seen::default()));
        let shared = seen.clone();
        // Ends with the test process.
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let seen = shared.clone();
                thread::spawn(move || {
                    if let Err(error) = serve(stream, &seen) {
                        seen.lock().wrong.push(format!("{error:#}"));
                    }
                });
            }
        });
        Ok(Self { address, seen })
    }

    /// What was seen since the last call.
    pub(crate) fn take(&self) -> Seen {
        std::mem::take(&mut self.seen.lock())
    }
}

fn latin1(bytes: &[u8]) -> String {
    bytes.iter().map(|&byte| char::from(byte)).collect()
}

/// One line without its CRLF; none at the end of the stream.
fn line(stream: &mut impl BufRead) -> Result<Option<String>> {
    let mut bytes = Vec::new();
    match stream.read_until(b'\n', &mut bytes) {
        Ok(0) => return Ok(None),
        // What an unfinished request ends with, when something of it was not read.
        Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(None),
        read => drop(read?),
    }
    let text = latin1(&bytes);
    let line = text
        .strip_suffix("\r\n")
        .with_context(|| format!("a line that does not end in CRLF: {text:?}"))?;
    let control = |c: char| c.is_ascii_control() && c != '\t';
    ensure!(
        !line.contains(control),
        "control characters in a line: {line:?}"
    );
    Ok(Some(line.to_owned()))
}

/// Lines until an empty one.
fn fields(stream: &mut impl BufRead) -> Result<Option<Vec<String>>> {
    let mut fields = Vec::new();
    loop {
        match line(stream)? {
            None => return Ok(None),
            Some(line) if line.is_empty() => return Ok(Some(fields)),
            Some(line) => {
                let (name, _) = line
                    .split_once(": ")
                    .or_else(|| line.split_once(':'))
                    .with_context(|| format!("a header line without a colon: {line:?}"))?;
                let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
                ensure!(
                    !name.is_empty() && name.chars().all(token),
                    "a header name that is no token: {line:?}"
                );
                fields.push(line);
            }
        }
    }
}

fn values<'a>(fields: &'a [String], name: &str) -> Vec<&'a str> {
    fields
        .iter()
        .filter_map(|field| field.split_once(':'))
        .filter(|(field, _)| field.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim())
        .collect()
}

/// The body; none when the stream ended before it did.
fn body(stream: &mut impl BufRead, head: &[String]) -> Result<Option<(Vec<u8>, Vec<String>)>> {
    let (lengths, codings) = (
        values(head, "content-length"),
        values(head, "transfer-encoding"),
    );
    match (lengths.as_slice(), codings.as_slice()) {
        ([], []) => Ok(Some((Vec::new(), Vec::new()))),
        ([length], []) => {
            ensure!(
                length.bytes().all(|b| b.is_ascii_digit()),
                "Content-Length {length:?}"
            );
            let mut body = vec![0; length.parse()?];
            Ok(stream
                .read_exact(&mut body)
                .is_ok()
                .then_some((body, Vec::new())))
        }
        ([], ["chunked"]) => {
            let mut body = Vec::new();
            loop {
                let Some(size) = line(stream)? else {
                    return Ok(None);
                };
                ensure!(
                    !size.is_empty() && size.bytes().all(|b| b.is_ascii_hexdigit()),
                    "chunk size {size:?}"
                );
                let size = usize::from_str_radix(&size, 16)?;
                if size == 0 {
                    return Ok(fields(stream)?.map(|trailers| (body, trailers)));
                }
                let begin = body.len();
                body.resize(begin + size, 0);
                if stream.read_exact(&mut body[begin..]).is_err() {
                    return Ok(None);
                }
                let Some(end) = line(stream)? else {
                    return Ok(None);
                };
                ensure!(
                    end.is_empty(),
                    "a chunk that is longer than it says: {end:?}"
                );
            }
        }
        _ => bail!("the body's end is said more than once: {head:?}"),
    }
}

fn serve(stream: TcpStream, seen: &Mutex<Seen>) -> Result<()> {
    let mut answers = stream.try_clone()?;
    let mut stream = BufReader::new(stream);
    loop {
        let Some(request) = line(&mut stream)? else {
            return Ok(());
        };
        let Some(head) = fields(&mut stream)? else {
            seen.lock().broken.push(request);
            return Ok(());
        };
        let Some((body, trailers)) = body(&mut stream, &head)? else {
            seen.lock().broken.push(request);
            return Ok(());
        };
        let mut parts = request.split(' ');
        let (method, target, version) = (parts.next(), parts.next(), parts.next());
        ensure!(
            version == Some("HTTP/1.1") && parts.next().is_none(),
            "request line {request:?}"
        );
        let target = target.unwrap_or_default().to_owned();
        let length = target.len();
        let head_only = method == Some("HEAD");
        let mut headers: Vec<String> = head
            .into_iter()
            .filter(|field| {
                let name = field.split(':').next().unwrap_or_default();
                !ADDED.iter().any(|added| name.eq_ignore_ascii_case(added))
            })
            .collect();
        headers.sort();
        seen.lock().requests.push(Received {
            line: request,
            headers,
            body: latin1(&body),
            trailers,
        });
        let content = if head_only { "" } else { &target };
        // In one piece: several small ones wait for each other.
        let answer = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\r\n{content}"
        );
        answers.write_all(answer.as_bytes())?;
    }
}
