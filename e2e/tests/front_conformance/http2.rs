//! Hostile HTTP/2: what would change its meaning as HTTP/1.1 is refused, or reaches the instance as one request.

use anyhow::{Result, ensure};
use e2e::front_alone::{App, FrontAlone};
use serde::Deserialize;

use crate::client::get;
use crate::corpus::{self, Expected};
use crate::frames::Http2;
use crate::programs;
use crate::recorder::{Received, Recorder};

/// More than there are cases, as for HTTP/1.1.
const SLOTS: u16 = 900;

/// A case of `corpus/http2.json`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    /// What is tried.
    name: String,
    /// The fields of the head, in order.
    headers: Vec<(String, String)>,
    /// DATA frames.
    #[serde(default)]
    data: Vec<String>,
    /// The fields of the trailers.
    #[serde(default)]
    trailers: Vec<(String, String)>,
    /// The status code, `reset CODE`, `goaway CODE` or `closed`.
    answer: String,
    /// The request that the instance gets, if any.
    instance: Option<Expected>,
    /// Whether the request is refused after it was complete for the instance, which then may get it or not.
    #[serde(default)]
    optional: bool,
    /// Whether the instance may get a request whose body never ends: it does not count as one.
    #[serde(default)]
    broken: bool,
}

fn fields(fields: &[(String, String)]) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    fields
        .iter()
        .map(|(name, value)| Ok((corpus::bytes(name)?, corpus::bytes(value)?)))
        .collect()
}

/// Runs a case; the requests whose body never ended at the instance.
fn run(case: &Case, number: usize, front: &FrontAlone, recorder: &Recorder) -> Result<usize> {
    let mut client = Http2::connect(front.address())?;
    let (data, trailers) = (&case.data, &case.trailers);
    client.headers(
        &fields(&case.headers)?,
        data.is_empty() && trailers.is_empty(),
    )?;
    for (index, part) in data.iter().enumerate() {
        let last = index + 1 == data.len() && trailers.is_empty();
        client.data(&corpus::bytes(part)?, last)?;
    }
    if !trailers.is_empty() {
        client.headers(&fields(trailers)?, true)?;
    }
    let outcome = client.outcome()?.to_string();

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
    let own = format!("GET {victim} HTTP/1.1");
    let others: Vec<Received> = seen
        .requests
        .into_iter()
        .filter(|request| request.line != own)
        .collect();
    ensure!(
        outcome == case.answer,
        "{outcome} instead of {}; the instance got {others:?}",
        case.answer
    );
    let expected: Vec<Received> = case.instance.iter().cloned().map(Received::from).collect();
    let nothing = case.optional && others.is_empty();
    ensure!(nothing || others == expected, "the instance got {others:?}");
    Ok(seen.broken.len())
}

#[test]
fn hostile_http2_is_refused_or_has_one_meaning() -> Result<()> {
    let cases: Vec<Case> = corpus::read(include_str!("corpus/http2.json"))?;
    let recorder = Recorder::start()?;
    let app = App::at("web", recorder.address, SLOTS);
    let front = FrontAlone::start(&programs()?, &[app], &[])?;
    let mut failed = Vec::new();
    let (mut broken, mut may_break) = (0, 0);
    for (number, case) in cases.iter().enumerate() {
        may_break += usize::from(case.broken);
        match run(case, number, &front, &recorder) {
            Ok(seen) => broken += seen,
            Err(error) => failed.push(format!("{}: {error:#}", case.name)),
        }
    }
    println!("HTTP/2: {} cases, {} failed", cases.len(), failed.len());
    assert!(cases.len() >= 80, "the corpus is not read");
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    assert!(
        broken <= may_break,
        "{broken} requests never ended at the instance"
    );
    Ok(())
}
