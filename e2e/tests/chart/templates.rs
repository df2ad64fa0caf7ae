//! What the chart renders to.

use e2e::helm;
use serde_json::{Value, json};

use crate::document::{file, read};
use crate::rendered::{find, of_kind, render, strings, try_render};

const COMPONENTS: [&str; 2] = ["operator", "scaler"];

fn pod<'a>(objects: &'a [Value], component: &str) -> &'a Value {
    &find(objects, "Deployment", &format!("maniple-{component}"))["spec"]["template"]
}

fn env<'a>(pod: &'a Value, name: &str) -> Option<&'a Value> {
    let list = pod["spec"]["containers"][0]["env"].as_array()?;
    list.iter().find(|e| e["name"] == name)
}

/// Every switch on, so that a test of all objects sees all of them.
fn everything() -> Value {
    json!({
        "networkPolicy": {"enabled": true, "monitoring": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}]},
        "serviceMonitor": {"enabled": true},
        "scaler": {"workloadIdentity": {"enabled": true, "clientId": "11111111-2222-3333-4444-555555555555"}},
        "additionalLabels": {"team": "platform"},
        "additionalAnnotations": {"example.com/owner": "platform"},
    })
}

#[test]
fn helm_finds_nothing_to_complain_about() {
    let values = |extra: Value| {
        let mut values = extra;
        values["image"]["repository"] = json!("registry.example/maniple");
        values
    };
    helm::lint(&helm::chart(), &values(json!({}))).unwrap();
    helm::lint(&helm::chart(), &values(everything())).unwrap();
}

#[test]
fn every_pod_passes_the_restricted_level() {
    for values in [json!({}), everything(), json!({"runAsUser": null})] {
        let objects = render(values);
        let deployments = of_kind(&objects, &["Deployment"]);
        assert_eq!(deployments.len(), COMPONENTS.len());
        for deployment in deployments {
            let spec = &deployment["spec"]["template"]["spec"];
            for shared in [
                "hostNetwork",
                "hostPID",
                "hostIPC",
                "volumes",
                "initContainers",
                "ephemeralContainers",
            ] {
                assert!(spec[shared].is_null(), "{shared} in {spec}");
            }
            let context = &spec["securityContext"];
            assert_eq!(context["runAsNonRoot"], true);
            assert_eq!(context["seccompProfile"], json!({"type": "RuntimeDefault"}));
            assert_ne!(context["runAsUser"], 0);
            for container in spec["containers"].as_array().unwrap() {
                assert_eq!(
                    container["securityContext"],
                    json!({
                        "allowPrivilegeEscalation": false,
                        "readOnlyRootFilesystem": true,
                        "capabilities": {"drop": ["ALL"]},
                    })
                );
                for port in container["ports"].as_array().unwrap() {
                    assert!(port["hostPort"].is_null(), "{port}");
                }
                assert!(container["resources"]["requests"]["cpu"].is_string());
                assert!(container["resources"]["limits"]["memory"].is_string());
            }
        }
    }
}

#[test]
fn both_run_from_one_image_and_are_probed_on_the_admin_port() {
    let objects =
        render(json!({"image": {"repository": "registry.example/maniple", "tag": "1.2.3"}}));
    for component in COMPONENTS {
        let container = &pod(&objects, component)["spec"]["containers"][0];
        assert_eq!(container["image"], "registry.example/maniple:1.2.3");
        assert_eq!(container["command"], json!([format!("/{component}")]));
        for (probe, path) in [("livenessProbe", "/live"), ("readinessProbe", "/ready")] {
            assert_eq!(
                container[probe]["httpGet"],
                json!({"path": path, "port": "admin"})
            );
        }
        let ports = container["ports"].as_array().unwrap();
        assert!(
            ports
                .iter()
                .any(|p| p["name"] == "admin" && p["containerPort"] == 9990)
        );
    }
    let digest = format!("sha256:{}", "0".repeat(64));
    let objects = render(json!({"image": {"repository": "r/m", "tag": "1", "digest": digest}}));
    let container = &pod(&objects, "scaler")["spec"]["containers"][0];
    assert_eq!(container["image"], format!("r/m@{digest}"));
}

#[test]
fn addresses_that_the_operator_is_told_are_those_of_the_services() {
    let objects = render(json!({"listenAddress": "[::]"}));
    let operator = pod(&objects, "operator");
    assert_eq!(
        env(operator, "MANIPLE_SCALER_ADDRESS").unwrap()["value"],
        "maniple-scaler.maniple-system.svc:9090"
    );
    assert_eq!(
        env(operator, "MANIPLE_SCALER_STATUS_URL").unwrap()["value"],
        "http://maniple-scaler-status.maniple-system.svc:8082"
    );
    let scaler = pod(&objects, "scaler");
    assert_eq!(
        env(scaler, "MANIPLE_GRPC_ADDRESS").unwrap()["value"],
        "[::]:9090"
    );
    let labels = scaler["metadata"]["labels"].as_object().unwrap();
    for (service, headless, port) in [
        ("maniple-scaler", true, 9090),
        ("maniple-scaler-status", false, 8082),
    ] {
        let service = find(&objects, "Service", service);
        assert_eq!(service["spec"]["clusterIP"] == "None", headless);
        assert_eq!(service["spec"]["ports"][0]["port"], port);
        let target = &service["spec"]["ports"][0]["targetPort"];
        let ports = scaler["spec"]["containers"][0]["ports"].as_array().unwrap();
        assert!(
            ports
                .iter()
                .any(|p| p["name"] == *target && p["containerPort"] == port),
            "{target}"
        );
        for (key, value) in service["spec"]["selector"].as_object().unwrap() {
            assert_eq!(labels.get(key), Some(value));
        }
    }
    // KEDA must not be sent to a pod that has not read its first list.
    assert_eq!(
        find(&objects, "Service", "maniple-scaler")["spec"]["publishNotReadyAddresses"],
        false
    );
}

