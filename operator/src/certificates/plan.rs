//! What to do next. Pure.
//!
//! One step at a time: after each the Secrets are read again, so that a process which ends between two writes leaves nothing but
//! a state that some step follows from.
//!
//! A new CA goes through three phases: it is made (its predecessor is trusted further on), then named in the Secrets of both
//! sides, and only when these have named it long enough for every pod to have seen it, it signs.

use super::found::{Authority, Found, Leaf, Pair};
use super::settings::{Side, Times};
use jiff::{SignedDuration, Timestamp};
use rustls::pki_types::CertificateDer;

/// What to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// A new CA. These are trusted beside it.
    MakeAuthority { trust: Vec<Authority>, why: Why },
    /// A certificate for a side, signed by the CA.
    Issue {
        side: Side,
        /// CAs that the side is to trust.
        trust: Vec<CertificateDer<'static>>,
        why: Why,
    },
    /// Only the CAs that a side is to trust.
    Publish {
        side: Side,
        trust: Vec<CertificateDer<'static>>,
    },
    /// The CA stays, and only these are trusted beside it.
    Forget { trust: Vec<Authority> },
    /// Nothing.
    Rest,
}

/// Why something is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// There was none.
    Absent,
    /// In the ordinary course of time.
    Due(String),
    /// What was there is of no use.
    Unusable(String),
}

/// The next step.
pub(super) fn next(found: &Found, times: &Times, now: Timestamp) -> Step {
    let make = |why| Step::MakeAuthority {
        trust: heirs(found, now),
        why,
    };
    let newest = match &found.authority {
        Pair::Absent => return make(Why::Absent),
        Pair::Unusable(why) => return make(Why::Unusable(why.clone())),
        Pair::Usable(newest) => newest,
    };
    if left(newest.not_after, now) < times.successor() {
        return make(Why::Due(format!("the CA ends at {}", newest.not_after)));
    }

    let trust = trust(newest, &found.others, now);
    let issue = |side, why| Step::Issue {
        side,
        trust: trust.clone(),
        why,
    };
    for side in Side::ALL {
        match found.leaf(side) {
            Pair::Absent => return issue(side, Why::Absent),
            Pair::Unusable(why) => return issue(side, Why::Unusable(why.clone())),
            Pair::Usable(leaf) if !trust.contains(&leaf.signer.certificate) => {
                let why = "it was signed by a CA that is not trusted";
                return issue(side, Why::Unusable(why.into()));
            }
            Pair::Usable(_) => {}
        }
    }
    for side in Side::ALL {
        if found
            .leaf(side)
            .usable()
            .is_some_and(|leaf| !is_told(leaf, &trust, now))
        {
            return Step::Publish { side, trust };
        }
    }
    let settled = Side::ALL.iter().all(|side| {
        let since = found
            .leaf(*side)
            .usable()
            .and_then(|leaf| leaf.trusted_since);
        since.is_some_and(|since| since + times.settle <= now)
    });
    for side in Side::ALL {
        let Some(leaf) = found.leaf(side).usable() else {
            continue;
        };
        let urgent = left(leaf.not_after, now) <= times.settle;
        if let Some(why) = due(leaf, newest, times, now)
            && (settled || urgent)
        {
            return issue(side, Why::Due(why));
        }
    }
    let kept: Vec<Authority> = found
        .others
        .iter()
        .filter(|other| !is_forgotten(other, newest, found, times, now))
        .cloned()
        .collect();
    if kept == found.others {
        Step::Rest
    } else {
        Step::Forget { trust: kept }
    }
}

/// CAs that stay trusted when a new one is made: those that were, and those whose certificates are in use.
fn heirs(found: &Found, now: Timestamp) -> Vec<Authority> {
    let signers = Side::ALL
        .iter()
        .filter_map(|side| found.leaf(*side).usable());
    let mut heirs: Vec<Authority> = Vec::new();
    let all = found.authority.usable().into_iter().chain(&found.others);
    for authority in all.chain(signers.map(|leaf| &leaf.signer)) {
        let known = heirs.iter().any(|h| h.certificate == authority.certificate);
        if authority.not_after > now && !known {
            heirs.push(authority.clone());
        }
    }
    heirs
}

/// What both sides are to trust, newest first.
fn trust(newest: &Authority, others: &[Authority], now: Timestamp) -> Vec<CertificateDer<'static>> {
    let others = others.iter().filter(|other| other.not_after > now);
    let mut trust = vec![newest.certificate.clone()];
    for other in others {
        if !trust.contains(&other.certificate) {
            trust.push(other.certificate.clone());
        }
    }
    trust
}

/// Whether a Secret names exactly these CAs and says since when. A time to come was written by a clock that was wrong.
fn is_told(leaf: &Leaf, trust: &[CertificateDer<'static>], now: Timestamp) -> bool {
    leaf.trusted == trust && leaf.trusted_since.is_some_and(|since| since <= now)
}

/// Why a usable certificate is to be replaced.
fn due(leaf: &Leaf, newest: &Authority, times: &Times, now: Timestamp) -> Option<String> {
    if left(leaf.not_after, now) < times.renew() {
        return Some(format!("it ends at {}", leaf.not_after));
    }
    if leaf.signer.certificate != newest.certificate {
        return Some(String::from("there is a new CA"));
    }
    let life = leaf.not_after.duration_since(leaf.not_before);
    // It was made for a longer life than is set now.
    (life > times.life + times.backdate)
        .then(|| format!("it lives longer than is set, until {}", leaf.not_after))
}

fn is_forgotten(
    other: &Authority,
    newest: &Authority,
    found: &Found,
    times: &Times,
    now: Timestamp,
) -> bool {
    let in_use = Side::ALL.iter().any(|side| {
        let leaf = found.leaf(*side).usable();
        leaf.is_some_and(|leaf| leaf.signer.certificate == other.certificate)
    });
    let replaced = newest.not_before + times.backdate;
    other.not_after <= now || (!in_use && replaced + times.overlap() <= now)
}

fn left(end: Timestamp, now: Timestamp) -> SignedDuration {
    end.duration_since(now)
}
