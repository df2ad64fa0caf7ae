//! Looks at the certificates again and again.

use super::found::Found;
use super::settings::Settings;
use super::settle::{News, settle};
use super::store::Store;
use crate::metrics::OperatorMetrics;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::events::{Event, EventType, Recorder};
use maniple_crds::reasons::event;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Time between two looks: a Secret that was deleted or changed by hand is put right within it.
const LOOK: Duration = Duration::from_secs(30);
/// Shortest and longest time after a look that failed.
const AGAIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// A clock that differs by more is told of.
const SKEW_SECONDS: i64 = 60;

/// Keeps the certificates until `stop`. Call it only while leading; two at once do no harm. An error is told and tried again, and
/// never ends it: the certificates that are there go on being used.
pub async fn keep<S: Store>(
    store: S,
    settings: Settings,
    metrics: OperatorMetrics,
    recorder: Recorder,
    stop: CancellationToken,
) {
    let mut pause = AGAIN.0;
    let mut told = String::new();
    let mut skewed = false;
    loop {
        let mut news = Vec::new();
        let result = settle(&store, &settings, &mut news).await;
        for new in &news {
            tell(new, &settings, &metrics, &recorder).await;
        }
        let wait = match result {
            Ok(found) => {
                show(&found, &metrics);
                if !told.is_empty() {
                    tracing::info!("certificates are in order again");
                    told.clear();
                }
                pause = AGAIN.0;
                LOOK
            }
            Err(error) => {
                metrics.certificate_failed(error.category());
                let text = error.to_string();
                if text == told {
                    tracing::debug!("{text}");
                } else {
                    tracing::warn!(category = error.category(), "certificates: {text}");
                    told = text;
                }
                let wait = pause;
                pause = (pause * 2).min(AGAIN.1);
                wait
            }
        };
        if let Ok(now) = store.now().await {
            let off = Timestamp::now().duration_since(now).as_secs();
            let off_much = off.abs() > SKEW_SECONDS;
            if off_much && !skewed {
                tracing::warn!(
                    ahead_seconds = off,
                    "the clock of this node differs from the API server's, by which certificates are made; set one of them right"
                );
            }
            skewed = off_much;
        }
        let wait = wait.mul_f64(0.9 + fastrand::f64() / 5.0);
        if stop
            .run_until_cancelled(tokio::time::sleep(wait))
            .await
            .is_none()
        {
            return;
        }
    }
}

async fn tell(new: &News, settings: &Settings, metrics: &OperatorMetrics, recorder: &Recorder) {
    metrics.writes("Secret");
    metrics.certificate_written(new.certificate);
    let (kind, reason) = if new.warning {
        tracing::warn!(
            secret = new.secret,
            certificate = new.certificate,
            "{}",
            new.text
        );
        (EventType::Warning, event::CERTIFICATE_REPLACED)
    } else {
        tracing::info!(
            secret = new.secret,
            certificate = new.certificate,
            "{}",
            new.text
        );
        (EventType::Normal, event::CERTIFICATE_WRITTEN)
    };
    let target = ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Secret".to_owned()),
        name: Some(new.secret.clone()),
        namespace: Some(settings.namespace.clone()),
        ..ObjectReference::default()
    };
    let note = Event {
        type_: kind,
        reason: reason.into(),
        note: Some(new.text.clone()),
        action: new.action.into(),
        secondary: None,
    };
    // Only news: one that cannot be written holds up nothing.
    if let Err(error) = recorder.publish(&note, &target).await {
        tracing::debug!(%error, reason, "an event could not be written");
    }
}

fn show(found: &Found, metrics: &OperatorMetrics) {
    for (certificate, end) in found.ends() {
        if let Some(end) = end {
            metrics.certificate_ends(certificate, end.as_second());
        }
    }
}
