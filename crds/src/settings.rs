//! Application settings that an app may not set, each with the reason. The same names are refused by the API server
//! (a CEL rule of `appSettings`); the operator checks again for clusters whose CRD is older than the operator.

/// A name or prefix that is refused.
struct Refused {
    /// Name in lower case, with `__` for `:`. A trailing `*` stands for any rest.
    name: &'static str,
    reason: &'static str,
}

const OPERATOR_SETS_IT: &str = "the operator sets it for every group";

/// Where each reason was seen: the environment matrix of the host (docs/function-app.md, refused settings).
const REFUSED: &[Refused] = &[
    Refused {
        name: "pod_namespace",
        reason: "inside a pod it makes the host take its locks from a leader service that does not exist",
    },
    Refused {
        name: "website_instance_id",
        reason: "it opens the admin API of the host to every pod and hides the app from the host",
    },
    Refused {
        name: "container_name",
        reason: "it puts the host into another mode",
    },
    Refused {
        name: "functions_admin_isolation_enabled",
        reason: "it locks the operator out of the admin API",
    },
    Refused {
        name: "website_sku",
        reason: "it puts the host into another mode, which costs half of its throughput",
    },
    Refused {
        name: "functions_target_group",
        reason: "groups are chosen by the operator",
    },
    Refused {
        name: "managed_environment",
        reason: "it puts the host into another mode",
    },
    Refused {
        name: "website_placeholder_mode",
        reason: "the host would wait for an assignment that never comes",
    },
    Refused {
        name: "legion_service_host",
        reason: "it puts the host into another mode",
    },
    Refused {
        name: "website_auth_encryption_key",
        reason: "with it the host sends its keys to a trigger service",
    },
    Refused {
        name: "website_site_name",
        reason: OPERATOR_SETS_IT,
    },
    Refused {
        name: "container_encryption_key",
        reason: OPERATOR_SETS_IT,
    },
    Refused {
        name: "azurefunctionswebhost__hostid",
        reason: OPERATOR_SETS_IT,
    },
    Refused {
        name: "aspnetcore_shutdowntimeoutseconds",
        reason: OPERATOR_SETS_IT,
    },
    Refused {
        name: "azurefunctionsjobhost__functions__*",
        reason: "the operator lists the functions of each group there",
    },
];

/// Why an application setting with this name is refused; `None` when it is allowed.
pub fn refusal(name: &str) -> Option<&'static str> {
    let name = name.to_ascii_lowercase().replace(':', "__");
    REFUSED
        .iter()
        .find(|r| match r.name.strip_suffix('*') {
            Some(prefix) => name.starts_with(prefix),
            None => name == r.name,
        })
        .map(|r| r.reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_in_any_case_and_both_spellings_of_a_separator() {
        for name in [
            "POD_NAMESPACE",
            "pod_namespace",
            "AzureFunctionsWebHost:hostid",
            "AzureFunctionsJobHost__functions__0",
        ] {
            assert!(refusal(name).is_some(), "{name}");
        }
        for name in [
            "AzureWebJobsStorage",
            "AzureFunctionsJobHost__extensions__queues__batchSize",
            "POD_NAMESPACES",
        ] {
            assert!(refusal(name).is_none(), "{name}");
        }
    }

    #[test]
    fn the_rule_of_the_api_server_names_every_refused_setting() {
        let crd = serde_json::to_string(&<crate::FunctionApp as kube::CustomResourceExt>::crd())
            .unwrap()
            .to_lowercase();
        for refused in REFUSED {
            let name = refused
                .name
                .trim_end_matches("__*")
                .split("__")
                .collect::<Vec<_>>()
                .join("(__|:)");
            assert!(
                crd.contains(&name),
                "{} is missing in the CEL rule of appSettings",
                refused.name
            );
        }
    }
}
