//! What the switches of the chart change.

use serde_json::{Value, json};

use crate::rendered::{COMPONENTS, env, everything, find, of_kind, pod, render, strings};

#[test]
fn network_policies_name_who_may_talk_to_each_listener() {
    assert!(of_kind(&render(json!({})), &["NetworkPolicy"]).is_empty());
    let objects = render(everything());
    let sources = |name: &str, port: &str| -> Value {
        let policy = find(&objects, "NetworkPolicy", name);
        assert_eq!(policy["spec"]["policyTypes"], json!(["Ingress"]));
        let rules = policy["spec"]["ingress"].as_array().unwrap();
        let mut rules = rules
            .iter()
            .filter(|r| r["ports"] == json!([{"port": port}]));
        rules
            .next()
            .map_or(Value::Null, |rule| rule["from"].clone())
    };
    let component = |name: &str| {
        json!({"podSelector": {"matchLabels": {
            "app.kubernetes.io/name": "maniple", "app.kubernetes.io/instance": "maniple", "app.kubernetes.io/component": name,
        }}})
    };
    let monitoring = json!([{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}]);
    assert_eq!(sources("maniple-operator", "admin"), monitoring);
    assert_eq!(sources("maniple-scaler", "admin"), monitoring);
    assert_eq!(
        sources("maniple-scaler", "slots"),
        json!([component("front")])
    );
    assert_eq!(
        sources("maniple-scaler", "status"),
        json!([component("operator")])
    );
    assert_eq!(
        sources("maniple-scaler", "grpc"),
        json!([
            {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "keda"}}, "podSelector": {"matchLabels": {"app": "keda-operator"}}},
            component("scaler"),
        ])
    );
    assert_eq!(sources("maniple-front", "admin"), monitoring);
    assert_eq!(sources("maniple-front", "http"), Value::Null, "everybody");
    let clients = json!([{"ipBlock": {"cidr": "10.0.0.0/8"}}]);
    let named = render(json!({"networkPolicy": {"enabled": true, "clients": clients}}));
    let policy = find(&named, "NetworkPolicy", "maniple-front");
    assert_eq!(
        policy["spec"]["ingress"],
        json!([{"ports": [{"port": "http"}], "from": clients}])
    );
    // Every port that a pod has is in its policy.
    for component in COMPONENTS {
        let policy = find(&objects, "NetworkPolicy", &format!("maniple-{component}"));
        let text = policy["spec"]["ingress"].to_string();
        let ports = &pod(&objects, component)["spec"]["containers"][0]["ports"];
        for port in ports.as_array().unwrap() {
            let name = &port["name"];
            assert!(
                text.contains(&format!("\"port\":{name}")),
                "{component} {name}"
            );
        }
    }
    // Without monitoring nobody may talk to the operator.
    let objects = render(json!({"networkPolicy": {"enabled": true}}));
    let policy = find(&objects, "NetworkPolicy", "maniple-operator");
    assert_eq!(policy["spec"]["ingress"], json!([]));
}

#[test]
fn a_workload_identity_is_the_scaler_s_alone() {
    let objects = render(everything());
    let account = find(&objects, "ServiceAccount", "maniple-scaler");
    assert_eq!(
        account["metadata"]["annotations"]["azure.workload.identity/client-id"],
        "11111111-2222-3333-4444-555555555555"
    );
    let label = "azure.workload.identity/use";
    assert_eq!(pod(&objects, "scaler")["metadata"]["labels"][label], "true");
    assert!(pod(&objects, "operator")["metadata"]["labels"][label].is_null());
    assert!(pod(&render(json!({})), "scaler")["metadata"]["labels"][label].is_null());
}

