//! The rules of the election as values in, values out.

use std::time::Duration;

use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
    jiff::Timestamp,
};
use tokio::time::Instant;

/// A lease as it was last read, and when its spec was first seen like this.
#[derive(Debug, Clone)]
pub(super) struct Sighting {
    pub(super) lease: Lease,
    pub(super) seen_at: Instant,
}

impl Sighting {
    /// The next sighting. The time moves only when the spec changed, so that metadata edits do not keep a dead
    /// leader alive.
    pub(super) fn next(previous: Option<Self>, lease: Lease, now: Instant) -> Self {
        match previous {
            Some(old)
                if old.lease.spec == lease.spec && old.lease.metadata.uid == lease.metadata.uid =>
            {
                Self {
                    lease,
                    seen_at: old.seen_at,
                }
            }
            _ => Self {
                lease,
                seen_at: now,
            },
        }
    }
}

/// What a candidate has to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// There is no lease.
    Create,
    /// It is ours.
    Renew,
    /// Nobody holds it, or the holder is silent for too long.
    Take,
    /// Somebody else holds it.
    Follow(String),
}

/// Decides from the last sighting alone; `own_duration` stands in when the holder wrote no duration.
pub(super) fn evaluate(
    identity: &str,
    sighting: Option<&Sighting>,
    own_duration: Duration,
    now: Instant,
) -> Verdict {
    let Some(Sighting { lease, seen_at }) = sighting else {
        return Verdict::Create;
    };
    let spec = lease.spec.as_ref();
    let holder = spec
        .and_then(|spec| spec.holder_identity.as_deref())
        .unwrap_or_default();
    if holder.is_empty() {
        return Verdict::Take;
    }
    if holder == identity {
        return Verdict::Renew;
    }
    let duration = spec
        .and_then(|spec| spec.lease_duration_seconds)
        .and_then(|seconds| u64::try_from(seconds).ok())
        .map_or(own_duration, Duration::from_secs);
    if now.duration_since(*seen_at) >= duration {
        Verdict::Take
    } else {
        Verdict::Follow(holder.to_owned())
    }
}

/// The spec that makes or keeps `identity` the leader. `at` is the wall clock, for readers only.
pub(super) fn held(
    previous: Option<&LeaseSpec>,
    identity: &str,
    duration: Duration,
    at: Timestamp,
) -> LeaseSpec {
    let mut spec = previous.cloned().unwrap_or_default();
    if spec.holder_identity.as_deref() != Some(identity) {
        spec.acquire_time = Some(MicroTime(at));
        // client-go counts the changes of hands, not the first holder.
        spec.lease_transitions = Some(match previous {
            Some(previous) => previous.lease_transitions.unwrap_or(0).saturating_add(1),
            None => 0,
        });
    }
    spec.holder_identity = Some(identity.to_owned());
    spec.lease_duration_seconds = Some(i32::try_from(duration.as_secs()).unwrap_or(i32::MAX));
    spec.renew_time = Some(MicroTime(at));
    spec
}

/// The spec that gives the lease back.
pub(super) fn released(previous: &LeaseSpec, at: Timestamp) -> LeaseSpec {
    LeaseSpec {
        holder_identity: None,
        lease_duration_seconds: Some(1),
        renew_time: Some(MicroTime(at)),
        ..previous.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: Duration = Duration::from_secs(15);

    fn lease(holder: Option<&str>, duration_seconds: Option<i32>) -> Lease {
        Lease {
            spec: Some(LeaseSpec {
                holder_identity: holder.map(str::to_owned),
                lease_duration_seconds: duration_seconds,
                ..LeaseSpec::default()
            }),
            ..Lease::default()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn verdicts() {
        let seen_at = Instant::now();
        let follow = |holder: &str| Verdict::Follow(holder.to_owned());
        let table = [
            // holder, duration written, silence in s, verdict
            (None, Some(15), 0, Verdict::Take),
            (Some(""), Some(15), 0, Verdict::Take),
            (Some("me"), Some(15), 0, Verdict::Renew),
            (Some("me"), Some(15), 1000, Verdict::Renew),
            (Some("you"), Some(15), 0, follow("you")),
            (Some("you"), Some(15), 14, follow("you")),
            (Some("you"), Some(15), 15, Verdict::Take),
            (Some("you"), Some(60), 59, follow("you")),
            (Some("you"), Some(60), 60, Verdict::Take),
            (Some("you"), None, 14, follow("you")),
            (Some("you"), None, 15, Verdict::Take),
            (Some("you"), Some(-1), 14, follow("you")),
            (Some("me/10.0.0.1:1"), Some(15), 3, follow("me/10.0.0.1:1")),
        ];
        for (holder, duration, silence, expected) in table {
            let sighting = Sighting {
                lease: lease(holder, duration),
                seen_at,
            };
            let now = seen_at + Duration::from_secs(silence);
            assert_eq!(
                evaluate("me", Some(&sighting), OWN, now),
                expected,
                "{holder:?} {duration:?} {silence}"
            );
        }
        assert_eq!(evaluate("me", None, OWN, seen_at), Verdict::Create);
        let empty = Sighting {
            lease: Lease::default(),
            seen_at,
        };
        assert_eq!(evaluate("me", Some(&empty), OWN, seen_at), Verdict::Take);
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_changed_spec_counts_as_a_sign_of_life() {
        let start = Instant::now();
        let later = start + Duration::from_secs(9);
        let first = Sighting::next(None, lease(Some("you"), Some(15)), start);

        let mut touched = lease(Some("you"), Some(15));
        touched.metadata.resource_version = Some("7".into());
        touched.metadata.annotations = Some([("a".into(), "b".into())].into());
        let same = Sighting::next(Some(first.clone()), touched, later);
        assert_eq!(same.seen_at, start);
        assert_eq!(same.lease.metadata.resource_version.as_deref(), Some("7"));

        let mut renewed = lease(Some("you"), Some(15));
        renewed.spec.as_mut().unwrap().renew_time = Some(MicroTime(Timestamp::UNIX_EPOCH));
        assert_eq!(
            Sighting::next(Some(first.clone()), renewed, later).seen_at,
            later
        );

        let mut recreated = lease(Some("you"), Some(15));
        recreated.metadata.uid = Some("new".into());
        assert_eq!(Sighting::next(Some(first), recreated, later).seen_at, later);
    }

    #[test]
    fn taking_renewing_and_giving_back() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let created = held(None, "a", OWN, at(10));
        assert_eq!(created.lease_transitions, Some(0));
        assert_eq!(created.acquire_time, Some(MicroTime(at(10))));
        assert_eq!(created.lease_duration_seconds, Some(15));

        let renewed = held(Some(&created), "a", OWN, at(14));
        assert_eq!(renewed.acquire_time, Some(MicroTime(at(10))));
        assert_eq!(renewed.renew_time, Some(MicroTime(at(14))));
        assert_eq!(renewed.lease_transitions, Some(0));

        let taken = held(Some(&renewed), "b", OWN, at(40));
        assert_eq!(taken.holder_identity.as_deref(), Some("b"));
        assert_eq!(taken.acquire_time, Some(MicroTime(at(40))));
        assert_eq!(taken.lease_transitions, Some(1));

        let back = released(&taken, at(50));
        assert_eq!(back.holder_identity, None);
        assert_eq!(back.lease_transitions, Some(1));
        assert_eq!(
            held(Some(&back), "b", OWN, at(51)).lease_transitions,
            Some(2)
        );
    }
}
