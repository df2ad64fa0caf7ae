//! The Deployment of a group.

use super::{Input, environment, metadata};
use crate::controller::function_app::validate::ValidGroup;
use k8s_openapi::api::apps::v1::{
    Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment,
};
use k8s_openapi::api::core::v1::{
    Capabilities, Container, ContainerPort, EmptyDirVolumeSource, HTTPGetAction,
    LocalObjectReference, PodSecurityContext, PodSpec, PodTemplateSpec, Probe,
    ResourceRequirements, SeccompProfile, SecurityContext, Sysctl, TCPSocketAction,
    TopologySpreadConstraint, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;
use kube::api::ObjectMeta;
use maniple_crds::function_app::{Host, ImagePullPolicy, SiteUpdateStrategyType, ZoneRedundancy};
use maniple_crds::names;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// Memory that the platform adds to every instance, in MB (Azure docs, "Flex Consumption plan", instance sizes).
const BUFFER_MB: i32 = 272;
/// User and group of the process, whatever the image names: restricted Pod Security demands one that is not root, and an
/// image may name its user by a word that Kubernetes cannot check. The number is the one of distroless images.
const NON_ROOT: i64 = 65532;
/// Temporary storage of an instance (Azure docs, "Flex Consumption plan": 0.8 GB).
const TEMPORARY_STORAGE: &str = "800Mi";
/// Annotation of the pods that changes when a referenced setting changes, so that they are replaced.
const SETTINGS_ANNOTATION: &str = "maniple.dev/settings-digest";
/// Annotation of the pods with the digest of their template, by which pods of two versions are told apart during a roll-out.
pub(in crate::controller::function_app) const TEMPLATE_ANNOTATION: &str = "maniple.dev/template";

/// The Deployment and the version of its pods.
pub(super) fn build(input: &Input<'_>, group: &ValidGroup) -> (Deployment, String) {
    let app = input.app.name_any();
    let mut meta = metadata(input, &group.name);
    meta.annotations
        .get_or_insert_default()
        .insert(names::DRIVER_ANNOTATION.into(), group.driver().into());
    let (template, version) = template(input, group);
    let deployment = Deployment {
        metadata: meta,
        spec: Some(DeploymentSpec {
            // `replicas` belongs to whoever scales the group.
            replicas: None,
            revision_history_limit: Some(3),
            selector: LabelSelector {
                match_labels: Some(names::selector(&app, &group.name)),
                ..Default::default()
            },
            strategy: Some(strategy(input)),
            template,
            ..Default::default()
        }),
        ..Default::default()
    };
    (deployment, version)
}

/// The pods and the digest of everything about them.
fn template(input: &Input<'_>, group: &ValidGroup) -> (PodTemplateSpec, String) {
    let labels = names::group_labels(&input.app.name_any(), &group.name);
    let mut annotations: BTreeMap<String, String> = [
        (names::GROUP_ANNOTATION.to_owned(), group.name.to_string()),
        (
            SETTINGS_ANNOTATION.to_owned(),
            input.valid.settings_digest.clone(),
        ),
    ]
    .into();
    let spec = pod(input, group);
    let text = serde_json::to_vec(&(&labels, &annotations, &spec))
        .expect("a pod template can be written as JSON");
    let digest = Sha256::digest(text);
    let version = digest[..8].iter().fold(String::new(), |mut hex, byte| {
        use std::fmt::Write;
        write!(hex, "{byte:02x}").expect("writing to a String does not fail");
        hex
    });
    annotations.insert(TEMPLATE_ANNOTATION.to_owned(), version.clone());
    let template = PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(labels),
            annotations: Some(annotations),
            ..Default::default()
        }),
        spec: Some(spec),
    };
    (template, version)
}

fn strategy(input: &Input<'_>) -> DeploymentStrategy {
    match input.app.spec.function_app_config.site_update_strategy.kind {
        SiteUpdateStrategyType::Recreate => DeploymentStrategy {
            type_: Some("Recreate".into()),
            ..Default::default()
        },
        SiteUpdateStrategyType::RollingUpdate => DeploymentStrategy {
            type_: Some("RollingUpdate".into()),
            rolling_update: Some(RollingUpdateDeployment {
                max_surge: Some(IntOrString::String("25%".into())),
                max_unavailable: Some(IntOrString::Int(0)),
            }),
        },
    }
}

