//! A client that sends bytes as they are and reads answers to the letter.

use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

/// Longest silence of a healthy front end on a busy machine.
pub(crate) const SILENCE: Duration = Duration::from_secs(20);

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// Its status code.
    pub(crate) status: u16,
    /// Its body.
    pub(crate) body: String,
}

/// A connection.
pub(crate) struct Client {
    to: TcpStream,
    from: BufReader<TcpStream>,
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Result<Self> {
        let to = TcpStream::connect(address)?;
        to.set_nodelay(true)?;
        to.set_read_timeout(Some(SILENCE))?;
        let from = BufReader::new(to.try_clone()?);
        Ok(Self { to, from })
    }

    /// Sends bytes. That the other side has closed already shows in its answers.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> Result<()> {
        match self.to.write_all(bytes) {
            Err(error) if !is_closed(error.kind()) => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Ends the client's side of the connection.
    pub(crate) fn hang_up(&mut self) -> Result<()> {
        match self.to.shutdown(Shutdown::Write) {
            Err(error) if error.kind() != ErrorKind::NotConnected => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// The next answer; none when the connection is closed.
    pub(crate) fn answer(&mut self) -> Result<Option<Answer>> {
        let mut status = String::new();
        match self.from.read_line(&mut status) {
            Ok(0) => return Ok(None),
            Err(error) if is_closed(error.kind()) => return Ok(None),
            read => drop(read.context("no answer")?),
        }
        let code = status
            .strip_prefix("HTTP/1.")
            .and_then(|rest| rest.get(2..))
            .and_then(|rest| rest.get(..3))
            .and_then(|code| code.parse().ok())
            .with_context(|| format!("not a status line: {status:?}"))?;
        let mut length = None;
        loop {
            let mut field = String::new();
            ensure!(
                self.from.read_line(&mut field)? > 0,
                "a head that ends early"
            );
            if field == "\r\n" {
                break;
            }
            let (name, value) = field
                .split_once(':')
                .with_context(|| format!("not a header line: {field:?}"))?;
            if name.eq_ignore_ascii_case("content-length") {
                length = Some(value.trim().parse::<usize>()?);
            }
        }
        let mut body = vec![0; length.unwrap_or_default()];
        self.from.read_exact(&mut body).context("answer's body")?;
        Ok(Some(Answer {
            status: code,
            body: String::from_utf8(body)?,
        }))
    }
}

fn is_closed(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::ConnectionAborted
    )
}

/// One ordinary request on a connection of its own.
pub(crate) fn get(address: SocketAddr, path: &str) -> Result<Answer> {
    let mut client = Client::connect(address)?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n");
    client.send(request.as_bytes())?;
    client
        .answer()?
        .context("an ordinary request has no answer")
}
