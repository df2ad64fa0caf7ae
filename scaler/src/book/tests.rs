use super::*;
use jiff::Timestamp;
use maniple_core::decision::SourceResult;
use maniple_crds::GroupName;

fn key(name: &str) -> GroupKey {
    GroupKey::new(AppKey::new("ns", "shop"), &GroupName::Function(name.into()))
}

fn reference(name: &str) -> GroupRef {
    GroupRef {
        namespace: "ns".into(),
        app: "shop".into(),
        group: GroupName::Function(name.into()),
    }
}

fn decision(desired: Option<u32>, reason: Reason) -> Entry {
    let decision = Decision {
        desired,
        reason,
        message: "why".into(),
        sources: vec![SourceResult {
            function: "f".into(),
            trigger: "queueTrigger".into(),
            backlog: Some(7),
            target: Some(24),
            wants: Some(1),
            error: None,
            note: None,
        }],
        at: Timestamp::UNIX_EPOCH,
        next_wake: None,
    };
    Entry::Decided {
        decision: Arc::new(decision),
        observed: Some(1),
    }
}

#[test]
fn zero_is_never_the_answer_for_unknown() {
    let book = Book::new("starting");
    let starting = Answer::Unknown {
        reason: "starting".into(),
    };
    assert_eq!(book.answer(&reference("f")), starting);
    book.open();
    assert_eq!(book.answer(&reference("f")), Answer::NotFound);

    let unknown = Answer::Unknown {
        reason: "why".into(),
    };
    let known = |desired| Answer::Known {
        desired,
        observed: Some(1),
    };
    let paused = Answer::Paused {
        reason: "why".into(),
    };
    let cases = [
        (decision(Some(3), Reason::Backlog), known(3)),
        (decision(Some(0), Reason::Idle), known(0)),
        (decision(None, Reason::Unknown), unknown.clone()),
        (decision(Some(2), Reason::HoldUnknown), known(2)),
        (decision(Some(0), Reason::HoldUnknown), unknown.clone()),
        (decision(Some(0), Reason::Paused), paused),
        (Entry::Unknown("why".into()), unknown),
    ];
    for (entry, expected) in cases {
        book.write(&key("f"), entry.clone());
        assert_eq!(book.answer(&reference("F")), expected, "{entry:?}");
    }
}

#[test]
fn a_stream_that_was_opened_early_sees_its_group_come_and_go() {
    let book = Book::new("starting");
    let mut stream = book.changes(&reference("f"));
    book.open();
    assert!(stream.has_changed().unwrap());
    assert_eq!(*stream.borrow_and_update(), Answer::NotFound);
    book.write(&key("f"), decision(Some(3), Reason::Backlog));
    let known = Answer::Known {
        desired: 3,
        observed: Some(1),
    };
    assert_eq!(*stream.borrow_and_update(), known);
    book.write(&key("f"), decision(Some(3), Reason::Timer));
    assert!(
        !stream.has_changed().unwrap(),
        "the same number for another reason"
    );
    book.remove(&key("f"));
    assert_eq!(*stream.borrow(), Answer::NotFound);
    assert!(stream.has_changed().is_err(), "the end");
}

#[test]
fn followers_are_sent_what_is_new_to_them() {
    let book = Book::new("");
    book.write(&key("a"), decision(Some(1), Reason::Backlog));
    book.write(&key("b"), decision(Some(2), Reason::Backlog));
    let all = book.changes_since(None);
    assert!(all.full);
    assert_eq!(all.groups.len(), 2);

    book.write(&key("b"), decision(Some(2), Reason::Backlog));
    assert_eq!(book.changes_since(Some(all.version)).groups, []);
    book.write(&key("a"), decision(Some(5), Reason::Backlog));
    book.remove(&key("b"));
    let some = book.changes_since(Some(all.version));
    assert!(!some.full);
    let seen: Vec<_> = some
        .groups
        .iter()
        .map(|c| (c.key.clone(), c.entry.clone()))
        .collect();
    let expected = [
        (key("a"), Some(decision(Some(5), Reason::Backlog))),
        (key("b"), None),
    ];
    assert_eq!(seen, expected);
    assert!(
        book.changes_since(Some(some.version + 1)).full,
        "a number from another book"
    );
}

#[test]
fn a_follower_that_is_too_far_behind_gets_everything() {
    let book = Book::new("");
    book.write(&key("stays"), decision(Some(1), Reason::Backlog));
    let begin = book.changes_since(None).version;
    for n in 0..=10_000 {
        let key = key(&format!("f{n}"));
        book.write(&key, decision(Some(1), Reason::Backlog));
        book.remove(&key);
    }
    let changes = book.changes_since(Some(begin));
    assert!(changes.full);
    assert_eq!(changes.groups.len(), 1);
}

#[test]
fn a_report_names_every_group_of_the_app() {
    let book = Book::new("");
    let app = AppKey::new("ns", "shop");
    assert_eq!(book.report(&app), None);
    let groups = ["f", "g"].map(|name| (key(name), format!("function:{name}")));
    book.write_app(
        &app,
        AppPage {
            generation: 4,
            groups: groups.to_vec(),
        },
    );
    book.write(&key("f"), decision(Some(3), Reason::Backlog));
    let report = book.report(&app).unwrap();
    assert_eq!(report.generation, 4);
    let seen: Vec<_> = report
        .groups
        .iter()
        .map(|g| (g.name.as_str(), g.desired, g.reason.as_str()))
        .collect();
    assert_eq!(
        seen,
        [
            ("function:f", Some(3), "Backlog"),
            ("function:g", None, "Unknown")
        ]
    );
    assert_eq!(report.groups[0].sources[0].backlog, Some(7));
    book.remove_app(&app);
    assert_eq!(book.report(&app), None);
}
