//! The next step, as a table.

use super::world::days;
use crate::certificates::Times;
use crate::certificates::found::{Authority, Found, Leaf, Pair};
use crate::certificates::plan::{Step, Why, next};
use crate::certificates::settings::Side;
use jiff::{SignedDuration, Timestamp};
use rustls::pki_types::CertificateDer;

fn now() -> Timestamp {
    "2026-03-01T12:00:00Z".parse().unwrap()
}

/// A CA whose life began that many days ago.
fn authority(name: &str, age: i64) -> Authority {
    let begin = now() - days(age);
    Authority {
        certificate: CertificateDer::from(name.as_bytes().to_vec()),
        not_before: begin,
        not_after: begin + days(360),
    }
}

fn leaf(signer: &Authority, age: i64, trusted: &[&Authority], told: SignedDuration) -> Pair<Leaf> {
    let begin = now() - days(age);
    Pair::Usable(Leaf {
        not_before: begin,
        not_after: begin + days(90),
        signer: signer.clone(),
        trusted: trusted.iter().map(|a| a.certificate.clone()).collect(),
        trusted_since: Some(now() - told),
    })
}

/// At rest: one CA, both sides fresh and told long ago.
fn rest(ca: &Authority) -> Found {
    Found {
        authority: Pair::Usable(ca.clone()),
        others: Vec::new(),
        front: leaf(ca, 1, &[ca], days(1)),
        scaler: leaf(ca, 1, &[ca], days(1)),
    }
}

/// In short: `make`, `issue front`, `tell scaler`, `forget`, `rest`, with `!` when something was wrong.
fn short(found: &Found) -> String {
    let mark = |why: &Why| {
        if matches!(why, Why::Unusable(_)) {
            "!"
        } else {
            ""
        }
    };
    match next(found, &Times::of_days(90), now()) {
        Step::MakeAuthority { why, trust } => format!("make{} {}", mark(&why), trust.len()),
        Step::Issue { side, why, trust } => {
            format!("issue{} {} {}", mark(&why), side.name(), trust.len())
        }
        Step::Publish { side, trust } => format!("tell {} {}", side.name(), trust.len()),
        Step::Forget { trust } => format!("forget {}", trust.len()),
        Step::Rest => "rest".to_owned(),
    }
}

type Case = (&'static str, fn(&mut Found), &'static str);