#[test]
fn every_variable_is_one_that_a_program_reads() {
    let mut known = String::new();
    for folder in ["operator/src", "operator/runtime/src", "scaler/src"] {
        collect(&file(folder), &mut known);
    }
    let objects = render(everything());
    for component in COMPONENTS {
        for variable in pod(&objects, component)["spec"]["containers"][0]["env"]
            .as_array()
            .unwrap()
        {
            let name = variable["name"].as_str().unwrap();
            assert!(
                known.contains(&format!("env = \"{name}\"")),
                "{component}: nobody reads {name}"
            );
        }
    }
}

fn collect(folder: &std::path::Path, text: &mut String) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, text);
        } else {
            text.push_str(&std::fs::read_to_string(&path).unwrap());
        }
    }
}

#[test]
fn unknown_and_wrong_values_are_refused_with_their_name() {
    for (values, named) in [
        (json!({"operatr": {"replicas": 1}}), "operatr"),
        (json!({"scaler": {"replica": 1}}), "replica"),
        (json!({"scaler": {"resources": {"limit": {}}}}), "limit"),
        (json!({"networkPolicy": {"keda": {"ns": "keda"}}}), "ns"),
        (
            json!({"instances": {"requestPercent": 0}}),
            "requestPercent",
        ),
        (json!({"log": {"format": "xml"}}), "format"),
        (json!({"runAsUser": 0}), "runAsUser"),
        (json!({"operator": {"replicas": "two"}}), "replicas"),
        (json!({"image": {"digest": "latest"}}), "digest"),
        (json!({"fullnameOverride": "Maniple"}), "fullnameOverride"),
    ] {
        let error = try_render(values.clone()).expect_err(&values.to_string());
        assert!(format!("{error:#}").contains(named), "{values}: {error:#}");
    }
    // Helm adds it when the chart is part of another one.
    render(json!({"global": {"anything": 1}}));
}

#[test]
fn what_is_missing_is_named_with_what_to_do() {
    let missing = try_render(json!({"image": {"repository": ""}})).unwrap_err();
    assert!(
        format!("{missing:#}").contains("set image.repository"),
        "{missing:#}"
    );
    let missing =
        try_render(json!({"scaler": {"workloadIdentity": {"enabled": true}}})).unwrap_err();
    assert!(
        format!("{missing:#}").contains("scaler.workloadIdentity.clientId"),
        "{missing:#}"
    );
    let missing =
        try_render(json!({"operator": {"serviceAccount": {"create": false}}})).unwrap_err();
    assert!(
        format!("{missing:#}").contains("operator.serviceAccount.name"),
        "{missing:#}"
    );
}

#[test]
fn the_definition_is_kept_and_otherwise_as_it_was_generated() {
    let generated: Value =
        serde_saphyr::from_str(&read("crds/generated/maniple.dev_functionapps.yaml")).unwrap();
    let name = "functionapps.maniple.dev";
    let objects = render(everything());
    let rendered = find(&objects, "CustomResourceDefinition", name);
    assert_eq!(
        rendered["metadata"]["annotations"]["helm.sh/resource-policy"],
        "keep"
    );
    assert_eq!(rendered["metadata"]["labels"]["team"], "platform");
    assert_eq!(rendered["spec"], generated["spec"]);

    let objects = render(json!({"crds": {"keep": false}}));
    let rendered = find(&objects, "CustomResourceDefinition", name);
    assert!(rendered["metadata"]["annotations"].is_null());
    assert_eq!(rendered["spec"], generated["spec"]);

    let objects = render(json!({"crds": {"enabled": false}}));
    assert!(of_kind(&objects, &["CustomResourceDefinition"]).is_empty());
}

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
    // Without monitoring nobody may talk to the operator.
    let objects = render(json!({"networkPolicy": {"enabled": true}}));
    let policy = find(&objects, "NetworkPolicy", "maniple-operator");
    assert_eq!(policy["spec"]["ingress"], json!([]));
}

#[test]
fn labels_and_annotations_reach_every_object_and_pod() {
    let objects = render(everything());
    assert!(objects.len() > 20, "{}", objects.len());
    let pods = COMPONENTS.map(|component| pod(&objects, component));
    for object in objects.iter().chain(pods) {
        let meta = &object["metadata"];
        assert_eq!(meta["labels"]["team"], "platform", "{meta}");
        assert_eq!(
            meta["annotations"]["example.com/owner"], "platform",
            "{meta}"
        );
        assert_eq!(
            meta["labels"]["app.kubernetes.io/part-of"], "maniple",
            "{meta}"
        );
    }
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
    assert_eq!(budgets.len(), 1);
    assert_eq!(budgets[0]["metadata"]["name"], "maniple-operator");
}

#[test]
fn names_stay_within_what_services_allow() {
    let long = "a".repeat(46);
    let objects = render(json!({"fullnameOverride": long}));
    for service in of_kind(&objects, &["Service"]) {
        let name = service["metadata"]["name"].as_str().unwrap();
        assert!(name.len() <= 63 && name.starts_with(&long), "{name}");
    }
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
        ["maniple-operator-metrics", "maniple-scaler-metrics"]
    );
    assert_eq!(
        strings(&monitor["spec"]["targetLabels"]),
        ["app.kubernetes.io/component"]
    );
}
