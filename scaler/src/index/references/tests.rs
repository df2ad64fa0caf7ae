use super::*;
use serde_json::json;

/// The objects of a cluster, as plain values.
#[derive(Default)]
struct Objects {
    answers: Mutex<BTreeMap<String, Result<Values, ReadError>>>,
    reads: Mutex<Vec<String>>,
}

impl Reader for Arc<Objects> {
    async fn read(&self, namespace: &str, kind: Kind, name: &str) -> Result<Values, ReadError> {
        let id = format!("{} {namespace}/{name}", kind.as_str());
        self.reads.lock().push(id.clone());
        let answers = self.answers.lock();
        answers
            .get(&id)
            .cloned()
            .unwrap_or(Err(ReadError::NotFound))
    }
}

fn settings() -> Vec<AppSetting> {
    serde_json::from_value(json!([
        {"name": "Plain", "value": "one"},
        {"name": "Conn", "valueFrom": {"secretKeyRef": {"name": "s", "key": "conn"}}},
        {"name": "Other", "valueFrom": {"secretKeyRef": {"name": "s", "key": "gone"}}},
        {"name": "Zone", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "tz"}}},
    ]))
    .unwrap()
}

fn secret() -> Values {
    [("conn".to_owned(), Redacted::new("hunter2"))].into()
}

#[tokio::test]
async fn values_come_from_the_objects_and_what_is_missing_is_named() {
    let objects = Arc::new(Objects::default());
    objects
        .answers
        .lock()
        .insert("Secret ns/s".into(), Ok(secret()));
    let references = References::new(Arc::clone(&objects));
    let resolved = references.resolve(&"ns".into(), &settings(), REFRESH).await;
    assert_eq!(resolved.get("plain"), Some("one"));
    assert_eq!(resolved.get("Conn"), Some("hunter2"));
    let problem = |name: &str| resolved.missing(name).map(|m| m.problem.clone()).unwrap();
    assert!(
        problem("other").contains("Secret ns/s has no key 'gone'"),
        "{}",
        problem("other")
    );
    assert!(
        problem("zone").contains("ConfigMap ns/c (key 'tz') does not exist"),
        "{}",
        problem("zone")
    );
    assert!(!format!("{resolved:?}").contains("hunter2"));
    assert_eq!(objects.reads.lock().len(), 2, "one read for each object");
}

#[tokio::test]
async fn objects_are_read_again_when_they_are_too_old() {
    let objects = Arc::new(Objects::default());
    let references = References::new(Arc::clone(&objects));
    let namespace = "ns".into();
    references.resolve(&namespace, &settings(), REFRESH).await;
    references.resolve(&namespace, &settings(), REFRESH).await;
    assert_eq!(objects.reads.lock().len(), 2);
    objects
        .answers
        .lock()
        .insert("Secret ns/s".into(), Ok(secret()));
    let resolved = references
        .resolve(&namespace, &settings(), Duration::ZERO)
        .await;
    assert_eq!(resolved.get("Conn"), Some("hunter2"));
}

#[tokio::test]
async fn a_silent_api_server_leaves_the_last_values_and_a_deleted_object_does_not() {
    let objects = Arc::new(Objects::default());
    objects
        .answers
        .lock()
        .insert("Secret ns/s".into(), Ok(secret()));
    let references = References::new(Arc::clone(&objects));
    let namespace = "ns".into();
    references.resolve(&namespace, &settings(), REFRESH).await;

    let down = Err(ReadError::Failed("time-out".into()));
    objects.answers.lock().insert("Secret ns/s".into(), down);
    let resolved = references
        .resolve(&namespace, &settings(), Duration::ZERO)
        .await;
    assert_eq!(resolved.get("Conn"), Some("hunter2"));

    objects.answers.lock().clear();
    let resolved = references
        .resolve(&namespace, &settings(), Duration::ZERO)
        .await;
    assert_eq!(resolved.get("Conn"), None);
    assert!(resolved.missing("Conn").is_some());
}

#[tokio::test]
async fn objects_that_nobody_refers_to_are_forgotten() {
    let objects = Arc::new(Objects::default());
    let references = References::new(Arc::clone(&objects));
    let namespace: Arc<str> = "ns".into();
    references.resolve(&namespace, &settings(), REFRESH).await;
    references.retain(
        &super::objects(&namespace, &settings())
            .into_iter()
            .collect(),
    );
    assert_eq!(references.entries.lock().len(), 2);
    references.retain(&BTreeSet::new());
    assert_eq!(references.entries.lock().len(), 0);
}