#[test]
fn pods_are_spread_and_protected() {
    let objects = render(json!({}));
    for component in COMPONENTS {
        let template = pod(&objects, component);
        let selector =
            find(&objects, "Deployment", &format!("maniple-{component}"))["spec"]["selector"]
                .clone();
        assert_eq!(
            template["spec"]["topologySpreadConstraints"],
            json!([{
                "topologyKey": "kubernetes.io/hostname", "maxSkew": 1, "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": selector,
            }])
        );
        let budget = find(
            &objects,
            "PodDisruptionBudget",
            &format!("maniple-{component}"),
        );
        assert_eq!(
            budget["spec"],
            json!({"maxUnavailable": 1, "selector": selector})
        );
    }
}

#[test]
fn where_pods_run_can_be_chosen_for_each_component() {
    let objects = render(json!({"scaler": {
        "replicas": 3,
        "nodeSelector": {"pool": "system"},
        "tolerations": [{"key": "system", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": []}}},
        "priorityClassName": "system-cluster-critical",
        "topologySpread": [],
        "extraEnv": [{"name": "MANIPLE_KUBE_REQUEST_TIMEOUT_SECONDS", "value": "20"}],
        "podDisruptionBudget": {"enabled": false},
    }}));
    let (scaler, operator) = (pod(&objects, "scaler"), pod(&objects, "operator"));
    assert_eq!(
        find(&objects, "Deployment", "maniple-scaler")["spec"]["replicas"],
        3
    );
    assert_eq!(scaler["spec"]["nodeSelector"], json!({"pool": "system"}));
    assert_eq!(
        scaler["spec"]["tolerations"],
        json!([{"key": "system", "operator": "Exists"}])
    );
    assert!(scaler["spec"]["affinity"]["nodeAffinity"].is_object());
    assert_eq!(
        scaler["spec"]["priorityClassName"],
        "system-cluster-critical"
    );
    assert!(scaler["spec"]["topologySpreadConstraints"].is_null());
    assert_eq!(
        env(scaler, "MANIPLE_KUBE_REQUEST_TIMEOUT_SECONDS").unwrap()["value"],
        "20"
    );
    assert!(operator["spec"]["nodeSelector"].is_null());
    let budgets: Vec<&Value> = of_kind(&objects, &["PodDisruptionBudget"]);
    let names: Vec<&Value> = budgets.iter().map(|b| &b["metadata"]["name"]).collect();
    assert_eq!(names, ["maniple-front", "maniple-operator"]);
}

#[test]
fn a_service_monitor_selects_the_metrics_services_only() {
    let objects = render(everything());
    let monitor = find(&objects, "ServiceMonitor", "maniple");
    let wanted = monitor["spec"]["selector"]["matchLabels"]
        .as_object()
        .unwrap();
    let mut selected: Vec<&str> = of_kind(&objects, &["Service"])
        .into_iter()
        .filter(|s| wanted.iter().all(|(k, v)| s["metadata"]["labels"][k] == *v))
        .filter_map(|s| s["metadata"]["name"].as_str())
        .collect();
    selected.sort_unstable();
    assert_eq!(
        selected,
        [
            "maniple-front-metrics",
            "maniple-operator-metrics",
            "maniple-scaler-metrics"
        ]
    );
    assert_eq!(
        strings(&monitor["spec"]["targetLabels"]),
        ["app.kubernetes.io/component"]
    );
}

#[test]
fn reading_of_sources_can_be_tuned() {
    let value = |objects: &[Value], name: &str| {
        env(pod(objects, "scaler"), name).map(|e| e["value"].clone())
    };
    let defaults = render(json!({}));
    assert_eq!(
        value(&defaults, "MANIPLE_PARALLEL_READS"),
        Some(json!("64"))
    );
    assert_eq!(value(&defaults, "MANIPLE_QUEUE_MAX_INTERVAL_SECONDS"), None);
    assert_eq!(value(&defaults, "MANIPLE_STORAGE_TRUSTED_DOMAINS"), None);
    let tuned = render(everything());
    assert_eq!(
        value(&tuned, "MANIPLE_QUEUE_MAX_INTERVAL_SECONDS"),
        Some(json!("60"))
    );
    assert_eq!(
        value(&tuned, "MANIPLE_STORAGE_TRUSTED_DOMAINS"),
        Some(json!("storage.example.com,other.example.com"))
    );
}
