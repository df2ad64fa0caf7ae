//! Between the book and what goes over the wire.

use super::{MirrorMessage, Mirrored};
use crate::book::{Change, Entry};
use crate::index::{AppKey, GroupKey};
use maniple_core::decision::Decision;
use maniple_proto::mirror::group_decision::State;
use maniple_proto::mirror::{Gone, GroupDecision, Known, Snapshot, Unknown};
use std::sync::Arc;

/// A change of the book as it is sent.
pub(super) fn encode(change: &Change) -> GroupDecision {
    let state = match &change.entry {
        None => State::Gone(Gone {}),
        Some(Entry::Unknown(reason)) => State::Unknown(Unknown {
            reason: reason.to_string(),
            detail_json: Vec::new(),
        }),
        Some(Entry::Decided { decision, observed }) => decided(decision, *observed),
    };
    GroupDecision {
        namespace: change.key.app.namespace.to_string(),
        app: change.key.app.name.to_string(),
        group: change.key.group().to_owned(),
        state: Some(state),
    }
}

fn decided(decision: &Decision, observed: Option<u32>) -> State {
    let detail_json =
        serde_json::to_vec(decision).expect("a decision has no keys that are not text");
    match decision.desired {
        Some(desired) => State::Known(Known {
            desired,
            active: desired > 0,
            reason_code: decision.reason.as_str().to_owned(),
            message: decision.message.clone(),
            detail_json,
            observed,
        }),
        None => State::Unknown(Unknown {
            reason: decision.message.clone(),
            detail_json,
        }),
    }
}

/// A message as it was received.
pub(super) fn decode(snapshot: Snapshot) -> MirrorMessage {
    MirrorMessage {
        full: snapshot.full,
        groups: snapshot.groups.into_iter().map(group).collect(),
    }
}

fn group(group: GroupDecision) -> (GroupKey, Option<Mirrored>) {
    let key = GroupKey::from_text(AppKey::new(group.namespace, group.app), &group.group);
    let mirrored = match group.state {
        Some(State::Gone(_)) => return (key, None),
        Some(State::Known(known)) => read(&known.detail_json).unwrap_or_else(unreadable),
        Some(State::Unknown(unknown)) => {
            read(&unknown.detail_json).unwrap_or_else(|| Mirrored::Unknown(unknown.reason.into()))
        }
        None => unreadable(),
    };
    (key, Some(mirrored))
}

fn read(detail_json: &[u8]) -> Option<Mirrored> {
    let decision: Decision = serde_json::from_slice(detail_json).ok()?;
    Some(Mirrored::Decided(Arc::new(decision)))
}

/// While replicas are updated, they may run different versions for a moment.
fn unreadable() -> Mirrored {
    Mirrored::Unknown("the leader runs another version, whose decisions cannot be read here".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;
    use maniple_core::decision::Reason;

    fn key() -> GroupKey {
        GroupKey::from_text(AppKey::new("ns", "a"), "function:f")
    }

    fn over_the_wire(entry: Option<Entry>) -> Option<Mirrored> {
        let change = Change { key: key(), entry };
        let snapshot = Snapshot {
            sequence: 1,
            full: false,
            groups: vec![encode(&change)],
        };
        let mut message = decode(snapshot);
        let (received, mirrored) = message.groups.remove(0);
        assert_eq!(received, key());
        mirrored
    }

    #[test]
    fn a_decision_arrives_as_it_was_made() {
        for desired in [Some(3), Some(0), None] {
            let decision = Arc::new(Decision {
                desired,
                reason: Reason::Backlog,
                message: "m".into(),
                sources: Vec::new(),
                at: Timestamp::UNIX_EPOCH,
                next_wake: None,
            });
            let entry = Entry::Decided {
                decision: Arc::clone(&decision),
                observed: Some(2),
            };
            assert_eq!(
                over_the_wire(Some(entry)),
                Some(Mirrored::Decided(decision))
            );
        }
        let unknown = Entry::Unknown("why".into());
        assert_eq!(
            over_the_wire(Some(unknown)),
            Some(Mirrored::Unknown("why".into()))
        );
        assert_eq!(over_the_wire(None), None);
    }

    #[test]
    fn what_another_version_says_is_unknown_and_not_a_guess() {
        let known = Known {
            desired: 3,
            detail_json: br#"{"desired":3,"reason":"NewReason"}"#.to_vec(),
            ..Known::default()
        };
        for state in [Some(State::Known(known)), None] {
            let decision = GroupDecision {
                namespace: "ns".into(),
                app: "a".into(),
                group: "http".into(),
                state,
            };
            let (_, mirrored) = group(decision);
            assert!(
                matches!(mirrored, Some(Mirrored::Unknown(_))),
                "{mirrored:?}"
            );
        }
    }
}
