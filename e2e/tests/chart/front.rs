//! The front end in the chart: on by default, without rights, authenticated.

use serde_json::{Value, json};

use crate::rendered::{env, find, of_kind, pod, render, try_render};

fn enabled() -> Vec<Value> {
    render(json!({"front": {"domain": "apps.example"}}))
}

/// Value of a variable.
fn value<'a>(pod: &'a Value, name: &str) -> &'a str {
    env(pod, name)
        .and_then(|e| e["value"].as_str())
        .unwrap_or_else(|| panic!("{name} is not set"))
}

#[test]
fn nothing_of_it_is_there_when_it_is_off() {
    let objects = render(json!({"front": {"enabled": false}}));
    assert!(
        !objects
            .iter()
            .any(|o| o["metadata"]["labels"]["app.kubernetes.io/component"] == "front")
    );
    let scaler = pod(&objects, "scaler");
    assert!(env(scaler, "MANIPLE_SLOTS_ADDRESS").is_none());
    assert!(scaler["spec"]["volumes"].is_null());
    assert!(of_kind(&objects, &["Secret"]).is_empty());
}

#[test]
fn it_has_no_access_to_the_api_server() {
    let objects = enabled();
    let spec = &pod(&objects, "front")["spec"];
    assert_eq!(spec["automountServiceAccountToken"], false);
    assert!(spec["serviceAccountName"].is_null());
    let of_it = objects
        .iter()
        .filter(|o| o["metadata"]["labels"]["app.kubernetes.io/component"] == "front");
    for object in of_it {
        let kind = object["kind"].as_str().unwrap();
        assert!(
            !kind.contains("Role") && kind != "ServiceAccount",
            "{object}"
        );
    }
}

#[test]
fn it_finds_the_port_on_which_every_replica_lends_slots() {
    let objects = enabled();
    let (front, scaler) = (pod(&objects, "front"), pod(&objects, "scaler"));
    let server = value(front, "MANIPLE_SLOTS_SERVER");
    assert_eq!(server, "maniple-scaler.maniple-system.svc:9091");
    assert_eq!(value(scaler, "MANIPLE_SLOTS_ADDRESS"), "0.0.0.0:9091");
    assert_eq!(value(scaler, "MANIPLE_DOMAIN"), "apps.example");
    let service = find(&objects, "Service", "maniple-scaler");
    assert_eq!(service["spec"]["clusterIP"], "None");
    assert_eq!(service["spec"]["ports"][1]["port"], 9091);
    let ports = scaler["spec"]["containers"][0]["ports"].as_array().unwrap();
    assert!(
        ports
            .iter()
            .any(|p| p["name"] == "slots" && p["containerPort"] == 9091)
    );
    let service = find(&objects, "Service", "maniple-front");
    assert_eq!(service["spec"]["ports"][0]["port"], 80);
    assert_eq!(service["spec"]["ports"][0]["targetPort"], "http");
}

#[test]
fn the_operator_makes_the_secrets_that_both_sides_mount() {
    let objects = render(json!({"front": {"tls": {"certificateDays": 30}}}));
    assert!(
        of_kind(&objects, &["Secret"]).is_empty(),
        "a rendered key is another one at every render"
    );
    let operator = pod(&objects, "operator");
    for (component, variable) in [
        ("front", "MANIPLE_SLOTS_FRONT_SECRET"),
        ("scaler", "MANIPLE_SLOTS_SCALER_SECRET"),
    ] {
        let spec = &pod(&objects, component)["spec"];
        assert_eq!(
            spec["containers"][0]["volumeMounts"][0],
            json!({"name": "tls", "mountPath": "/tls", "readOnly": true})
        );
        // Not optional: pods wait for the operator, and start with certificates.
        assert_eq!(
            spec["volumes"][0],
            json!({"name": "tls", "secret": {"secretName": value(operator, variable)}})
        );
    }
    let server = value(pod(&objects, "front"), "MANIPLE_SLOTS_SERVER");
    let host = server.split(':').next().unwrap();
    let names = value(operator, "MANIPLE_SLOTS_SERVER_NAMES");
    assert!(names.split(',').any(|name| name == host), "{names}");
    assert_eq!(value(operator, "MANIPLE_CERTIFICATE_DAYS"), "30");

    let off = render(json!({"front": {"enabled": false}}));
    let given = render(json!({"front": {"tls": {"frontSecret": "f", "scalerSecret": "s"}}}));
    for objects in [off, given] {
        let operator = pod(&objects, "operator");
        assert!(env(operator, "MANIPLE_SLOTS_AUTHORITY_SECRET").is_none());
        let role = find(&objects, "Role", "maniple-operator");
        assert!(!role["rules"].to_string().contains("secrets"), "{role}");
    }
}

