//! Just enough of HTTP/2 to send what no client library sends: header blocks as they are, and what comes back.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use anyhow::{Context, Result, bail, ensure};

use crate::client::SILENCE;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
/// Of DATA and HEADERS.
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
/// Of SETTINGS.
const ACK: u8 = 1;
/// Every connection carries one request.
const STREAM: u32 = 1;

/// A connection.
pub(crate) struct Http2(TcpStream);

/// What a request leads to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// A response with this status.
    Status(u16),
    /// The stream is ended with this error code.
    Reset(u32),
    /// The connection is ended with this error code.
    GoAway(u32),
    /// The connection is closed without a word.
    Closed,
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Status(status) => write!(f, "{status}"),
            Self::Reset(code) => write!(f, "reset {}", name(*code)),
            Self::GoAway(code) => write!(f, "goaway {}", name(*code)),
            Self::Closed => f.write_str("closed"),
        }
    }
}

/// Error codes, RFC 9113 section 7.
fn name(code: u32) -> String {
    let known = match code {
        0 => "NO_ERROR",
        1 => "PROTOCOL_ERROR",
        2 => "INTERNAL_ERROR",
        3 => "FLOW_CONTROL_ERROR",
        5 => "STREAM_CLOSED",
        6 => "FRAME_SIZE_ERROR",
        7 => "REFUSED_STREAM",
        8 => "CANCEL",
        9 => "COMPRESSION_ERROR",
        11 => "ENHANCE_YOUR_CALM",
        other => return other.to_string(),
    };
    known.to_owned()
}

impl Http2 {
    pub(crate) fn connect(address: SocketAddr) -> Result<Self> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(SILENCE))?;
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")?;
        let mut connection = Self(stream);
        connection.frame(SETTINGS, 0, 0, &[])?;
        Ok(connection)
    }

    fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Result<()> {
        let length = u32::try_from(payload.len())?.to_be_bytes();
        let mut frame = length[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        match self.0.write_all(&frame) {
            // Its answer is read all the same.
            Err(error) if closed(error.kind()) => Ok(()),
            sent => Ok(sent?),
        }
    }

    /// Sends fields as they are.
    pub(crate) fn headers(&mut self, fields: &[(Vec<u8>, Vec<u8>)], end: bool) -> Result<()> {
        let mut block = Vec::new();
        for (name, value) in fields {
            // A literal without indexing, RFC 7541 section 6.2.2.
            block.push(0);
            text(&mut block, name);
            text(&mut block, value);
        }
        let flags = END_HEADERS | if end { END_STREAM } else { 0 };
        self.frame(HEADERS, flags, STREAM, &block)
    }

    pub(crate) fn data(&mut self, data: &[u8], end: bool) -> Result<()> {
        self.frame(DATA, u8::from(end), STREAM, data)
    }

    /// Waits for what the request leads to.
    pub(crate) fn outcome(&mut self) -> Result<Outcome> {
        loop {
            let mut head = [0; 9];
            match self.0.read_exact(&mut head) {
                Err(error) if error.kind() == ErrorKind::UnexpectedEof || closed(error.kind()) => {
                    return Ok(Outcome::Closed);
                }
                read => read.context("no answer")?,
            }
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; length as usize];
            self.0.read_exact(&mut payload)?;
            let code = |at: usize| -> Result<u32> {
                let bytes = payload.get(at..at + 4).context("a short frame")?;
                Ok(u32::from_be_bytes(bytes.try_into()?))
            };
            match (head[3], head[4]) {
                (SETTINGS, flags) if flags & ACK == 0 => self.frame(SETTINGS, ACK, 0, &[])?,
                (HEADERS, flags) => {
                    ensure!(flags & END_HEADERS != 0, "a head in several frames");
                    let status = status(&payload)?;
                    if status >= 200 {
                        return Ok(Outcome::Status(status));
                    }
                }
                (RST_STREAM, _) => return Ok(Outcome::Reset(code(0)?)),
                (GOAWAY, _) => return Ok(Outcome::GoAway(code(4)?)),
                _ => {}
            }
        }
    }
}

fn closed(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)
}

/// A string without Huffman coding, RFC 7541 section 5.
fn text(block: &mut Vec<u8>, text: &[u8]) {
    const PREFIX: usize = 127;
    let length = text.len();
    if length < PREFIX {
        block.push(length as u8);
    } else {
        block.push(PREFIX as u8);
        let mut rest = length - PREFIX;
        while rest >= 128 {
            block.push((rest % 128) as u8 | 128);
            rest /= 128;
        }
        block.push(rest as u8);
    }
    block.extend(text);
}

/// The status, which is the first field of every response.
fn status(block: &[u8]) -> Result<u16> {
    // Entries 8 to 14 of the static table.
    const INDEXED: [u16; 7] = [200, 204, 206, 304, 400, 404, 500];
    match *block {
        [first @ 0x88..=0x8e, ..] => Ok(INDEXED[usize::from(first - 0x88)]),
        // A literal whose name is that of entry 8, with Huffman coding or without.
        [0x48 | 0x08, length, ref rest @ ..] => {
            let value = rest
                .get(..usize::from(length & 0x7f))
                .context("a short head")?;
            let digits = if length & 0x80 == 0 {
                String::from_utf8(value.to_vec())?
            } else {
                huffman_digits(value)?
            };
            Ok(digits.parse()?)
        }
        _ => bail!("a head that does not begin with its status: {block:?}"),
    }
}

/// Decodes digits, RFC 7541 appendix B: 0 to 2 have five bits, 3 to 9 six.
fn huffman_digits(bytes: &[u8]) -> Result<String> {
    let bits: Vec<u8> = bytes
        .iter()
        .flat_map(|byte| (0..8).rev().map(move |bit| (byte >> bit) & 1))
        .collect();
    let mut digits = String::new();
    let mut at = 0;
    while bits.len() - at >= 5 && bits[at..].contains(&0) {
        let number = |length: usize| {
            let bits = bits.get(at..at + length)?;
            Some(bits.iter().fold(0u8, |number, bit| number * 2 + bit))
        };
        if let Some(digit @ 0..=2) = number(5) {
            digits.push(char::from(b'0' + digit));
            at += 5;
        } else if let Some(code @ 0x19..=0x1f) = number(6) {
            digits.push(char::from(b'3' + code - 0x19));
            at += 6;
        } else {
            bail!("no digits: {bytes:?}");
        }
    }
    Ok(digits)
}

#[test]
fn a_status_is_read_in_every_coding() {
    for (block, expected) in [
        (&[0x8d][..], 404),
        (&[0x48, 3, b'5', b'0', b'3'], 503),
        // 4 is 011010, 1 is 00001, 7 is 011101; padding of ones.
        (&[0x48, 0x83, 0b0110_1000, 0b0010_1110, 0b1111_1111], 417),
    ] {
        assert_eq!(status(block).expect("a status"), expected, "{block:?}");
    }
}
