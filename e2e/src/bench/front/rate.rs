//! Open-loop load: requests start at fixed times whether the ones before are answered or not, and latency counts from those times.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, ensure};

/// Connections that share the rate. A late answer delays only the next request of its own connection, and that wait is counted.
const CONNECTIONS: u32 = 20;

/// Latency of the requests of one run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Latency {
    pub(super) p50: Duration,
    pub(super) p99: Duration,
}

/// Sends `per_second` requests for `path` to `address` for `time`.
pub(super) fn run(
    address: SocketAddr,
    path: &str,
    per_second: u32,
    time: Duration,
) -> Result<Latency> {
    let period = Duration::from_secs(1) * CONNECTIONS / per_second;
    let request = format!("GET {path} HTTP/1.1\r\nhost: {}\r\n\r\n", address.ip());
    let start = Instant::now() + Duration::from_millis(20);
    let workers: Vec<_> = (0..CONNECTIONS)
        .map(|number| {
            let (request, first) = (request.clone(), start + period * number / CONNECTIONS);
            thread::spawn(move || worker(address, request.as_bytes(), first, period, start + time))
        })
        .collect();
    let mut all = Vec::new();
    for worker in workers {
        let seen = worker
            .join()
            .map_err(|_| anyhow!("a load thread panicked"))?;
        all.extend(seen?);
    }
    all.sort_unstable();
    ensure!(!all.is_empty(), "nothing was measured");
    let at = |percent: usize| all[all.len() * percent / 100];
    Ok(Latency {
        p50: at(50),
        p99: at(99),
    })
}

fn worker(
    address: SocketAddr,
    request: &[u8],
    first: Instant,
    period: Duration,
    end: Instant,
) -> Result<Vec<Duration>> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut buffer = vec![0; 64 * 1024];
    let mut seen = Vec::new();
    let mut due = first;
    while due < end {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        stream.write_all(request)?;
        response(&mut stream, &mut buffer)?;
        seen.push(due.elapsed());
        due += period;
    }
    Ok(seen)
}

/// Reads one response of known length.
pub(super) fn response(stream: &mut TcpStream, buffer: &mut [u8]) -> Result<()> {
    let mut filled = 0;
    loop {
        let count = stream.read(&mut buffer[filled..])?;
        ensure!(count > 0, "the connection was closed early");
        filled += count;
        if let Some(length) = complete(&buffer[..filled])? {
            ensure!(length == filled, "more than one response came");
            return Ok(());
        }
    }
}

/// Length of the response if it is there as a whole.
fn complete(bytes: &[u8]) -> Result<Option<usize>> {
    let Some(head) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
        return Ok(None);
    };
    let text = std::str::from_utf8(&bytes[..head])?;
    ensure!(text.starts_with("HTTP/1.1 200"), "not answered: {text}");
    let length: usize = text
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .and_then(|(_, value)| value.trim().parse().ok())
        .with_context(|| format!("a response without length: {text}"))?;
    let whole = head + 4 + length;
    Ok((bytes.len() >= whole).then_some(whole))
}

#[cfg(test)]
mod tests {
    use super::complete;

    #[test]
    fn a_response_is_complete_with_its_last_byte() {
        let text = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
        assert_eq!(complete(&text[..text.len() - 1]).unwrap(), None);
        assert_eq!(complete(text).unwrap(), Some(text.len()));
        assert!(complete(b"HTTP/1.1 503 No\r\n\r\n").is_err());
        assert!(complete(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
    }
}
