//! Rights of the components: named, least, and as the documentation lists them.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::document::assert_section;
use crate::rendered::{NAMESPACE, of_kind, render, strings};

const ROLES: [&str; 2] = ["ClusterRole", "Role"];

fn rules(role: &Value) -> &[Value] {
    role["rules"].as_array().map_or(&[], Vec::as_slice)
}

#[test]
fn no_right_is_a_wildcard_or_lets_its_holder_gain_others() {
    for values in [json!({}), json!({"watchNamespace": "apps"})] {
        let objects = render(values);
        let roles = of_kind(&objects, &ROLES);
        assert!(roles.len() >= 4, "{} roles", roles.len());
        for role in roles {
            assert!(!rules(role).is_empty(), "{role}");
            for rule in rules(role) {
                for list in ["apiGroups", "resources", "verbs"] {
                    let names = strings(&rule[list]);
                    assert!(
                        !names.is_empty() && !names.iter().any(|n| n.contains('*')),
                        "{rule}"
                    );
                }
                for verb in ["escalate", "bind", "impersonate"] {
                    assert!(!strings(&rule["verbs"]).contains(&verb), "{rule}");
                }
                let resources = strings(&rule["resources"]);
                for forbidden in [
                    "pods/exec",
                    "pods/attach",
                    "pods/portforward",
                    "serviceaccounts/token",
                    "roles",
                    "rolebindings",
                    "nodes",
                ] {
                    assert!(!resources.contains(&forbidden), "{rule}");
                }
                assert!(rule["nonResourceURLs"].is_null(), "{rule}");
            }
        }
    }
}

#[test]
fn one_watched_namespace_needs_no_cluster_role() {
    for (namespace, apps_role) in [
        ("apps", "maniple-operator"),
        (NAMESPACE, "maniple-operator-apps"),
    ] {
        let objects = render(json!({"watchNamespace": namespace}));
        assert!(of_kind(&objects, &["ClusterRole", "ClusterRoleBinding"]).is_empty());
        let found: Vec<(&str, &str)> = of_kind(&objects, &["Role"])
            .iter()
            .filter(|role| role["metadata"]["labels"]["app.kubernetes.io/component"] == "operator")
            .map(|role| {
                let meta = &role["metadata"];
                (
                    meta["namespace"].as_str().unwrap_or(""),
                    meta["name"].as_str().unwrap_or(""),
                )
            })
            .collect();
        assert!(found.contains(&(namespace, apps_role)), "{found:?}");
        assert!(
            found.contains(&(NAMESPACE, "maniple-operator")),
            "{found:?}"
        );
        for name in ["maniple-operator", "maniple-scaler"] {
            let deployment = crate::rendered::find(&objects, "Deployment", name);
            let env = &deployment["spec"]["template"]["spec"]["containers"][0]["env"];
            let set = env.as_array().is_some_and(|env| {
                env.iter()
                    .any(|e| e["name"] == "MANIPLE_NAMESPACE" && e["value"] == namespace)
            });
            assert!(set, "{env}");
        }
    }
}

#[test]
fn what_runs_beside_the_scaler_is_reached_wherever_the_apps_are() {
    let rule = |role: &Value, resource: &str, names: Value| -> Value {
        let found = rules(role)
            .iter()
            .find(|r| r["resources"] == json!([resource]) && r["resourceNames"] == names);
        found.unwrap_or_else(|| panic!("no rule for {resource} {names} in {role}"))["verbs"].clone()
    };
    for values in [
        json!({}),
        json!({"watchNamespace": "apps"}),
        json!({"watchNamespace": NAMESPACE}),
    ] {
        let objects = render(values);
        let own = |name: &str| {
            of_kind(&objects, &["Role"])
                .into_iter()
                .find(|role| {
                    role["metadata"]["namespace"] == NAMESPACE && role["metadata"]["name"] == name
                })
                .unwrap_or_else(|| panic!("there is no Role {name} in {NAMESPACE}"))
        };
        // Front ends.
        let scaler = own("maniple-scaler");
        assert_eq!(rule(scaler, "pods", Value::Null), json!(["list", "watch"]));
        // Certificates: creating cannot be limited to a name, everything else is.
        let operator = own("maniple-operator");
        assert_eq!(rule(operator, "secrets", Value::Null), json!(["create"]));
        let names = json!([
            "maniple-slots-authority",
            "maniple-front-slots",
            "maniple-scaler-slots"
        ]);
        assert_eq!(rule(operator, "secrets", names), json!(["get", "update"]));
        assert_eq!(
            rule(operator, "events", Value::Null),
            json!(["create", "patch"])
        );
    }
}

