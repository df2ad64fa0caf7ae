//! A change of the authority while a stream runs, as the operator makes it: both are named before the new one signs.

use super::*;

/// What a pod has in its volume: a certificate of `signer`, and the authorities that it trusts.
fn mount(folder: &Path, signer: &Authority, trusted: &[&Authority]) {
    certificates(signer, folder);
    let trusted: String = trusted.iter().map(|authority| authority.pem()).collect();
    std::fs::write(folder.join("ca.crt"), trusted).unwrap();
}

fn only_trust(folder: &Path, trusted: &[&Authority]) {
    let trusted: String = trusted.iter().map(|authority| authority.pem()).collect();
    std::fs::write(folder.join("ca.crt"), trusted).unwrap();
}

#[tokio::test]
async fn a_change_of_the_authority_breaks_no_stream_and_keeps_no_new_one_out() {
    let (old, new) = (authority(), authority());
    let (front_files, scaler_files) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (front_files, scaler_files) = (front_files.path(), scaler_files.path());
    mount(front_files, &old, &[&old]);
    mount(scaler_files, &old, &[&old]);
    let (address, mut streams) = replica(scaler_files).await;
    let front = FrontEnd::start(address, front_files).await;
    let mut first = soon("a stream", streams.recv()).await.unwrap();
    first.lead(1).await;

    // Both are told of the new authority; the scaler is the first to use it.
    only_trust(front_files, &[&new, &old]);
    mount(scaler_files, &new, &[&new, &old]);
    // A front end that trusts the new one alone comes in as soon as the scaler has seen the change.
    let pure = tempfile::tempdir().unwrap();
    mount(pure.path(), &new, &[&new]);
    let second = FrontEnd::start(address, pure.path()).await;
    let mut stream = soon("the scaler to use its new certificate", streams.recv())
        .await
        .unwrap();
    stream.lead(1).await;

    // The stream of before was not touched, and when it breaks for another reason the next one is opened with the old
    // certificate, which is good still.
    first.say(1, 1, 1, DataRoleSays::Handover).await;
    assert!(front.metrics.encode().contains("maniple_front_streams 1"));
    drop(first);
    let mut again = soon("a stream with the old certificate", streams.recv())
        .await
        .unwrap();
    again.lead(1).await;

    // In the end the old authority is forgotten: who still comes with its certificate is refused.
    mount(scaler_files, &new, &[&new]);
    let failures = || -> u32 {
        let text = front.metrics.encode();
        let lines = text
            .lines()
            .filter(|line| line.starts_with("maniple_front_stream_failures_total{"));
        lines
            .map(|line| line.rsplit(' ').next().unwrap().parse::<u32>().unwrap())
            .sum()
    };
    assert_eq!(failures(), 0);
    drop(again);
    let refused = async {
        let (mut seen, mut in_a_row) = (0, 0);
        while in_a_row < 3 {
            // Streams are let in, and break, until the scaler has seen the change.
            if streams.try_recv().is_ok() {
                in_a_row = 0;
            }
            if failures() > seen {
                (seen, in_a_row) = (failures(), in_a_row + 1);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    soon("a refusal", refused).await;
    // With a new certificate it is let in again, without a restart.
    mount(front_files, &new, &[&new]);
    while streams.try_recv().is_ok() {}
    soon("a stream with the new certificate", streams.recv())
        .await
        .unwrap();
    second.close.cancel();
    front.close.cancel();
}
