//! Load by wrk and h2load, as fast as the contestant answers.

use std::{
    io::Write as _,
    net::{SocketAddr, TcpStream},
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

use super::rate;

/// Connections of HTTP/1.1 load.
const CONNECTIONS: u32 = 64;
/// Connections and requests at a time on each for HTTP/2 load: 64 requests at a time as well.
const STREAMS: (u32, u32) = (8, 8);

/// Headers of a browser.
const BROWSER: [&str; 12] = [
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
    "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    "Accept-Language: en-US,en;q=0.5",
    "Accept-Encoding: gzip, deflate, br, zstd",
    "Referer: https://app.example/list?page=3",
    "Connection: keep-alive",
    "Cookie: session=3f1c9a5e7b2d4860; theme=dark",
    "Sec-Fetch-Dest: document",
    "Sec-Fetch-Mode: navigate",
    "Sec-Fetch-Site: same-origin",
    "Priority: u=0, i",
    "Cache-Control: no-cache",
];

/// One way of asking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Load {
    /// GET of a path over HTTP/1.1.
    Get(&'static str),
    /// The same with the headers that a browser sends.
    Browser(&'static str),
    /// GET of a path over HTTP/2 without TLS.
    Http2(&'static str),
    /// POST of 1 MiB over HTTP/1.1.
    Upload,
}

/// Requests answered with 200, and for how long they were sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answered {
    pub(super) requests: u64,
    pub(super) time: Duration,
}

/// Runs the load; every request has to be answered with 200.
pub(super) fn run(
    load: Load,
    address: SocketAddr,
    time: Duration,
    folder: &Path,
) -> Result<Answered> {
    let seconds = time.as_secs().max(1).to_string();
    let started = Instant::now();
    let mut command;
    match load {
        Load::Get(path) | Load::Browser(path) => {
            command = Command::new("wrk");
            command.args(["-t1", &format!("-c{CONNECTIONS}"), "-d", &seconds]);
            if let Load::Browser(_) = load {
                command.args(BROWSER.iter().flat_map(|header| ["-H", header]));
            }
            command.arg(format!("http://{address}/{path}"));
        }
        Load::Upload => {
            let script = folder.join("upload.lua");
            std::fs::write(
                &script,
                "wrk.method = 'POST'\nwrk.body = string.rep('x', 1048576)\n",
            )?;
            command = Command::new("wrk");
            command
                .args(["-t1", "-c16", "-d", &seconds, "-s"])
                .arg(script);
            command.arg(format!("http://{address}/upload"));
        }
        Load::Http2(path) => {
            command = Command::new("h2load");
            command.args(["-t1", "-D", &seconds]);
            command.args([format!("-c{}", STREAMS.0), format!("-m{}", STREAMS.1)]);
            command.arg(format!("http://{address}/{path}"));
        }
    }
    let output = command
        .output()
        .with_context(|| format!("{} does not start", command.get_program().display()))?;
    let time = started.elapsed();
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "{command:?} failed: {text}");
    let requests = match load {
        Load::Http2(_) => h2load(&text),
        _ => wrk(&text),
    };
    let requests = requests.with_context(|| format!("{command:?} says: {text}"))?;
    Ok(Answered { requests, time })
}

/// One request, which has to be answered with 200.
pub(super) fn one(address: SocketAddr) -> Result<()> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(
        stream,
        "GET /small HTTP/1.1\r\nhost: {}\r\n\r\n",
        address.ip()
    )?;
    rate::response(&mut stream, &mut [0; 4096])
}

/// Requests of a run of wrk without any failure.
fn wrk(text: &str) -> Option<u64> {
    if text.contains("Non-2xx") || text.contains("Socket errors") {
        return None;
    }
    let line = text.lines().find(|line| line.contains(" requests in "))?;
    line.split_whitespace().next()?.parse().ok()
}

/// The same of h2load. Requests under way at the end of a timed run count as neither.
fn h2load(text: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.starts_with("requests: "))?;
    let number = |what: &str| {
        let (before, _) = line.split_once(what)?;
        before.split_whitespace().last()?.parse::<u64>().ok()
    };
    if (number(" failed")?, number(" errored")?, number(" timeout")?) != (0, 0, 0) {
        return None;
    }
    let codes = text
        .lines()
        .find(|line| line.starts_with("status codes: "))?;
    if !codes.contains(" 0 3xx, 0 4xx, 0 5xx") {
        return None;
    }
    number(" succeeded")
}

#[cfg(test)]
mod tests {
    use super::{h2load, wrk};

    #[test]
    fn only_runs_without_failures_count() {
        let text = "Running 4s test\n  1234 requests in 4.00s, 1.0MB read\nRequests/sec: 1\n";
        assert_eq!(wrk(text), Some(1234));
        assert_eq!(wrk(&format!("{text}  Non-2xx or 3xx responses: 3\n")), None);
        let text = "requests: 9 total, 9 started, 9 done, 8 succeeded, 0 failed, 0 errored, 0 timeout\nstatus codes: 8 2xx, 0 3xx, 0 4xx, 0 5xx\n";
        assert_eq!(h2load(text), Some(8));
        assert_eq!(h2load(&text.replace("0 failed", "1 failed")), None);
        assert_eq!(h2load(&text.replace("0 5xx", "1 5xx")), None);
    }
}
