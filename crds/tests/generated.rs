//! The committed manifest is what the types generate, and it stays small.

use kube::CustomResourceExt;
use maniple_crds::FunctionApp;

#[test]
fn the_committed_manifest_is_current() {
    let committed = include_str!("../generated/maniple.dev_functionapps.yaml");
    let committed: serde_json::Value = serde_saphyr::from_str(committed).unwrap();
    let current = serde_json::to_value(FunctionApp::crd()).unwrap();
    assert_eq!(
        committed, current,
        "run `make generate` and commit the result"
    );
}

#[test]
fn the_manifest_is_far_below_the_annotation_limit() {
    // `kubectl apply` on the client side stores the object in an annotation of at most 262,144 bytes.
    let size = serde_json::to_vec(&FunctionApp::crd()).unwrap().len();
    assert!(size < 64 * 1024, "the CRD has grown to {size} bytes");
}