fn pod(input: &Input<'_>, group: &ValidGroup) -> PodSpec {
    let spec = &input.app.spec;
    PodSpec {
        containers: vec![container(input, group)],
        termination_grace_period_seconds: Some(environment::grace_seconds(input, group)),
        service_account_name: spec.service_account_name.clone(),
        // An app that names no account has no business with the API server.
        automount_service_account_token: spec.service_account_name.is_none().then_some(false),
        enable_service_links: Some(false),
        runtime_class_name: spec.runtime_class_name.clone(),
        image_pull_secrets: (!spec.image_pull_secrets.is_empty()).then(|| {
            spec.image_pull_secrets
                .iter()
                .map(|s| LocalObjectReference {
                    name: s.name.clone(),
                })
                .collect()
        }),
        security_context: Some(PodSecurityContext {
            run_as_non_root: Some(true),
            run_as_user: Some(NON_ROOT),
            run_as_group: Some(NON_ROOT),
            fs_group: Some(NON_ROOT),
            seccomp_profile: Some(SeccompProfile {
                type_: "RuntimeDefault".into(),
                ..Default::default()
            }),
            // Lets the process listen on port 80, as the Azure images do; allowed by the restricted Pod Security level.
            sysctls: (spec.port < 1024).then(|| {
                vec![Sysctl {
                    name: "net.ipv4.ip_unprivileged_port_start".into(),
                    value: "0".into(),
                }]
            }),
            ..Default::default()
        }),
        topology_spread_constraints: (spec.zone_redundancy == ZoneRedundancy::Enabled)
            .then(|| vec![zone_spread(input, group)]),
        volumes: Some(vec![Volume {
            name: "tmp".into(),
            empty_dir: Some(EmptyDirVolumeSource {
                size_limit: Some(Quantity(TEMPORARY_STORAGE.into())),
                ..Default::default()
            }),
            ..Default::default()
        }]),
        ..Default::default()
    }
}

/// A hard constraint: the soft one ended at 500/250/250 for 1,000 pods over three zones.
fn zone_spread(input: &Input<'_>, group: &ValidGroup) -> TopologySpreadConstraint {
    TopologySpreadConstraint {
        max_skew: 1,
        topology_key: "topology.kubernetes.io/zone".into(),
        when_unsatisfiable: "DoNotSchedule".into(),
        label_selector: Some(LabelSelector {
            match_labels: Some(names::selector(&input.app.name_any(), &group.name)),
            ..Default::default()
        }),
        match_label_keys: Some(vec!["pod-template-hash".into()]),
        ..Default::default()
    }
}

fn container(input: &Input<'_>, group: &ValidGroup) -> Container {
    let spec = &input.app.spec;
    Container {
        name: names::CONTAINER.into(),
        image: Some(spec.image.clone()),
        image_pull_policy: Some(
            match spec.image_pull_policy {
                ImagePullPolicy::Always => "Always",
                ImagePullPolicy::IfNotPresent => "IfNotPresent",
                ImagePullPolicy::Never => "Never",
            }
            .into(),
        ),
        env: Some(environment::build(input, group)),
        ports: Some(vec![ContainerPort {
            name: Some("http".into()),
            container_port: spec.port,
            protocol: Some("TCP".into()),
            ..Default::default()
        }]),
        resources: Some(resources(input)),
        // The port opens only when the first start of the host is over; a slow app may take minutes.
        startup_probe: Some(Probe {
            period_seconds: Some(1),
            failure_threshold: Some(300),
            ..probe(input)
        }),
        readiness_probe: Some(Probe {
            period_seconds: Some(5),
            failure_threshold: Some(2),
            ..probe(input)
        }),
        liveness_probe: Some(Probe {
            period_seconds: Some(10),
            failure_threshold: Some(6),
            timeout_seconds: Some(5),
            ..probe(input)
        }),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            capabilities: Some(Capabilities {
                drop: Some(vec!["ALL".into()]),
                ..Default::default()
            }),
            ..Default::default()
        }),
        volume_mounts: Some(vec![VolumeMount {
            name: "tmp".into(),
            mount_path: "/tmp".into(),
            ..Default::default()
        }]),
        ..Default::default()
    }
}

/// The ping of the Functions host needs no credential and works in every state; a plain server is only asked for its port.
fn probe(input: &Input<'_>) -> Probe {
    let port = IntOrString::String("http".into());
    match input.app.spec.host {
        Host::AzureFunctions => Probe {
            http_get: Some(HTTPGetAction {
                path: Some("/admin/host/ping".into()),
                port,
                ..Default::default()
            }),
            timeout_seconds: Some(2),
            ..Default::default()
        },
        Host::Plain => Probe {
            tcp_socket: Some(TCPSocketAction {
                port,
                ..Default::default()
            }),
            timeout_seconds: Some(2),
            ..Default::default()
        },
    }
}

/// CPU and memory by instance size. The CPU limit is never left out: .NET counts it as the number of processors, and the
/// concurrency of queue and Service Bus triggers follows that number.
fn resources(input: &Input<'_>) -> ResourceRequirements {
    let config = &input.app.spec.function_app_config;
    let cpu = config.milli_cpu();
    let memory = config.scale_and_concurrency.instance_memory_mb + BUFFER_MB;
    let share = |of: i32| (of * i32::from(input.platform.request_percent) / 100).max(1);
    let quantities = |cpu: i32, memory: i32| -> BTreeMap<String, Quantity> {
        // Whole cores are written as the API server writes them, so that a comparison with the stored object holds.
        let cpu = if cpu % 1000 == 0 {
            (cpu / 1000).to_string()
        } else {
            format!("{cpu}m")
        };
        [
            ("cpu".to_owned(), Quantity(cpu)),
            ("memory".to_owned(), Quantity(format!("{memory}Mi"))),
        ]
        .into()
    };
    ResourceRequirements {
        limits: Some(quantities(cpu, memory)),
        requests: Some(quantities(share(cpu), share(memory))),
        ..Default::default()
    }
}
