//! The parts of the process over real connections, against a data role that follows a script.

mod bench;
mod names;
mod rotation;

use std::{path::Path, time::Duration};

use clap::Parser;
use maniple_core::slots::message::{DataRoleSays, FrontEndSays, Handle, HeldSlots};

use super::FrontArgs;
use crate::slots::wire::encode_routes;
use bench::*;

#[tokio::test]
async fn requests_run_in_lent_slots_through_a_broken_stream_until_everything_is_given_back() {
    let folder = tempfile::tempdir().unwrap();
    certificates(&authority(), folder.path());
    let (address, mut streams) = replica(folder.path()).await;
    let front = FrontEnd::start(address, folder.path()).await;

    let mut stream = soon("a stream", streams.recv()).await.unwrap();
    let (session, held) = stream.lead(3).await;
    assert_eq!(held, []);
    assert!(!front.readiness.is_ready(), "there are no routes yet");
    let early = front.get(HOST, "/api/x").await;
    assert!(early.starts_with("HTTP/1.1 503"), "{early}");
    stream
        .say
        .send(Ok(encode_routes(3, &[route()])))
        .await
        .unwrap();
    soon("routes in force", front.readiness.until(true)).await;

    let runs_at = instance().await;
    // The first request tells of itself, and is answered once a slot is lent.
    let (answer, ()) = tokio::join!(front.get(HOST, "/api/x"), async {
        let FrontEndSays::Sync(sync) = stream.hear().await.unwrap().body else {
            panic!("the demand is told first");
        };
        assert_eq!(sync.demand[0].waiting, 1);
        stream
            .say(3, session, 1, DataRoleSays::Instance(info(1, runs_at)))
            .await;
        let grant = DataRoleSays::Grant(vec![(Handle(1), CAP)]);
        stream.say(3, session, 2, grant).await;
    });
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.ends_with("done"), "{answer}");
    assert!(
        front
            .get(HOST, "/admin/host/status")
            .await
            .starts_with("HTTP/1.1 404")
    );
    assert!(
        front
            .get("other.example", "/")
            .await
            .starts_with("HTTP/1.1 404")
    );
    let text = front.metrics.encode();
    let line = format!("maniple_front_slots{{group=\"{GROUP}\",state=\"free\"}} {CAP}");
    assert!(text.contains(&line), "{text}");

    // The stream breaks: held slots serve, and the next Hello names them.
    drop(stream);
    assert!(front.get(HOST, "/api/x").await.starts_with("HTTP/1.1 200"));
    let mut stream = soon("a second stream", streams.recv()).await.unwrap();
    let (next, held) = stream.lead(3).await;
    assert!(next > session, "{next}");
    assert_eq!(
        held,
        [HeldSlots {
            uid: INSTANCE,
            held: CAP,
            busy: 0
        }]
    );
    // A data role of before has no say any more.
    stream.say.send(Ok(encode_routes(2, &[]))).await.unwrap();
    // Handles are those of the session, so that the instance is named again.
    let again = DataRoleSays::Instance(info(9, runs_at));
    stream.say(3, next, 1, again).await;
    assert!(front.get(HOST, "/api/x").await.starts_with("HTTP/1.1 200"));

    // Leaving: all slots, then the Bye, then the end of the stream.
    front.leave.cancel();
    let mut released = 0;
    loop {
        match stream.hear().await.expect("the Bye comes first").body {
            FrontEndSays::Sync(sync) => {
                released += sync.released.iter().map(|(_, count)| count).sum::<u16>();
            }
            FrontEndSays::Bye => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(released, CAP);
    assert!(stream.hear().await.is_none());
    soon("the control task", front.left).await.unwrap();
    front.close.cancel();
    drop(stream);
    soon("the streams", front.closed).await.unwrap();
}

#[tokio::test]
async fn neither_side_talks_to_one_of_another_authority() {
    let (folder, rogue) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let trusted = authority();
    certificates(&trusted, folder.path());
    certificates(&authority(), rogue.path());
    let (address, mut streams) = replica(folder.path()).await;

    // A front end that distrusts the scaler, and one that trusts it and shows a certificate of somebody else.
    for trusts in [false, true] {
        if trusts {
            std::fs::write(rogue.path().join("ca.crt"), trusted.pem()).unwrap();
        }
        let front = FrontEnd::start(address, rogue.path()).await;
        let refused = async {
            while !front
                .metrics
                .encode()
                .contains("maniple_front_stream_failures_total{")
            {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        soon("a refusal", refused).await;
        assert!(!front.readiness.is_ready());
        assert!(front.metrics.encode().contains("maniple_front_streams 0"));
        front.close.cancel();
        soon("the streams", front.closed).await.unwrap();
    }
    assert!(streams.try_recv().is_err(), "a stream was opened");
}

#[test]
fn plain_text_has_to_be_asked_for() {
    let parse = |args: &[&str]| {
        FrontArgs::try_parse_from(["front", "--slots-server=scaler:9091"].iter().chain(args))
    };
    assert!(parse(&[]).is_err());
    assert!(parse(&["--slots-insecure"]).is_ok());
    assert!(parse(&["--slots-insecure", "--slots-server-ca=ca.crt"]).is_err());
    for wrong in ["scaler", ":9091", "scaler:0", "scaler:http"] {
        let args = ["front", "--slots-insecure", "--slots-server", wrong];
        assert!(FrontArgs::try_parse_from(args).is_err(), "{wrong}");
    }
}
