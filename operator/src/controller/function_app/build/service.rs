//! The Service of the group `http`. It selects only instances of that group: an instance of another group would answer the
//! same routes with 404.

use super::{Input, metadata};
use crate::controller::function_app::validate::ValidGroup;
use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;
use maniple_crds::function_app::AppProtocol;
use maniple_crds::names;

pub(super) fn build(input: &Input<'_>, group: &ValidGroup) -> Service {
    Service {
        metadata: metadata(input, &group.name),
        spec: Some(ServiceSpec {
            type_: Some("ClusterIP".into()),
            selector: Some(names::selector(&input.app.name_any(), &group.name)),
            ports: Some(vec![ServicePort {
                name: Some("http".into()),
                port: 80,
                protocol: Some("TCP".into()),
                app_protocol: match input.app.spec.http.app_protocol {
                    AppProtocol::Http1 => None,
                    AppProtocol::H2c => Some("kubernetes.io/h2c".into()),
                },
                target_port: Some(IntOrString::String("http".into())),
                ..Default::default()
            }]),
            ..Default::default()
        }),
        ..Default::default()
    }
}