#[test]
fn certificates_of_somebody_else_are_taken_for_both_sides_or_not_at_all() {
    let given = |tls: Value| try_render(json!({"front": {"tls": tls}}));
    let objects = given(json!({"frontSecret": "f", "scalerSecret": "s"})).unwrap();
    assert!(of_kind(&objects, &["Secret"]).is_empty());
    for (component, name) in [("front", "f"), ("scaler", "s")] {
        assert_eq!(
            pod(&objects, component)["spec"]["volumes"][0]["secret"]["secretName"],
            name
        );
    }
    for (tls, named) in [
        (json!({"frontSecret": "f"}), "front.tls.scalerSecret"),
        (json!({"scalerSecret": "s"}), "front.tls.frontSecret"),
    ] {
        let error = given(tls).unwrap_err();
        assert!(format!("{error:#}").contains(named), "{error:#}");
    }
}

#[test]
fn a_scaler_that_stops_waits_until_front_ends_have_found_the_next_one() {
    let linger = |objects: &[Value]| {
        pod(objects, "scaler")["spec"]["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
            .as_u64()
    };
    let objects = enabled();
    let seconds = linger(&objects).unwrap();
    let grace = pod(&objects, "scaler")["spec"]["terminationGracePeriodSeconds"]
        .as_u64()
        .unwrap();
    // The stages of the process take up to 22 s.
    assert!(seconds > 6 && seconds + 22 < grace, "{seconds} {grace}");
    let off = render(json!({"front": {"enabled": false}}));
    assert_eq!(linger(&off), None);
}

#[test]
fn a_pod_that_stops_has_time_for_its_requests() {
    let objects = render(json!({"front": {"drainSeconds": 600}}));
    let front = pod(&objects, "front");
    assert_eq!(value(front, "MANIPLE_DRAIN_SECONDS"), "600");
    let grace = front["spec"]["terminationGracePeriodSeconds"].as_u64();
    assert!(grace.is_some_and(|s| s > 610), "{grace:?}");
    let selector = &find(&objects, "Deployment", "maniple-front")["spec"]["selector"];
    let budget = find(&objects, "PodDisruptionBudget", "maniple-front");
    assert_eq!(
        budget["spec"],
        json!({"maxUnavailable": 1, "selector": selector})
    );
    // What tells its processes apart lives as long as the pod.
    assert_eq!(value(front, "MANIPLE_STATE_DIRECTORY"), "/state");
    assert!(front["spec"]["volumes"][1]["emptyDir"].is_object());
}

#[test]
fn certificates_for_clients_open_a_second_port() {
    let plain = enabled();
    let service = find(&plain, "Service", "maniple-front");
    assert_eq!(service["spec"]["ports"].as_array().unwrap().len(), 1);
    assert!(env(pod(&plain, "front"), "MANIPLE_TLS_FOLDERS").is_none());

    let objects = render(json!({
        "front": {"tls": {"serving": {"secretNames": ["shop", "blog"]}}},
        "networkPolicy": {"enabled": true},
    }));
    let front = pod(&objects, "front");
    let mounts = &front["spec"]["containers"][0]["volumeMounts"];
    let volumes = front["spec"]["volumes"].as_array().unwrap();
    for (folder, secret) in value(front, "MANIPLE_TLS_FOLDERS")
        .split(',')
        .zip(["shop", "blog"])
    {
        let mount = mounts
            .as_array()
            .unwrap()
            .iter()
            .find(|m| m["mountPath"] == folder);
        let name = &mount.unwrap()["name"];
        let volume = volumes.iter().find(|v| v["name"] == *name).unwrap();
        assert_eq!(volume["secret"]["secretName"], secret);
    }
    let service = find(&objects, "Service", "maniple-front");
    assert_eq!(service["spec"]["ports"][1]["port"], 443);
    let policy = find(&objects, "NetworkPolicy", "maniple-front");
    assert!(
        policy["spec"]["ingress"].to_string().contains("\"https\""),
        "{policy}"
    );
}

#[test]
fn requests_are_told_of_when_it_is_asked_for() {
    let plain = enabled();
    let front = pod(&plain, "front");
    assert_eq!(value(front, "MANIPLE_ACCESS_LOG_PER_MILLE"), "0");
    assert_eq!(value(front, "MANIPLE_COLD_START_HEADER"), "false");
    assert!(env(front, "MANIPLE_OTLP_ENDPOINT").is_none());

    let tracing = json!({"endpoint": "https://collector:4317", "caSecret": "ca", "perMille": 5});
    let objects = render(json!({"front": {"tracing": tracing}}));
    let front = pod(&objects, "front");
    assert_eq!(
        value(front, "MANIPLE_OTLP_ENDPOINT"),
        "https://collector:4317"
    );
    assert_eq!(value(front, "MANIPLE_TRACE_PER_MILLE"), "5");
    assert_eq!(value(front, "MANIPLE_OTLP_CA"), "/collector/ca.crt");
    let error = try_render(json!({"front": {"tracing": {"caSecret": "ca"}}})).unwrap_err();
    assert!(
        format!("{error:#}").contains("front.tracing.endpoint"),
        "{error:#}"
    );
}
