//! Clients that take without giving, against the process: ordinary requests are answered all the same.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use e2e::front_alone::{App, FrontAlone};

use crate::client::{Client, SILENCE, get};
use crate::programs;
use crate::recorder::Recorder;

/// Connections at a time.
const ROOM: usize = 100;
/// Connections of clients that mean ill.
const SILENT: usize = 600;

/// Kinds of silence: nothing at all, parts of a head, a head without its end, an HTTP/2 preface, an answered request.
const BEGINNINGS: [&[u8]; 5] = [
    b"",
    b"GET /slow HT",
    b"GET /slow HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: ",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"GET /kept HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
];

#[test]
fn silent_connections_keep_nobody_out() -> Result<()> {
    let recorder = Recorder::start()?;
    let app = App::at("web", recorder.address, 16);
    let room = ROOM.to_string();
    let mut front = FrontAlone::start(&programs()?, &[app], &["--max-connections", &room])?;
    let mut silent = Vec::new();
    for number in 0..SILENT {
        let mut stream = TcpStream::connect(front.address())?;
        stream.write_all(BEGINNINGS[number % BEGINNINGS.len()])?;
        silent.push(stream);
        if number % 20 == 0 {
            let path = format!("/between-{number}");
            let answer = get(front.address(), &path)?;
            ensure!(answer.body == path, "{answer:?}");
        }
    }
    for number in 0..ROOM {
        let path = format!("/after-{number}");
        let answer = get(front.address(), &path)?;
        ensure!(answer.body == path, "{answer:?}");
    }
    // Those that said nothing were closed to make room, and not one of them is still being served beside the limit.
    let mut closed = 0;
    for stream in &mut silent {
        stream.set_read_timeout(Some(Duration::from_millis(1)))?;
        let mut bytes = [0; 4096];
        loop {
            match stream.read(&mut bytes) {
                Ok(0) => closed += 1,
                Ok(_) => continue,
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => closed += 1,
                Err(_) => {}
            }
            break;
        }
    }
    println!("{SILENT} silent connections, {closed} closed to make room");
    ensure!(closed >= SILENT - ROOM, "only {closed} were closed");
    ensure!(front.is_running()?, "the front end ended");
    ensure!(recorder.take().wrong.is_empty(), "the instance got no HTTP");
    Ok(())
}

#[test]
fn heads_without_an_end_are_cut_off() -> Result<()> {
    let recorder = Recorder::start()?;
    let app = App::at("web", recorder.address, 16);
    let mut front = FrontAlone::start(&programs()?, &[app], &[])?;
    for (name, line) in [
        ("one long line", "a".repeat(1024)),
        ("many lines", "X: y\r\n".repeat(100)),
    ] {
        let mut client = Client::connect(front.address())?;
        client.send(b"GET /endless HTTP/1.1\r\nHost: 127.0.0.1\r\nX: ")?;
        let begin = Instant::now();
        // The sockets of both sides take a few megabytes after it has stopped to read.
        for _ in 0..16 * 1024 {
            client.send(line.as_bytes())?;
            ensure!(begin.elapsed() < SILENCE, "{name}: it still reads");
        }
        if let Some(answer) = client.answer().with_context(|| name.to_owned())? {
            ensure!(answer.status == 431, "{name}: {answer:?}");
        }
    }
    assert_eq!(get(front.address(), "/after")?.body, "/after");
    let seen = recorder.take();
    ensure!(seen.requests.len() == 1, "{:?}", seen.requests);
    ensure!(front.is_running()?, "the front end ended");
    Ok(())
}
