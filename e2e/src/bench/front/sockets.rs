//! Thousands of open WebSockets: what each costs in the memory of the proxy. The instance that holds them also takes uploads.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream as AsyncStream},
};

use super::usage;

/// The handshake of RFC 6455 section 1.3 with its answer. The instance sends this answer always: nobody here checks more.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
/// A masked text frame with the payload "ping!".
const FRAME: &[u8] = b"\x81\x85\0\0\0\0ping!";

/// An instance that keeps WebSockets open and sends back the bytes that come, and that reads uploads to their end, forever.
pub(super) async fn serve(listen: SocketAddr) -> Result<()> {
    let listener = TcpListener::bind(listen).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(async move { answer(stream).await.ok() });
    }
}

async fn answer(mut stream: AsyncStream) -> Result<()> {
    while let Some((head, body)) = head(&mut stream).await? {
        if head.contains("upgrade: websocket") {
            let answer = format!(
                "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: {ACCEPT}\r\n\r\n"
            );
            stream.write_all(answer.as_bytes()).await?;
            return echo(stream).await;
        }
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length:"))
            .map_or(Ok(0), |value| value.trim().parse::<u64>())?;
        let rest = length.checked_sub(body).context("two requests at a time")?;
        tokio::io::copy(&mut (&mut stream).take(rest), &mut tokio::io::sink()).await?;
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
        stream.write_all(answer).await?;
    }
    Ok(())
}

/// The next head in lower case, and how many bytes of its body came with it.
async fn head(stream: &mut AsyncStream) -> Result<Option<(String, u64)>> {
    let mut bytes = vec![0; 16 * 1024];
    let mut filled = 0;
    loop {
        let count = stream.read(&mut bytes[filled..]).await?;
        if count == 0 {
            return Ok(None);
        }
        filled += count;
        let end = bytes[..filled].windows(4).position(|w| w == b"\r\n\r\n");
        if let Some(end) = end {
            let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
            return Ok(Some((head, (filled - end - 4) as u64)));
        }
    }
}

async fn echo(mut stream: AsyncStream) -> Result<()> {
    // Small, so that the instances' memory stays out of the way.
    let mut bytes = [0; 64];
    loop {
        let count = stream.read(&mut bytes).await?;
        if count == 0 {
            return Ok(());
        }
        stream.write_all(&bytes[..count]).await?;
    }
}

/// Opens `count` WebSockets through the proxy `pid` at `address`, sends a frame over each and back, and returns the memory that each added, in bytes.
pub(super) fn measure(pid: u32, address: SocketAddr, count: u32) -> Result<u64> {
    let before = usage::memory(pid)?;
    let mut open = Vec::new();
    for number in 0..count {
        let socket = connect(address).with_context(|| format!("WebSocket {number} of {count}"))?;
        open.push(socket);
    }
    for socket in &mut open {
        let mut back = [0; FRAME.len()];
        socket.write_all(FRAME)?;
        socket.read_exact(&mut back)?;
        ensure!(back == FRAME, "another frame came back");
    }
    thread::sleep(Duration::from_secs(1));
    let after = usage::memory(pid)?;
    Ok(after.saturating_sub(before) / u64::from(count))
}

fn connect(address: SocketAddr) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    let request = format!(
        "GET /socket HTTP/1.1\r\nhost: {}\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: {KEY}\r\n\r\n",
        address.ip()
    );
    stream.write_all(request.as_bytes())?;
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let text = String::from_utf8_lossy(&head);
    ensure!(text.starts_with("HTTP/1.1 101"), "no upgrade: {text}");
    Ok(stream)
}
