//! What the chart renders to.

use e2e::helm;
use serde_json::{Value, json};

use crate::document::{file, read};
use crate::rendered::{
    COMPONENTS, NAMESPACE, RELEASE, env, everything, find, of_kind, pod, render, try_render,
};

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
fn every_rendering_is_the_same() {
    for values in [json!({}), everything(), json!({"watchNamespace": "apps"})] {
        let text = || {
            let mut values = values.clone();
            values["image"]["repository"] = json!("registry.example/maniple");
            helm::template(RELEASE, NAMESPACE, &helm::chart(), &values, &[]).unwrap()
        };
        assert_eq!(text(), text());
    }
}

#[test]
fn every_pod_passes_the_restricted_level() {
    for values in [json!({}), everything(), json!({"runAsUser": null})] {
        let objects = render(values);
        let deployments = of_kind(&objects, &["Deployment"]);
        assert!(deployments.len() >= COMPONENTS.len());
        for deployment in deployments {
            let spec = &deployment["spec"]["template"]["spec"];
            for shared in [
                "hostNetwork",
                "hostPID",
                "hostIPC",
                "initContainers",
                "ephemeralContainers",
            ] {
                assert!(spec[shared].is_null(), "{shared} in {spec}");
            }
            for volume in spec["volumes"].as_array().into_iter().flatten() {
                let kinds: Vec<_> = volume.as_object().unwrap().keys().collect();
                assert!(
                    kinds
                        .iter()
                        .all(|k| ["name", "secret", "emptyDir"].contains(&k.as_str())),
                    "{volume}"
                );
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
fn all_run_from_one_image_and_are_probed_on_the_admin_port() {
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
    for entry in std::fs::read_dir(folder).expect("the folder exists") {
        let path = entry.expect("the folder can be read").path();
        if path.is_dir() {
            collect(&path, text);
        } else {
            text.push_str(&std::fs::read_to_string(&path).expect("sources are text"));
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
fn names_stay_within_what_services_allow() {
    let long = "a".repeat(46);
    let objects = render(json!({"fullnameOverride": long}));
    for service in of_kind(&objects, &["Service"]) {
        let name = service["metadata"]["name"].as_str().unwrap();
        assert!(name.len() <= 63 && name.starts_with(&long), "{name}");
    }
}
