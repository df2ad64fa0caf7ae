//! Watching one kind: a plain watcher whose events become "seen", "gone" and "all listed".
//!
//! kube's shared reflectors are not used: they do not pass deletions on to their subscribers.

use futures::StreamExt;
use kube::Resource;
use kube::api::Api;
use kube::runtime::WatchStreamExt;
use kube::runtime::utils::Backoff;
use kube::runtime::watcher::{self, Event};
use maniple_runtime::Guarded;
use serde::de::DeserializeOwned;
use std::collections::HashSet;
use std::fmt::Debug;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Length of one watch request in seconds. A connection that died without a word is noticed 5 s after it.
const WATCH_SECONDS: u32 = 60;
/// Objects in one page of a list.
const PAGE: u32 = 250;
/// Shortest and longest wait after an error. Short, because until the list is read nothing is decided.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

/// What became known about the objects of one kind.
#[derive(Debug)]
pub enum Seen<K> {
    /// There is this object, new or changed.
    Object(Box<K>),
    /// There is this object, but it cannot be read; its name is in the metadata.
    Unreadable {
        /// Namespace of the object.
        namespace: String,
        /// Name of the object.
        name: String,
        /// Why.
        error: String,
    },
    /// This object is gone.
    Gone {
        /// Namespace of the object.
        namespace: String,
        /// Name of the object.
        name: String,
    },
    /// Every object that there is has been seen, and those that went meanwhile have been told.
    Listed,
}

/// The set of names that a list replaces.
#[derive(Debug, Default)]
struct Names {
    known: HashSet<(String, String)>,
    listing: HashSet<(String, String)>,
}

/// Doubles from the shortest wait to the longest, each cut by up to a half so that replicas do not come back together.
struct Retry {
    next: Duration,
}

impl Iterator for Retry {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let wait = self.next;
        self.next = (wait * 2).min(BACKOFF.1);
        Some(wait.mul_f64(0.5 + fastrand::f64() / 2.0))
    }
}

impl Backoff for Retry {
    fn reset(&mut self) {
        self.next = BACKOFF.0;
    }
}

/// Turns watcher events into [`Seen`], in order. Deletions that happened while nobody watched are found by comparing lists.
fn step<K: Resource>(names: &mut Names, event: Event<Guarded<K>>, out: &mut Vec<Seen<K>>) {
    let id = |guard: &Guarded<K>| {
        let meta = guard.meta();
        (
            meta.namespace.clone().unwrap_or_default(),
            meta.name.clone().unwrap_or_default(),
        )
    };
    let seen = |guard: Guarded<K>, (namespace, name)| match guard.0 {
        Ok(object) => Seen::Object(Box::new(object)),
        Err(invalid) => Seen::Unreadable {
            namespace,
            name,
            error: invalid.message,
        },
    };
    match event {
        Event::Init => names.listing.clear(),
        Event::InitApply(guard) => {
            let id = id(&guard);
            names.listing.insert(id.clone());
            out.push(seen(guard, id));
        }
        Event::InitDone => {
            let listed = std::mem::take(&mut names.listing);
            let before = std::mem::replace(&mut names.known, listed);
            for (namespace, name) in before {
                if !names.known.contains(&(namespace.clone(), name.clone())) {
                    out.push(Seen::Gone { namespace, name });
                }
            }
            out.push(Seen::Listed);
        }
        Event::Apply(guard) => {
            let id = id(&guard);
            names.known.insert(id.clone());
            out.push(seen(guard, id));
        }
        Event::Delete(guard) => {
            let (namespace, name) = id(&guard);
            names.known.remove(&(namespace.clone(), name.clone()));
            out.push(Seen::Gone { namespace, name });
        }
    }
}

/// Watches until `stop` is cancelled or nobody reads `events` any more. Errors are logged and tried again for ever:
/// what was seen stays in force.
pub async fn watch<K>(
    kind: &'static str,
    api: Api<Guarded<K>>,
    labels: Option<String>,
    events: mpsc::Sender<Seen<K>>,
    on_error: impl Fn(&watcher::Error) + Send,
    stop: CancellationToken,
) where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let mut config = watcher::Config::default()
        .timeout(WATCH_SECONDS)
        .page_size(PAGE);
    if let Some(labels) = labels {
        config = config.labels(&labels);
    }
    let retry = Retry { next: BACKOFF.0 };
    let mut stream = watcher::watcher(api, config).backoff(retry).boxed();
    let mut names = Names::default();
    let mut out = Vec::new();
    loop {
        let event = tokio::select! {
            () = stop.cancelled() => return,
            event = stream.next() => event,
        };
        match event {
            Some(Ok(event)) => step(&mut names, event, &mut out),
            Some(Err(error)) => {
                on_error(&error);
                tracing::warn!(
                    kind,
                    "watch interrupted, what was seen stays in force: {error}"
                );
            }
            None => return,
        }
        for seen in out.drain(..) {
            if events.send(seen).await.is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::ConfigMap;
    use serde_json::json;

    fn object(name: &str) -> Guarded<ConfigMap> {
        Guarded(Ok(serde_json::from_value(
            json!({"metadata": {"namespace": "ns", "name": name}}),
        )
        .unwrap()))
    }

    fn run(names: &mut Names, events: Vec<Event<Guarded<ConfigMap>>>) -> Vec<String> {
        let mut out = Vec::new();
        for event in events {
            step(names, event, &mut out);
        }
        out.into_iter()
            .map(|seen| match seen {
                Seen::Object(o) => format!("+{}", o.metadata.name.unwrap_or_default()),
                Seen::Unreadable { name, .. } => format!("?{name}"),
                Seen::Gone { name, .. } => format!("-{name}"),
                Seen::Listed => "listed".to_owned(),
            })
            .collect()
    }

    #[test]
    fn a_new_list_tells_what_went_while_nobody_watched() {
        let mut names = Names::default();
        let first = vec![
            Event::Init,
            Event::InitApply(object("a")),
            Event::InitApply(object("b")),
            Event::InitDone,
            Event::Apply(object("c")),
            Event::Delete(object("a")),
        ];
        assert_eq!(run(&mut names, first), ["+a", "+b", "listed", "+c", "-a"]);
        let second = vec![Event::Init, Event::InitApply(object("c")), Event::InitDone];
        assert_eq!(run(&mut names, second), ["+c", "-b", "listed"]);
    }

    #[test]
    fn a_list_that_broke_off_removes_nothing() {
        let mut names = Names::default();
        run(
            &mut names,
            vec![Event::Init, Event::InitApply(object("a")), Event::InitDone],
        );
        let broken = vec![
            Event::Init,
            Event::Init,
            Event::InitApply(object("a")),
            Event::InitDone,
        ];
        assert_eq!(run(&mut names, broken), ["+a", "listed"]);
    }

    #[test]
    fn an_object_that_cannot_be_read_keeps_its_name() {
        let text = json!({"metadata": {"namespace": "ns", "name": "bad"}, "data": "text"});
        let guard = serde_json::from_str(&text.to_string()).unwrap();
        assert_eq!(
            run(&mut Names::default(), vec![Event::Apply(guard)]),
            ["?bad"]
        );
    }
}
