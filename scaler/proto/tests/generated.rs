//! The committed code is what the `.proto` files say.

#![allow(clippy::unwrap_used, reason = "a test; a failure here is its result")]

use std::{fs, path::Path};

use prost::Message;

const FILES: [&str; 3] = [
    "externalscaler/externalscaler.proto",
    "maniple/scaler/v1/mirror.proto",
    "maniple/scaler/v1/slots.proto",
];
const GENERATED: [&str; 3] = [
    "externalscaler.rs",
    "maniple.scaler.v1.rs",
    "descriptors.bin",
];

fn generate(proto: &Path, out: &Path) {
    let mut compiler = protox::Compiler::new([proto]).unwrap();
    compiler.open_files(FILES).unwrap();
    let descriptors = compiler
        .include_source_info(false)
        .encode_file_descriptor_set();
    fs::write(out.join("descriptors.bin"), descriptors).unwrap();

    // Once more with the comments, which become the documentation.
    let mut compiler = protox::Compiler::new([proto]).unwrap();
    compiler.open_files(FILES).unwrap();
    tonic_prost_build::configure()
        .emit_rerun_if_changed(false)
        .out_dir(out)
        .compile_fds(compiler.include_source_info(true).file_descriptor_set())
        .unwrap();
}

#[test]
fn committed_code_is_up_to_date() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let committed = root.join("src/gen");
    let fresh = tempfile::tempdir().unwrap();
    generate(&root.join("proto"), fresh.path());

    let mut names: Vec<_> = fs::read_dir(fresh.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    let mut expected = GENERATED.map(str::to_owned);
    expected.sort();
    assert_eq!(names, expected);

    for name in GENERATED {
        let new = fs::read(fresh.path().join(name)).unwrap();
        if std::env::var_os("MANIPLE_REGENERATE").is_some() {
            fs::write(committed.join(name), new).unwrap();
        } else {
            assert!(
                fs::read(committed.join(name)).unwrap() == new,
                "src/gen/{name} is stale: run MANIPLE_REGENERATE=1 cargo test -p maniple-proto"
            );
        }
    }
}

#[test]
fn descriptors_name_all_services() {
    let set = prost_types::FileDescriptorSet::decode(maniple_proto::FILE_DESCRIPTOR_SET).unwrap();
    let services: Vec<String> = set
        .file
        .iter()
        .flat_map(|file| {
            file.service
                .iter()
                .map(|service| format!("{}.{}", file.package(), service.name()))
        })
        .collect();
    assert_eq!(
        services,
        [
            "externalscaler.ExternalScaler",
            "maniple.scaler.v1.Mirror",
            "maniple.scaler.v1.Slots"
        ]
    );
}

/// KEDA's field numbers, which are the protocol.
#[test]
fn external_scaler_has_kedas_fields() {
    let set = prost_types::FileDescriptorSet::decode(maniple_proto::FILE_DESCRIPTOR_SET).unwrap();
    let file = set
        .file
        .iter()
        .find(|file| file.package() == "externalscaler")
        .unwrap();
    let fields = |message: &str| -> Vec<(String, i32)> {
        let message = file
            .message_type
            .iter()
            .find(|m| m.name() == message)
            .unwrap();
        message
            .field
            .iter()
            .map(|field| (field.name().to_owned(), field.number()))
            .collect()
    };
    let owned = |list: &[(&str, i32)]| -> Vec<(String, i32)> {
        list.iter()
            .map(|(name, number)| ((*name).to_owned(), *number))
            .collect()
    };
    assert_eq!(
        fields("MetricSpec"),
        owned(&[("metricName", 1), ("targetSize", 2), ("targetSizeFloat", 3)])
    );
    assert_eq!(
        fields("MetricValue"),
        owned(&[
            ("metricName", 1),
            ("metricValue", 2),
            ("metricValueFloat", 3)
        ])
    );
    assert_eq!(
        fields("ScaledObjectRef"),
        owned(&[("name", 1), ("namespace", 2), ("scalerMetadata", 3)])
    );
    assert_eq!(file.service[0].method.len(), 5);
}