#[test]
fn the_scaler_cannot_read_the_key_of_the_ca_unless_it_serves_its_own_namespace() {
    let objects = render(json!({"watchNamespace": "apps"}));
    for role in of_kind(&objects, &["Role"]) {
        let meta = &role["metadata"];
        let is_scaler = meta["labels"]["app.kubernetes.io/component"] == "scaler";
        if is_scaler && meta["namespace"] == NAMESPACE {
            for rule in rules(role) {
                assert!(!strings(&rule["resources"]).contains(&"secrets"), "{rule}");
            }
        }
    }
}

#[test]
fn every_binding_binds_the_account_of_its_component() {
    let objects = render(json!({}));
    let bindings = of_kind(&objects, &["ClusterRoleBinding", "RoleBinding"]);
    assert_eq!(bindings.len(), 4);
    for binding in bindings {
        let component = &binding["metadata"]["labels"]["app.kubernetes.io/component"];
        let account = format!("maniple-{}", component.as_str().unwrap_or_default());
        assert_eq!(
            binding["subjects"],
            json!([{"kind": "ServiceAccount", "name": account, "namespace": NAMESPACE}])
        );
        let role = &binding["roleRef"];
        assert!(
            objects
                .iter()
                .any(|o| o["kind"] == role["kind"] && o["metadata"]["name"] == role["name"]),
            "{role}"
        );
    }
    for name in ["maniple-operator", "maniple-scaler"] {
        let deployment = crate::rendered::find(&objects, "Deployment", name);
        assert_eq!(
            deployment["spec"]["template"]["spec"]["serviceAccountName"],
            name
        );
    }
}

#[test]
fn people_get_rights_through_the_roles_of_the_cluster() {
    let objects = render(json!({}));
    let edit = crate::rendered::find(&objects, "ClusterRole", "maniple-edit");
    let view = crate::rendered::find(&objects, "ClusterRole", "maniple-view");
    let label = |role: &Value, to: &str| {
        role["metadata"]["labels"][format!("rbac.authorization.k8s.io/aggregate-to-{to}")].clone()
    };
    for to in ["edit", "admin"] {
        assert_eq!(label(edit, to), "true");
        assert_eq!(label(view, to), "true");
    }
    assert_eq!(label(view, "view"), "true");
    assert!(label(edit, "view").is_null());
    for rule in rules(view) {
        assert_eq!(strings(&rule["verbs"]), ["get", "list", "watch"]);
    }
    let without = render(json!({"rbac": {"aggregateToDefaultRoles": false}}));
    assert!(
        !without
            .iter()
            .any(|o| o["metadata"]["name"] == "maniple-edit")
    );
}

#[test]
fn the_documentation_lists_the_rights() {
    let objects = render(json!({}));
    let mut table = String::from("\n| who | where | resource | verbs |\n|---|---|---|---|\n");
    for role in of_kind(&objects, &ROLES) {
        let Some(component) = role["metadata"]["labels"]["app.kubernetes.io/component"].as_str()
        else {
            continue;
        };
        let scope = if role["kind"] == "Role" {
            "own namespace"
        } else {
            "namespaces that are served"
        };
        for rule in rules(role) {
            for group in strings(&rule["apiGroups"]) {
                for resource in strings(&rule["resources"]) {
                    let resource = if group.is_empty() {
                        resource.to_owned()
                    } else {
                        format!("{resource}.{group}")
                    };
                    let objects = strings(&rule["resourceNames"]);
                    let limit = if objects.is_empty() {
                        String::new()
                    } else {
                        format!(", only `{}`", objects.join("`, `"))
                    };
                    writeln!(
                        table,
                        "| {component} | {scope} | `{resource}`{limit} | {} |",
                        strings(&rule["verbs"]).join(", ")
                    )
                    .expect("writing to a String does not fail");
                }
            }
        }
    }
    table.push('\n');
    assert_section("docs/security.md", "rights", &table);
}
