//! The Secret with the generated keys of an app.

use super::Input;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use kube::api::ObjectMeta;
use maniple_crds::names;

pub(super) fn build(input: &Input<'_>) -> Secret {
    let app = input.app.name_any();
    Secret {
        metadata: ObjectMeta {
            name: Some(names::keys_secret(&app)),
            namespace: Some(input.namespace.clone()),
            labels: Some(names::app_labels(&app)),
            owner_references: Some(vec![input.owner.clone()]),
            ..Default::default()
        },
        type_: Some("Opaque".into()),
        data: Some(
            [(
                names::HOST_KEY.to_owned(),
                ByteString(input.references.host_key.clone().into_bytes()),
            )]
            .into(),
        ),
        ..Default::default()
    }
}
