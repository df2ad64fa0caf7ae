//! Hostile HTTP/1.1 on the wire: each case either is refused, or reaches the instance as the one request that everybody reads the same.

use anyhow::{Context, Result, ensure};
use e2e::front_alone::{App, FrontAlone};
use serde::Deserialize;

use crate::client::{Client, get};
use crate::corpus::{self, Expected};
use crate::programs;
use crate::recorder::{self, Received, Recorder};

/// More than there are cases: the slot of a request that broke off is not used again for minutes, because it may run on.
const SLOTS: u16 = 900;

/// A case of `corpus/http1.json`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    /// What is tried.
    name: String,
    /// What is sent on one connection.
    send: String,
    /// The status codes of the answers, in order.
    answers: Vec<u16>,
    /// Whether the client sends nothing more, so that an unfinished request stays one.
    #[serde(default)]
    hang_up: bool,
    /// Whether the connection carries further requests afterwards.
    #[serde(default)]
    open: bool,
    /// The requests that the instance gets, in order.
    #[serde(default)]
    instance: Vec<Expected>,
    /// Whether the instance may get a request whose body never ends: it does not count as one.
    #[serde(default)]
    broken: bool,
}

/// Runs a case; the requests whose body never ended at the instance.
fn run(
    case: &Case,
    number: usize,
    front: &FrontAlone,
    recorder: &Recorder,
    protocol: Protocol,
) -> Result<usize> {
    let mut client = Client::connect(front.address())?;
    client.send(&corpus::bytes(&case.send)?)?;
    if case.hang_up {
        client.hang_up()?;
    }
    let mut answers = Vec::new();
    for _ in &case.answers {
        let Some(answer) = client.answer()? else {
            break;
        };
        answers.push(answer.status);
    }
    ensure!(
        answers == case.answers,
        "answers {answers:?} instead of {:?}",
        case.answers
    );
    // Answers come in order: one to a smuggled request would stand before that to ours.
    let last = format!("/last-{number}");
    if case.open {
        let request =
            format!("GET {last} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n");
        client.send(request.as_bytes())?;
        let answer = client.answer()?.context("the connection is closed")?;
        ensure!(answer.body == last, "the next answer is {answer:?}");
    }
    let extra = client.answer()?;
    ensure!(extra.is_none(), "one more answer: {extra:?}");

    // Another client: whatever lies in a connection to the instance would answer it.
    let victim = format!("/victim-{number}");
    let answer = get(front.address(), &victim)?;
    ensure!(
        answer.status == 200 && answer.body == victim,
        "the next client got {answer:?}"
    );
    let seen = recorder.take();
    ensure!(
        seen.wrong.is_empty(),
        "the instance got no valid HTTP: {:?}",
        seen.wrong
    );
    let ours = [&last, &victim].map(|path| format!("GET {path} HTTP/1.1"));
    let (own, others): (Vec<_>, Vec<_>) = seen
        .requests
        .into_iter()
        .partition(|request| ours.contains(&request.line));
    ensure!(own.len() == 1 + usize::from(case.open), "{own:?}");
    let (mut expected, mut others): (Vec<Received>, Vec<Received>) = (
        case.instance.iter().cloned().map(Received::from).collect(),
        others,
    );
    if protocol == Protocol::Http2 {
        expected
            .iter_mut()
            .chain(&mut others)
            .for_each(without_http1);
    }
    ensure!(others == expected, "the instance got {others:?}");
    Ok(seen.broken.len())
}

/// What an instance speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Http1,
    Http2,
}

/// Takes out what the two write differently: headers of a connection, and a length of zero, which HTTP/2 says of unknown methods too. Trailers reach an instance in HTTP/2 without being named before.
fn without_http1(request: &mut Received) {
    request.headers.retain(|field| {
        let name = field.split(':').next().unwrap_or_default();
        !["connection", "transfer-encoding", "upgrade"].contains(&name)
            && field != "content-length: 0"
    });
    request.trailers.clear();
}

fn all(recorder: &Recorder, app: App, protocol: Protocol) -> Result<()> {
    let cases: Vec<Case> = corpus::read(include_str!("corpus/http1.json"))?;
    let front = FrontAlone::start(&programs()?, &[app], &[])?;
    let mut failed = Vec::new();
    // The end of a broken request can be seen late.
    let (mut broken, mut may_break) = (0, 0);
    for (number, case) in cases.iter().enumerate() {
        may_break += usize::from(case.broken);
        match run(case, number, &front, recorder, protocol) {
            Ok(seen) => broken += seen,
            Err(error) => failed.push(format!("{}: {error:#}", case.name)),
        }
    }
    println!(
        "HTTP/1.1 to {protocol:?}: {} cases, {} failed",
        cases.len(),
        failed.len()
    );
    assert!(cases.len() >= 200, "the corpus is not read");
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    assert!(
        broken <= may_break,
        "{broken} requests never ended at the instance"
    );
    Ok(())
}

#[test]
fn hostile_http1_is_refused_or_has_one_meaning() -> Result<()> {
    let recorder = Recorder::start()?;
    let app = App::at("web", recorder.address, SLOTS);
    all(&recorder, app, Protocol::Http1)
}

#[test]
fn hostile_http1_has_the_same_meaning_in_http2() -> Result<()> {
    let recorder = recorder::http2::start()?;
    let app = App::at("web", recorder.address, SLOTS).http("appProtocol", "H2c");
    all(&recorder, app, Protocol::Http2)
}