#[test]
fn the_next_step_follows_from_what_is_there() {
    let table: &[Case] = &[
        ("everything is in order", |_| {}, "rest"),
        (
            "no ca, certificates of a lost one",
            |f| f.authority = Pair::Absent,
            "make 1",
        ),
        (
            "a ca that cannot be read",
            |f| f.authority = Pair::Unusable("x".into()),
            "make! 1",
        ),
        ("nothing at all", |f| *f = nothing(), "make 0"),
        (
            "a ca with less than half of its life left",
            |f| *f = rest(&authority("old", 181)),
            "make 1",
        ),
        (
            "a ca with half of its life left",
            |f| *f = rest(&authority("old", 180)),
            "rest",
        ),
        (
            "no certificate of front ends",
            |f| f.front = Pair::Absent,
            "issue front 1",
        ),
        (
            "no certificate at all",
            |f| {
                f.front = Pair::Absent;
                f.scaler = Pair::Absent;
            },
            "issue front 1",
        ),
        (
            "one of the scaler that is of no use",
            |f| f.scaler = Pair::Unusable("x".into()),
            "issue! scaler 1",
        ),
        (
            "a certificate of a ca that is not trusted",
            |f| {
                let other = authority("other", 1);
                f.scaler = leaf(&other, 1, &[&other], days(1));
            },
            "issue! scaler 1",
        ),
        (
            "a side that trusts somebody else too",
            |f| {
                let ca = signing(f);
                f.front = leaf(&ca, 1, &[&ca, &authority("rogue", 1)], days(1));
            },
            "tell front 1",
        ),
        (
            "a side that does not say since when it trusts",
            |f| since(f, None),
            "tell front 1",
        ),
        (
            "a side that trusts since a time to come",
            |f| since(f, Some(now() + days(1))),
            "tell front 1",
        ),
        (
            "a third of the life is left",
            |f| {
                let ca = signing(f);
                f.front = leaf(&ca, 60, &[&ca], days(60));
            },
            "rest",
        ),
        (
            "less than a third of the life is left",
            |f| {
                let ca = signing(f);
                f.scaler = leaf(&ca, 61, &[&ca], days(60));
            },
            "issue scaler 1",
        ),
        (
            "a new ca that nobody knows yet",
            |f| succeed(f, None),
            "tell front 2",
        ),
        (
            "a new ca that one side was told of",
            |f| {
                succeed(f, Some(SignedDuration::ZERO));
                let (ca, old) = (signing(f), f.others[0].clone());
                f.scaler = leaf(&old, 1, &[&old], days(1));
                assert_eq!(ca.certificate.as_ref(), b"new");
            },
            "tell scaler 2",
        ),
        (
            "a new ca that both were told of just now",
            |f| succeed(f, Some(SignedDuration::from_mins(59))),
            "rest",
        ),
        (
            "a new ca that both were told of an hour ago",
            |f| succeed(f, Some(SignedDuration::from_mins(60))),
            "issue front 2",
        ),
        (
            "a certificate that ends before everybody knows the new ca",
            |f| {
                succeed(f, Some(SignedDuration::from_mins(10)));
                let (ca, old) = (signing(f), f.others[0].clone());
                let Pair::Usable(mut nearly) =
                    leaf(&old, 89, &[&ca, &old], SignedDuration::from_mins(10))
                else {
                    unreachable!()
                };
                nearly.not_after = now() + SignedDuration::from_mins(50);
                f.scaler = Pair::Usable(nearly);
            },
            "issue scaler 2",
        ),
        (
            "a certificate that is missing before everybody knows the new ca",
            |f| {
                succeed(f, Some(SignedDuration::from_mins(10)));
                f.front = Pair::Absent;
            },
            "issue front 2",
        ),
        (
            "a certificate that was made for longer than is set now",
            |f| {
                let ca = signing(f);
                let Pair::Usable(mut long) = leaf(&ca, 1, &[&ca], days(1)) else {
                    unreachable!()
                };
                long.not_after = now() + days(100);
                f.front = Pair::Usable(long);
            },
            "issue front 1",
        ),
        (
            "an old ca that nobody uses, within the overlap",
            |f| replaced(f, 89),
            "rest",
        ),
        (
            "an old ca that nobody uses, after it",
            |f| replaced(f, 92),
            "forget 0",
        ),
        (
            "an old ca that somebody uses, after it",
            |f| {
                replaced(f, 92);
                let (ca, old) = (signing(f), f.others[0].clone());
                f.front = leaf(&old, 1, &[&ca, &old], SignedDuration::from_mins(10));
            },
            "rest",
        ),
        (
            "an old ca that has ended",
            |f| {
                let ca = signing(f);
                f.others = vec![authority("old", 361)];
                f.front = leaf(&ca, 1, &[&ca], days(1));
            },
            "forget 0",
        ),
    ];
    for (name, change, expected) in table {
        let mut found = rest(&authority("ca", 1));
        change(&mut found);
        assert_eq!(short(&found), *expected, "{name}");
    }
}

#[test]
fn both_sides_come_one_after_the_other() {
    let ca = authority("ca", 1);
    let mut found = rest(&ca);
    found.front = leaf(&ca, 61, &[&ca], days(60));
    found.scaler = leaf(&ca, 61, &[&ca], days(60));
    assert_eq!(short(&found), "issue front 1");
    found.front = leaf(&ca, 0, &[&ca], days(60));
    assert_eq!(short(&found), "issue scaler 1");
    assert_eq!(Side::ALL.len(), 2);
}

fn nothing() -> Found {
    Found {
        authority: Pair::Absent,
        others: Vec::new(),
        front: Pair::Absent,
        scaler: Pair::Absent,
    }
}

fn signing(found: &Found) -> Authority {
    found.authority.usable().unwrap().clone()
}

fn since(found: &mut Found, since: Option<Timestamp>) {
    let ca = signing(found);
    let Pair::Usable(mut changed) = leaf(&ca, 1, &[&ca], days(1)) else {
        unreachable!()
    };
    changed.trusted_since = since;
    found.front = Pair::Usable(changed);
}

/// The CA has got a successor, which both sides were told of that long ago.
fn succeed(found: &mut Found, told: Option<SignedDuration>) {
    let (old, new) = (signing(found), authority("new", 0));
    found.authority = Pair::Usable(new.clone());
    found.others = vec![old.clone()];
    if let Some(told) = told {
        found.front = leaf(&old, 1, &[&new, &old], told);
        found.scaler = leaf(&old, 1, &[&new, &old], told);
    }
}

/// The CA has replaced another one so many days ago, and everybody uses it.
fn replaced(found: &mut Found, days_ago: i64) {
    let (ca, old) = (authority("ca", days_ago), authority("old", days_ago + 180));
    let trusted = [&ca, &old];
    found.front = leaf(&ca, 1, &trusted, days(days_ago));
    found.scaler = leaf(&ca, 1, &trusted, days(days_ago));
    found.authority = Pair::Usable(ca.clone());
    found.others = vec![old.clone()];
}
